import t from 'tap';
import { ipValue } from '../address/ip.ts';
import { firstOf, lastOf, prefix } from '../address/prefix.ts';
import { LOCAL_POOLS, checkDefaultPools, freeSubnet, intervalsOf, randomUla } from './default-pools.ts';
import { Intervals } from './intervals.ts';

const pools = (...texts: readonly (readonly [string, number])[]) =>
  texts.map(([base, size]) => ({ base: prefix(base), size }));

t.test('the lowest subnet clear of all that is to be avoided', (t) => {
  const bases = pools(['10.0.0.0/22', 24], ['10.9.0.0/24', 26]);
  const rows: readonly (readonly [avoid: readonly string[], found: string | undefined])[] = [
    [[], '10.0.0.0/24'],
    [['10.0.0.0/24'], '10.0.1.0/24'],
    [['10.0.0.255/32', '10.0.1.0/30'], '10.0.2.0/24'],
    [['10.0.0.0/23', '10.0.2.128/25'], '10.0.3.0/24'],
    [['10.0.0.0/22'], '10.9.0.0/26'],
    [['10.0.0.0/8'], undefined],
    [['0.0.0.0/0', '0.0.0.0/1', '128.0.0.0/1', '::/0', 'a00::/8'], '10.0.0.0/24'],
    [['10.0.0.0/22', '10.9.0.0/25', '10.9.0.191/32'], '10.9.0.192/26'],
    [['10.0.0.77/24', '10.0.0.0/25'], '10.0.1.0/24'],
  ];
  for (const [avoid, found] of rows) {
    t.equal(freeSubnet(bases, [intervalsOf(avoid.map(prefix), 4)]), found, avoid.join(' '));
    const each = avoid.map((text) => intervalsOf([prefix(text)], 4));
    t.equal(freeSubnet(bases, [...each].reverse()), found, `${avoid.join(' ')}, apart`);
  }
  t.equal(freeSubnet(bases, [], 23), '10.0.0.0/23');
  t.equal(
    freeSubnet(bases, [intervalsOf([prefix('10.0.0.0/22')], 4)], 23),
    undefined,
    'larger than the base that is left',
  );
  t.equal(
    freeSubnet(pools(['fd00:1::/48', 64]), [intervalsOf([prefix('fd00:1::/63')], 6)]),
    'fd00:1:0:2::/64',
  );
  t.end();
});

t.test('all of the default pools, once each, to the last', (t) => {
  const used = new Intervals();
  const found = new Set<string>();
  for (;;) {
    const subnet = freeSubnet(LOCAL_POOLS, [used]);
    if (subnet === undefined) break;
    found.add(subnet);
    used.add(ipValue(firstOf(subnet)), ipValue(lastOf(subnet)));
  }
  t.equal(found.size, 256 * (3 + 3 * 4 + 1));
  t.end();
});

t.test('pools that nothing can be cut out of', (t) => {
  t.throws(
    () => {
      checkDefaultPools(pools(['10.0.0.0/16', 8]));
    },
    { name: 'RangeError', message: /10\.0\.0\.0\/16.*at least 16/ },
  );
  t.throws(() => {
    checkDefaultPools(pools(['10.0.0.0/16', 33]));
  }, RangeError);
  checkDefaultPools(pools(['10.0.0.0/16', 16], ['fd00::/48', 128]));
  t.end();
});

t.test('a unique local prefix: fd, 40 random bits, /48', (t) => {
  t.equal(
    randomUla(() => Uint8Array.of(0x12, 0x34, 0x56, 0x78, 0x9a)),
    'fd12:3456:789a::/48',
  );
  t.end();
});
