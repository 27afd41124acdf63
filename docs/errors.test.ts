/** Holds docs/errors.md and the registry of errors equal, both ways. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ERROR_CODES } from '../cnm/errors.ts';

const text = readFileSync(join(import.meta.dirname, 'errors.md'), 'utf8');
const sections = text
  .split(/^### /m)
  .slice(1)
  .map((section) => {
    const [code = '', ...body] = section.split('\n');
    return { code, body: body.join('\n') };
  });

t.test('every code is explained once, and nothing else is', (t) => {
  t.strictSame(sections.map(({ code }) => code).sort(), Object.keys(ERROR_CODES).sort());
  t.end();
});

t.test('every explanation has the status, an example and what to do', (t) => {
  for (const { code, body } of sections) {
    const status = /^Status (\d{3})\. \S/m.exec(body)?.[1];
    t.equal(
      Number(status),
      new Map<string, number>(Object.entries(ERROR_CODES)).get(code),
      `${code}: its status`,
    );
    t.match(body, /^> `[^`]{10,}`$/m, `${code}: an example message`);
    t.match(body, /^\*\*What to do:\*\* \S/m, `${code}: what to do`);
  }
  t.end();
});
