import t from 'tap';
import { CnmError } from '../cnm/errors.ts';
import { checkName, resolveRef, title } from './refs.ts';

const A = { id: 'a'.repeat(64), name: 'front' };
const B = { id: `ab${'0'.repeat(62)}`, name: 'back' };
const NAMED_LIKE_A = { id: 'c'.repeat(64), name: 'a'.repeat(64) };
const NAMED_AB = { id: 'd'.repeat(64), name: 'ab' };
const NAMELESS = { id: 'e'.repeat(64) };
const ALL = [NAMED_LIKE_A, A, B, NAMED_AB, NAMELESS];

t.test('a reference is a full id, else a name, else the beginning of an id', (t) => {
  t.equal(resolveRef('network', A.id, ALL), A, 'the full id wins over a name of the same text');
  t.equal(resolveRef('network', 'ab', ALL), NAMED_AB, 'a name wins over an id that begins so');
  t.equal(resolveRef('network', 'back', ALL), B);
  t.equal(resolveRef('network', 'ab0', ALL), B);
  t.equal(resolveRef('network', 'e', ALL), NAMELESS, 'one digit is enough when it is unique');
  t.end();
});

t.test('what means nothing or too much is an error that says so', (t) => {
  const unknown = {
    name: 'CnmError',
    code: 'sandbox-unknown',
    message: 'No sandbox has the id or name "nope"',
  };
  t.throws(() => resolveRef('sandbox', 'nope', ALL), unknown);
  t.throws(
    () => resolveRef('sandbox', '', ALL),
    { code: 'sandbox-unknown' },
    'the empty text is no prefix of everything',
  );
  t.throws(() => resolveRef('sandbox', 'a', ALL), {
    code: 'request-invalid',
    message: `"a" means 2 sandboxes: back (${B.id.slice(0, 12)}), front (${A.id.slice(0, 12)}); give more of the id`,
  });
  const twins = [A, { ...B, name: 'front' }];
  t.throws(
    () => resolveRef('network', 'front', twins),
    /means 2 networks/,
    'Docker lets two networks share a name',
  );
  t.end();
});

t.test("names keep to Docker's rule", (t) => {
  for (const good of ['a', '0', 'web-1', 'Br.net_1', 'x'.repeat(200)]) {
    t.doesNotThrow(() => {
      checkName('network', good);
    }, good);
  }
  for (const bad of ['', '-a', '.a', '_a', 'a b', 'a/b', '../a', 'x;touch /tmp/p', 'é', 'a\n']) {
    t.throws(
      () => {
        checkName('network', bad);
      },
      CnmError,
      JSON.stringify(bad),
    );
  }
  t.end();
});

t.test('a title is short', (t) => {
  t.equal(title(A), 'front (aaaaaaaaaaaa)');
  t.equal(title(NAMELESS), 'eeeeeeeeeeee');
  t.end();
});
