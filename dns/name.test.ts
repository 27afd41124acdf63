import fc from 'fast-check';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { keyOf, labelsOf, nameKey, nameText, parentOf, reversedAddress, reverseKey } from './name.ts';

t.test('names as people write them', (t) => {
  t.equal(nameKey('Web.Demo'), '\x03web\x04demo');
  t.equal(nameKey('web.demo.'), '\x03web\x04demo');
  t.equal(nameKey('köln'), '\x05k\xc3\xb6ln', 'UTF-8 as it is');
  for (const text of ['', '.', 'a..b', '.a', 'a b', 'a,b', 'a\nb', 'a\\b', '"a"', 'x'.repeat(64)]) {
    t.equal(nameKey(text), undefined, JSON.stringify(text.slice(0, 10)));
  }
  t.ok(nameKey('x'.repeat(63)));
  const longest = `${'x'.repeat(63)}.${'x'.repeat(63)}.${'x'.repeat(63)}.${'x'.repeat(61)}`;
  t.ok(nameKey(longest), '255 bytes on the wire');
  t.equal(nameKey(`${longest}x`), undefined);
  t.throws(() => keyOf('a b'), /"a b" is not a domain name/);
  t.end();
});

t.test('names as they are shown', (t) => {
  t.equal(nameText('\x03web\x04demo'), 'web.demo');
  t.equal(nameText(''), '.');
  t.equal(nameText('\x03a.b'), 'a\\.b', 'a dot inside a label (RFC 1035 section 5.1)');
  t.equal(nameText('\x03a\0\xff'), 'a\\000\\255');
  t.end();
});

t.test('labels and parents', (t) => {
  t.same(labelsOf('\x03web\x04demo'), ['web', 'demo']);
  t.equal(parentOf('\x03web\x04demo'), '\x04demo');
  t.equal(parentOf('\x04demo'), '');
  t.equal(parentOf(''), '');
  t.end();
});

t.test('reverse names', (t) => {
  t.equal(nameText(reverseKey(ip('10.88.0.5'))), '5.0.88.10.in-addr.arpa');
  t.equal(
    nameText(reverseKey(ip('fd00:88::5'))),
    // Oracle: dig -x fd00:88::5
    '5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.8.0.0.0.0.d.f.ip6.arpa',
  );
  for (const name of [
    '0.88.10.in-addr.arpa',
    '256.0.88.10.in-addr.arpa',
    '05.0.88.10.in-addr.arpa',
    'a.0.88.10.in-addr.arpa',
    '1.5.0.88.10.in-addr.arpa',
    'in-addr.arpa',
    'xin-addr.arpa',
    '5.d.f.ip6.arpa',
  ]) {
    t.equal(reversedAddress(keyOf(name)), undefined, name);
  }
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const address = ip(text);
      return reversedAddress(reverseKey(address)) === address;
    }),
  );
  t.end();
});

t.test('what is shown of an ordinary name is read back', (t) => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 6 }), (labels) => {
      const text = labels.join('.');
      return nameText(keyOf(text.toUpperCase())) === text;
    }),
  );
  t.end();
});
