import fc from 'fast-check';
import t from 'tap';
import { familyOf, ip, ipFromValue, ipValue } from './ip.ts';
import {
  addressOf,
  broadcastOf,
  contains,
  covers,
  familyOfPrefix,
  firstOf,
  hasHostBits,
  isMulticast,
  lastOf,
  lengthOf,
  networkOf,
  overlaps,
  parsePrefix,
  prefix,
  prefixOf,
  sizeOf,
} from './prefix.ts';

/** Few distinct high bits, so that two prefixes often meet. */
const v4Ip = fc
  .tuple(fc.constantFrom(0n, 10n << 24n, 255n << 24n), fc.bigInt({ min: 0n, max: 2n ** 24n - 1n }))
  .map(([high, low]) => ipFromValue(4, high | low));
const v6Ip = fc
  .tuple(fc.constantFrom(0n, 0xfdn << 120n, 0xffn << 120n), fc.bigInt({ min: 0n, max: 2n ** 120n - 1n }))
  .map(([high, low]) => ipFromValue(6, high | low));
const anyIp = fc.oneof(v4Ip, v6Ip);
const anyPrefix = fc.oneof(
  fc.tuple(v4Ip, fc.integer({ min: 0, max: 32 })).map(([address, length]) => prefixOf(address, length)),
  fc.tuple(v6Ip, fc.integer({ min: 0, max: 128 })).map(([address, length]) => prefixOf(address, length)),
);

t.test('texts', (t) => {
  t.equal(parsePrefix('10.0.0.1/8'), '10.0.0.1/8');
  t.equal(parsePrefix('0.0.0.0/0'), '0.0.0.0/0');
  t.equal(parsePrefix('2001:DB8:0::/032'), undefined);
  t.equal(parsePrefix('2001:DB8:0::/32'), '2001:db8::/32');
  t.equal(parsePrefix('::ffff:10.0.0.0/104'), '::ffff:10.0.0.0/104');
  const lengths = [
    '33',
    '-1',
    '+1',
    '',
    ' 8',
    '8 ',
    '033',
    '00',
    '8.0',
    '255.0.0.0',
    'AB',
    '1e1',
    '8/8',
    '٨',
  ];
  const texts = [
    ...lengths.map((length) => `10.0.0.0/${length}`),
    '::/129',
    '::/1000',
    '10.0.0.0',
    '/24',
    '',
    'fe80::1%eth0/64',
  ];
  for (const text of texts) {
    t.equal(parsePrefix(text), undefined, JSON.stringify(text));
    t.throws(() => prefix(text), { name: 'RangeError', message: JSON.stringify(text) });
  }
  for (const length of [33, -1, 1.5, NaN]) t.throws(() => prefixOf(ip('10.0.0.0'), length), RangeError);
  t.end();
});

t.test('bounds at the edges of both families', (t) => {
  const rows = [
    ['10.1.2.3/8', '10.0.0.0', '10.255.255.255', 2n ** 24n],
    ['192.0.2.7/31', '192.0.2.6', '192.0.2.7', 2n],
    ['192.0.2.7/32', '192.0.2.7', '192.0.2.7', 1n],
    ['200.0.0.1/0', '0.0.0.0', '255.255.255.255', 2n ** 32n],
    ['200.0.0.1/1', '128.0.0.0', '255.255.255.255', 2n ** 31n],
    ['2001:db8::5/64', '2001:db8::', '2001:db8::ffff:ffff:ffff:ffff', 2n ** 64n],
    ['2001:db8::5/127', '2001:db8::4', '2001:db8::5', 2n],
    ['::/0', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 2n ** 128n],
  ] as const;
  for (const [text, first, last, size] of rows) {
    t.same([firstOf(prefix(text)), lastOf(prefix(text)), sizeOf(prefix(text))], [first, last, size], text);
  }
  t.equal(broadcastOf(prefix('10.1.2.3/24')), '10.1.2.255');
  t.equal(broadcastOf(prefix('10.1.2.3/30')), '10.1.2.3');
  for (const text of ['10.1.2.3/31', '10.1.2.3/32', '::/64'])
    t.equal(broadcastOf(prefix(text)), undefined, text);
  t.equal(networkOf(prefix('10.1.2.3/24')), '10.1.2.0/24');
  t.equal(hasHostBits(prefix('10.1.2.3/24')), true);
  t.equal(hasHostBits(prefix('10.1.2.0/24')), false);
  t.equal(hasHostBits(prefix('fd00::/8')), false);
  t.end();
});

t.test('multicast', (t) => {
  for (const text of ['224.0.0.0', '239.255.255.255', 'ff02::1']) t.equal(isMulticast(ip(text)), true, text);
  for (const text of ['223.255.255.255', '240.0.0.0', 'fe80::1', '::'])
    t.equal(isMulticast(ip(text)), false, text);
  t.equal(isMulticast(prefix('230.0.0.0/24')), true);
  t.equal(isMulticast(prefix('192.0.0.0/2')), false, 'only a part of it is multicast');
  t.end();
});

t.test('arithmetic against the plain definition by bounds', (t) => {
  const low = (p: ReturnType<typeof prefix>) => ipValue(firstOf(p));
  const high = (p: ReturnType<typeof prefix>) => ipValue(lastOf(p));
  fc.assert(
    fc.property(anyPrefix, anyPrefix, anyIp, (a, b, address) => {
      const same = familyOfPrefix(a) === familyOfPrefix(b);
      const value = ipValue(address);
      const inside = familyOf(address) === familyOfPrefix(a) && low(a) <= value && value <= high(a);
      return (
        contains(a, address) === inside &&
        covers(a, b) === (same && low(a) <= low(b) && high(b) <= high(a)) &&
        overlaps(a, b) === (same && low(a) <= high(b) && low(b) <= high(a)) &&
        sizeOf(a) === high(a) - low(a) + 1n &&
        contains(a, addressOf(a)) &&
        hasHostBits(a) === (networkOf(a) !== a) &&
        networkOf(networkOf(a)) === networkOf(a) &&
        prefixOf(addressOf(a), lengthOf(a)) === a &&
        parsePrefix(a) === a
      );
    }),
    { numRuns: 2000 },
  );
  t.end();
});
