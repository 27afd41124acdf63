import t from 'tap';
import { ip, ipValue } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { dynamicBounds, unusable } from './policy.ts';

t.test('V11: addresses that nobody may have', (t) => {
  const rows: readonly (readonly [pool: string, address: string, reason: RegExp | undefined])[] = [
    ['10.0.0.0/24', '10.0.0.0', /^the network address of 10\.0\.0\.0\/24$/],
    ['10.0.0.0/24', '10.0.0.255', /^the broadcast address/],
    ['10.0.0.0/24', '10.0.0.1', undefined],
    ['10.0.0.0/24', '10.0.1.0', /^not in 10\.0\.0\.0\/24$/],
    ['10.0.0.0/24', 'fd00::1', /^not in/],
    ['10.0.0.0/16', '10.0.0.255', undefined],
    ['10.0.0.4/30', '10.0.0.4', /network/],
    ['10.0.0.4/30', '10.0.0.7', /broadcast/],
    ['10.0.0.4/31', '10.0.0.4', undefined],
    ['10.0.0.4/31', '10.0.0.5', undefined],
    ['10.0.0.4/32', '10.0.0.4', undefined],
    ['fd00::/64', 'fd00::', /anycast/],
    ['fd00::/64', 'fd00::ffff:ffff:ffff:ffff', undefined],
    ['fd00::4/126', 'fd00::4', /anycast/],
    ['fd00::4/127', 'fd00::4', undefined],
    ['fd00::4/128', 'fd00::4', undefined],
  ];
  for (const [pool, address, reason] of rows) {
    const found = unusable(prefix(pool), ip(address));
    if (reason === undefined) t.equal(found, undefined, `${address} of ${pool}`);
    else t.match(found, reason, `${address} of ${pool}`);
  }
  t.end();
});

t.test('what is chosen from, as offsets', (t) => {
  type Part = readonly [first: bigint, last: bigint];
  const rows: readonly (readonly [pool: string, range: string | undefined, ...parts: Part[]])[] = [
    ['10.0.0.0/24', undefined, [1n, 254n]],
    ['10.0.0.0/16', '10.0.1.0/24', [256n, 511n]],
    ['10.0.0.0/24', '10.0.0.0/25', [1n, 127n]],
    ['10.0.0.0/24', '10.0.0.128/25', [128n, 254n]],
    ['10.0.0.0/31', undefined, [0n, 1n]],
    ['10.0.0.0/32', undefined, [0n, 0n]],
    ['10.0.0.0/24', '10.0.0.0/32'],
    ['fd00::/64', undefined, [1n, 2n ** 64n - 1n]],
    ['fd00::/127', undefined, [0n, 1n]],
    ['::/1', '4000::/2', [2n ** 126n, 2n ** 127n - 1n]],
  ];
  for (const [pool, range, ...parts] of rows) {
    const bounds = dynamicBounds(prefix(pool), range === undefined ? undefined : prefix(range));
    const wanted = parts.map(([first, last]) => ({ first, last }));
    t.same(bounds, wanted, `${range ?? 'all'} of ${pool}`);
  }
  t.end();
});

t.test('what is reserved is cut out', (t) => {
  const base = ipValue(ip('10.0.0.0'));
  const of = (...cuts: readonly (readonly [bigint, bigint])[]) => {
    const reserved = cuts.map(([first, last]) => ({ first: base + first, last: base + last }));
    return dynamicBounds(prefix('10.0.0.0/24'), prefix('10.0.0.0/25'), reserved).map((one) => [
      one.first,
      one.last,
    ]);
  };
  t.same(of([10n, 19n]), [
    [1n, 9n],
    [20n, 127n],
  ]);
  t.same(of([0n, 9n], [120n, 200n]), [[10n, 119n]]);
  t.same(of([10n, 19n], [15n, 30n], [64n, 64n]), [
    [1n, 9n],
    [31n, 63n],
    [65n, 127n],
  ]);
  t.same(of([0n, 255n]), []);
  t.same(of([200n, 255n]), [[1n, 127n]], 'outside of the range');
  t.end();
});
