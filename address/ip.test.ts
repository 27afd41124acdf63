import { isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { compareIp, familyOf, ip, ipBytes, ipFromBytes, ipFromValue, ipValue, parseIp } from './ip.ts';

const v4 = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n });
/** Groups are often zero, so that '::' has something to stand for. */
const groups = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), {
  minLength: 8,
  maxLength: 8,
});
const v6 = groups.map((list) => list.reduce((value, group) => (value << 16n) | BigInt(group), 0n));
const anyIp = fc.oneof(
  v4.map((value) => ipFromValue(4, value)),
  v6.map((value) => ipFromValue(6, value)),
);

t.test('texts and their canonical form', (t) => {
  const rows: readonly (readonly [text: string, canonical: string])[] = [
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['192.0.2.1', '192.0.2.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], // RFC 5952 §4.2.3: the first of equal runs
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'], // RFC 5952 §4.2.2: one zero group is not shortened
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'], // the longest run
    ['ff02::1:ff00:1234', 'ff02::1:ff00:1234'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['::FFFF:c000:201', '::ffff:192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['0000:0000:0000:0000:0000:ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['0000:0000:0000:0000:0000:ffff:255.255.255.255', '::ffff:255.255.255.255'],
    ['::192.0.2.1', '::c000:201'], // IPv4-compatible addresses are deprecated (RFC 4291 §2.5.5.1)
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:192.0.2.1', '1:2:3:4:5:6:c000:201'],
  ];
  for (const [text, canonical] of rows) t.equal(parseIp(text), canonical, text);
  t.end();
});

t.test('texts that are no address', (t) => {
  const v4Texts = ['', '1', '1.2.3', '1.2.3.4.5', '1.2.3.', '.1.2.3', '1..2.3', '256.0.0.1', '1.2.3.1000'];
  const v4Forms = [
    '01.2.3.4',
    '1.2.3.04',
    '00.0.0.0',
    ' 1.2.3.4',
    '1.2.3.4 ',
    '1.2.3.4\n',
    '0x1.2.3.4',
    '1.2.3.4/24',
  ];
  const v4More = ['+1.2.3.4', '-1.2.3.4', '1,2,3,4', '1.2.3.٤', '16909060', '1.2.3.4\0', '1e1.2.3.4'];
  const v6Texts = [':', ':::', ':1', '1:', '1:::2', '1::2::3', '::1::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9'];
  const v6More = [
    '1:2:3:4::5:6:7:8',
    '::12345',
    'g::',
    '::1 ',
    ' ::1',
    '[::1]',
    'fe80::1%eth0',
    'fe80::1%',
    '::1/128',
  ];
  const dotted = [
    '1.2.3.4::',
    '::1.2.3',
    '::1.2.3.04',
    '::1.2.3.256',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::1.2.3.4:5',
    '::ffff:1.2.3.4.',
  ];
  for (const text of [...v4Texts, ...v4Forms, ...v4More, ...v6Texts, ...v6More, ...dotted]) {
    t.equal(parseIp(text), undefined, JSON.stringify(text));
    t.throws(() => ip(text), { name: 'RangeError', message: JSON.stringify(text) });
  }
  t.end();
});

t.test('agrees with node:net about what an address is', (t) => {
  const character = fc.constantFrom(...Array.from('0123456789abcdfF.:'));
  const noise = fc.string({ unit: character, maxLength: 20 });
  const mutated = fc
    .tuple(anyIp, fc.nat(40), fc.string({ unit: character, maxLength: 2 }))
    .map(([address, at, text]) => address.slice(0, at) + text + address.slice(at + 1));
  fc.assert(
    fc.property(fc.oneof(noise, mutated), (text) => {
      const parsed = parseIp(text);
      return (parsed === undefined ? 0 : familyOf(parsed)) === isIP(text);
    }),
    { numRuns: 3000 },
  );
  t.end();
});

t.test('text, number and bytes round trip', (t) => {
  fc.assert(
    fc.property(anyIp, (address) => {
      const again = [
        parseIp(address),
        ipFromValue(familyOf(address), ipValue(address)),
        ipFromBytes(ipBytes(address)),
        parseIp(address.toUpperCase()),
      ];
      return again.every((other) => other === address);
    }),
  );
  // URL's serializer is RFC 5952 but for mapped addresses, which it writes in hex (WHATWG URL §3.5).
  fc.assert(
    fc.property(v6, (value) => {
      fc.pre(value >> 32n !== 0xffffn);
      const text = value
        .toString(16)
        .padStart(32, '0')
        .replace(/(.{4})(?=.)/g, '$1:');
      return (
        new URL(`http://[${text}]/`).hostname === `[${ipFromValue(6, value)}]` &&
        parseIp(text) === ipFromValue(6, value)
      );
    }),
  );
  t.end();
});

t.test('values and order', (t) => {
  t.equal(ipValue(ip('255.255.255.255')), 2n ** 32n - 1n);
  t.equal(ipValue(ip('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')), 2n ** 128n - 1n);
  t.equal(ipFromValue(6, 2n ** 64n + 1n), '::1:0:0:0:1');
  t.same(ipBytes(ip('1.2.3.4')), Uint8Array.of(1, 2, 3, 4));
  t.throws(() => ipFromValue(4, 2n ** 32n), RangeError);
  t.throws(() => ipFromValue(6, 2n ** 128n), RangeError);
  t.throws(() => ipFromValue(6, -1n), RangeError);
  t.throws(() => ipFromBytes(new Uint8Array(5)), RangeError);
  const sorted = ['9.0.0.0', '10.0.0.0', '200.0.0.1', '::', '::2', '::10', 'f::'].map(ip);
  t.same([...sorted].reverse().sort(compareIp), sorted);
  t.equal(compareIp(ip('::1'), ip('0:0::1')), 0);
  t.end();
});
