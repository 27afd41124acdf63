/** Holds docs/operations.md to the command and the API that it describes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { standaloneDouble } from '../tests/standalone-double.ts';

const text = readFileSync(join(import.meta.dirname, 'operations.md'), 'utf8');

t.test('every path of the table is served, and none is missing from it', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const rows = [...text.matchAll(/^\| `(GET|POST|DELETE) (\/v1\/[^`[]+)(?:\[[^\]]*\])?` \|/gm)];
  t.ok(rows.length > 10);
  for (const [, method = '', path = ''] of rows) {
    const answer = await double.raw(method, path.replace('REF', 'nope'), '{}');
    t.notMatch(answer.text, /There is no [A-Z]+ /, `${method} ${path}: ${answer.text}`);
  }
  const source = ['admin-api', 'ipam-routes', 'overlay', 'published', 'dns']
    .map((name) => readFileSync(join(import.meta.dirname, `../inspect/${name}.ts`), 'utf8'))
    .join('\n');
  const routes = [...source.matchAll(/\.(get|post|delete)\('/g)].length;
  // The dry run is a query of a route that the table has already.
  t.equal(rows.length - 1, routes);
});

t.test('every command and flag that the page names is in the help', (t) => {
  const sources = [
    'network',
    'endpoint',
    'sandbox',
    'port',
    'firewall',
    'ipam',
    'overlay',
    'dns',
    'doctor',
    'terminal',
  ]
    .map((name) => readFileSync(join(import.meta.dirname, `../inspect/cli/${name}.ts`), 'utf8'))
    .join('\n');
  const section = text.slice(text.indexOf('## The command'), text.indexOf('### Two sandboxes'));
  const flags = new Set([...section.matchAll(/(?<=[\s`[])--[a-z][a-z0-9-]+/g)].map(([flag]) => flag));
  t.ok(flags.size > 10);
  for (const flag of flags) t.match(sources, `${flag} `.trimEnd(), flag);
  t.end();
});
