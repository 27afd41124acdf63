import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { memoryStore } from '../store/memory.ts';
import { createIpam } from './index.ts';
import { createStrangers } from './strangers.ts';

t.test(
  "I22: Docker's other subnets are left alone, and our own are free once they are released",
  async (t) => {
    const strangers = createStrangers(() => ipam);
    const hostPrefixes = () => Promise.resolve(strangers.prefixes());
    const ipam = await createIpam({ store: memoryStore(), hostPrefixes });
    const request = { space: ipam.localSpace, v6: false, options: {} };
    const { pool, poolId } = await ipam.requestPool(request);
    t.equal(pool, '172.17.0.0/24');
    const network = (name: string, ...pools: string[]) => ({
      id: name,
      name,
      driver: 'macvlan',
      endpoints: [],
      subnets: pools.map((text) => ({ pool: prefix(text), aux: [] })),
    });
    strangers.look([network('ours', pool), network('lan', '172.17.1.0/24', 'fd00::/64'), network('none')]);
    t.equal((await ipam.requestPool(request)).pool, '172.17.2.0/24');
    await ipam.releasePool(poolId);
    t.equal((await ipam.requestPool(request)).pool, pool);
    strangers.look([]);
    t.equal((await ipam.requestPool(request)).pool, '172.17.1.0/24');
  },
);
