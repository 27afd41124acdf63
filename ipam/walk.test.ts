/**
 * libnetwork's tests of its allocators in one: tens of thousands of random operations side by side on small and huge
 * pools, with restarts between, against a model. The seed is printed; CNM_SEED repeats it.
 */
import { randomInt } from 'node:crypto';
import t from 'tap';
import type { Ip } from '../address/ip.ts';
import { addressOf, contains, lengthOf, prefix } from '../address/prefix.ts';
import type { CnmError } from '../cnm/errors.ts';
import { memoryStore } from '../store/memory.ts';
import { createIpam } from './index.ts';
import type { Ipam } from './ipam.ts';

/** xorshift32. */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

interface World {
  ipam: Ipam;
  readonly poolId: string;
  readonly pool: string;
  readonly size: number;
  /** Everything that somebody has, or has asked to give back. */
  readonly held: Map<Ip, string>;
  given: number;
  refused: number;
}

/** @throws what is wrong. */
async function request(world: World, name: string): Promise<void> {
  const before = world.held.size;
  const wanted = { gateway: false, serial: name.length % 2 === 0, name };
  const answer = await world.ipam
    .requestAddress(world.poolId, wanted)
    .catch((error: unknown) => (error as CnmError).code);
  if (answer === 'pool-exhausted') {
    world.refused++;
    // Others may have asked at the same moment.
    if (before + 16 < world.size)
      throw new Error(`${world.pool} is full with ${before} of ${world.size} held`);
    return;
  }
  const given = addressOf(prefix(answer));
  if (world.held.has(given)) throw new Error(`${given} was given twice`);
  if (!contains(prefix(world.pool), given)) throw new Error(`${given} is not in ${world.pool}`);
  world.held.set(given, name);
  world.given++;
}

async function release(world: World, address: Ip): Promise<void> {
  await world.ipam.releaseAddress(world.poolId, address);
}

async function walk(world: World, random: (below: number) => number, operations: number): Promise<void> {
  const worker = async () => {
    while (operations-- > 0) {
      const [address] = [...world.held.keys()].slice(random(8));
      if (random(100) < 55 || address === undefined) await request(world, `n${random(500)}`);
      else {
        world.held.delete(address);
        await release(world, address);
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

t.test('no address is given twice, and none is lost', async (t) => {
  const seed = Number(process.env['CNM_SEED'] ?? randomInt(2 ** 31));
  t.comment(`CNM_SEED=${seed}`);
  const random = seeded(seed);
  const pools: readonly (readonly [pool: string, size: number])[] = [
    ['10.0.0.0/29', 6],
    ['10.0.1.0/26', 62],
    ['10.2.0.0/16', 65_534],
    ['11.0.0.0/8', 2 ** 24 - 2],
    ['fd00:1::/127', 2],
    ['fd00:2::/122', 63],
    ['fd00:3::/64', 2 ** 64],
    ['8000::/1', 2 ** 127],
  ];
  let given = 0;
  for (const [pool, size] of pools) {
    const store = memoryStore();
    let time = 0;
    const now = () => (time += 10_000);
    const ipam = await createIpam({ store, now });
    const { poolId } = await ipam.requestPool({
      space: 'cnm-local',
      pool: prefix(pool),
      v6: false,
      options: {},
    });
    const world: World = { ipam, poolId, pool, size, held: new Map(), given: 0, refused: 0 };
    for (let life = 0; life < 3; life++) {
      await walk(world, random, 1300);
      world.ipam = await createIpam({ store, now });
      const leases = world.ipam.pools().flatMap((view) => view.leases.map(({ address }) => address));
      t.same(new Set(leases), new Set(world.held.keys()), `${pool}: a restart finds those that are held`);
    }
    for (const address of world.held.keys()) await release(world, address);
    t.same(world.ipam.pools()[0]?.usage.used, 0);
    const all: string[] = [];
    while (size < 100 && all.length <= size) {
      const answer = await world.ipam
        .requestAddress(poolId, { gateway: false, serial: false })
        .catch(() => '');
      if (answer === '') break;
      all.push(answer);
    }
    if (size < 100) t.equal(new Set(all).size, size, `${pool}: every one can be had again`);
    t.ok(all.every((one) => lengthOf(prefix(one)) === lengthOf(prefix(pool))));
    given += world.given;
  }
  t.ok(given > 10_000, `${given} were given`);
});
