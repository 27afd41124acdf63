import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { AddressSpace, parsePoolId, poolIdOf } from './pool.ts';

t.test('pool ids read back, and have one spelling', (t) => {
  const space = 'cnm-local';
  const names = [
    { space, pool: prefix('10.0.0.0/24') },
    { space, pool: prefix('10.0.0.0/24'), subPool: prefix('10.0.0.128/25') },
    { space: 'cnm-global', pool: prefix('fd00::/64'), subPool: prefix('fd00::100/120') },
  ];
  for (const name of names) t.same(parsePoolId(poolIdOf(name)), name);
  const bad = [
    '',
    'cnm-local',
    'cnm-local/',
    'cnm-local/10.0.0.0',
    'cnm-local/10.0.0.1/24',
    'other/10.0.0.0/24',
  ];
  const more = [
    'cnm-local/10.0.0.0/24/',
    'cnm-local/10.0.0.0/24/10.0.0.0',
    'cnm-local/FD00::/64',
    'cnm-local/10.0.0.0/024',
  ];
  const last = ['cnm-local/10.0.0.0/24/10.0.0.0/25/x', 'LocalDefault/10.0.0.0/24', '/24', '0.0.0.0/AB'];
  for (const text of [...bad, ...more, ...last]) t.equal(parsePoolId(text), undefined, JSON.stringify(text));
  t.end();
});

t.test('I02: which pools overlap', (t) => {
  // After the rows of libnetwork's TestOverlappingRequests (ipams/defaultipam).
  const rows: readonly (readonly [held: readonly string[], wanted: string, free: boolean])[] = [
    [['10.0.0.0/8'], '10.0.0.0/8', false],
    [['10.0.0.0/8'], '10.128.0.0/9', false],
    [['10.0.0.0/8'], '8.0.0.0/6', false],
    [['10.0.0.0/8'], '11.0.0.0/8', true],
    [['10.0.0.0/8'], '9.0.0.0/8', true],
    [['10.0.0.0/8', '11.0.0.0/8'], '10.0.0.0/7', false],
    [['96.0.0.0/3'], '64.0.0.0/2', false],
    [['96.0.0.0/3'], '64.0.0.0/3', true],
    [['172.16.0.0/12', '172.32.0.0/12'], '172.32.0.0/13', false],
    [['172.16.0.0/12', '172.48.0.0/12'], '172.32.0.0/12', true],
    [['f000::/4'], 'ffc7:6000::/19', false],
    [['f000::/4'], 'e000::/4', true],
    [['8000::/32'], '8000::/31', false],
    [['8000::/32'], '8000:1::/32', true],
    [['fd00::/64'], 'fd00:0:0:1::/64', true],
    [['fd00::/64'], 'fd00::8000:0:0:0/65', false],
    [['10.0.0.0/8'], 'a00::/8', true],
    [['::a00:0/104'], '10.0.0.0/8', true],
  ];
  for (const [held, wanted, free] of rows) {
    const space = new AddressSpace('cnm-local');
    for (const text of held) space.add({ pool: prefix(text) }, { owner: 'held' });
    const check = () => {
      space.check(prefix(wanted), undefined);
    };
    const title = `${wanted} beside ${held.join(', ')}`;
    if (free) t.doesNotThrow(check, title);
    else t.throws(check, { name: 'CnmError', code: 'pool-overlap', message: wanted }, title);
    t.doesNotThrow(() => {
      new AddressSpace('cnm-global').check(prefix(wanted), undefined);
    });
  }
  t.end();
});

t.test('a pool goes with its last range, and the place is free again', (t) => {
  const space = new AddressSpace('cnm-local');
  const pool = prefix('10.0.0.0/16');
  const neighbour = space.add({ pool: prefix('10.1.0.0/16') });
  const one = space.add({ pool, subPool: prefix('10.0.1.0/24') });
  const two = space.add({ pool, subPool: prefix('10.0.2.0/24') });
  t.equal(one.parent, two.parent);
  space.remove(one);
  t.throws(() => {
    space.check(pool, undefined);
  });
  space.check(pool, prefix('10.0.1.0/24'));
  space.remove(two);
  space.check(pool, undefined);
  t.throws(() => {
    space.check(prefix('10.0.0.0/15'), undefined);
  });
  space.remove(neighbour);
  space.check(prefix('10.0.0.0/15'), undefined);
  t.equal(space.pools.size, 0);
  t.end();
});

t.test('a lease that is dropped late takes nothing from the next holder', (t) => {
  const { parent, poolId } = new AddressSpace('cnm-local').add({ pool: prefix('10.0.0.0/31') });
  const old = { poolId, address: ip('10.0.0.0'), purpose: 'endpoint' } as const;
  const next = { ...old, name: 'next' };
  parent.take(old);
  parent.drop(old);
  parent.take(next);
  parent.drop(old);
  t.equal(parent.leases.get(next.address), next);
  t.end();
});
