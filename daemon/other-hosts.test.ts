/*
 * What becomes of an endpoint of another host here, in the kernel's tables and in the names, for whatever there was of it before and is
 * then, and in whatever way that is heard: records in a cluster store in memory, a cnm on a fake kernel, and the resolver's zone.
 */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { type ClusterPlane, clusterPlane } from '../cnm/cluster/index.ts';
import { decodeNetwork } from '../cnm/cluster/keys.ts';
import type { Cnm } from '../cnm/cnm.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import { Feed } from '../dns/feed.ts';
import { keyOf } from '../dns/name.ts';
import { Zone } from '../dns/zone.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { entryName } from '../kernel/entry.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { type FakeClient, FakeCluster } from '../store/cluster-fake.ts';
import type { ClusterChange } from '../store/cluster.ts';
import { memoryStore } from '../store/memory.ts';
import { networkSpec } from '../tests/specs.ts';
import { until } from '../tests/until.ts';
import { otherHosts } from './other-hosts.ts';

const NETWORK = networkSpec('cnm-overlay');
const ENDPOINT = 'e1'.repeat(32);
const MAC = '02:42:0a:01:00:05';
const AT = { h2: '192.0.2.2', h3: '192.0.2.3' } as const;

/** `unnamed`: without a name yet, as Docker tells it later; it is reached by its address all the same. */
type State = 'absent' | 'unnamed' | 'named';
/**
 * How it is heard: as a change; as a new beginning, the changes being lost; as one change with a move to another host; or by the next
 * daemon, nobody having heard it at the time.
 */
type Way = 'change' | 'snapshot' | 'move' | 'restart';

const STATES: readonly State[] = ['absent', 'unnamed', 'named'];
const WAYS: readonly Way[] = ['change', 'snapshot', 'move', 'restart'];

class World {
  readonly server = new FakeCluster();
  readonly #others: FakeClient = this.server.client();
  readonly #store = memoryStore();
  readonly #kernel = fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
    routes: [{ to: prefix('0.0.0.0/0'), via: ip('192.0.2.254'), link: 'eth0' }],
  });
  #generation = 0;
  #client: FakeClient = this.server.client();
  #plane: ClusterPlane | undefined;
  #zone = new Zone();
  cnm: Cnm = this.#start();

  #start(): Cnm {
    const client = (this.#client = this.server.client());
    const plane = (this.#plane = clusterPlane({
      ...{ store: client, records: this.#store, log: silent },
      host: { id: 'h1', name: 'h1', boot: 'b1' },
      shared: () => [prefix('10.1.0.0/24')],
      own: () => [],
      isThere: () => Promise.resolve(false),
      pace: { ttl: 10, retry: 1, ask: 1, askAgain: 1, back: 1 },
    }));
    const parts = { kernel: this.#kernel, store: this.#store, drivers: [overlay], log: silent };
    const cnm = createCnm({ ...parts, runDir: '/run/cnm', patience: 0, control: plane });
    plane.start();
    const zone = (this.#zone = new Zone());
    const feed = new Feed({ cnm, zone, log: silent, ipam: { pools: () => [] } });
    feed.load();
    cnm.watch((change) => {
      feed.change(change);
    });
    otherHosts(cnm).follow((news) => {
      feed.hearOthers(news);
    });
    return cnm;
  }

  async stop(): Promise<void> {
    await this.cnm.close();
    await this.#plane?.close();
    await this.#client.close();
  }

  async begin(): Promise<void> {
    this.cnm = this.#start();
    await this.cnm.reconcile();
  }

  /** A crash came after the last container's record had gone, and before what was here for it. */
  async cutOffWithoutContainers(): Promise<void> {
    await this.stop();
    await this.#store.write([{ delete: `endpoint/${NETWORK.id}/${'f'.repeat(64)}` }]);
  }

  get heard(): readonly string[] {
    return this.#store.list('heard/').map(([key]) => key);
  }

  lose(): void {
    this.#client.cut();
  }

  /** Changes since it was lost are not to be had any more. */
  find(): void {
    this.server.compact();
    this.#client.heal();
  }

  /** This host has a container on the network, and so have the others. */
  async enter(): Promise<void> {
    await this.cnm.createNetwork(NETWORK);
    const mine = { id: 'f'.repeat(64), network: NETWORK.id, address: prefix('10.1.0.2/24') };
    await this.cnm.createEndpoint({ ...mine, options: {}, ports: [] });
    await this.write(
      (['h2', 'h3'] as const).map((host) => ({
        put: `${this.#on}${host}`,
        value: { name: host, at: AT[host], details: {} },
      })),
    );
  }

  get #on(): string {
    const [network] = this.server.entries('overlay/network/');
    if (decodeNetwork(network?.value) === undefined) throw new Error('no network');
    return `overlay/on/${network?.key.replace(/.*\//, '') ?? ''}/`;
  }

  async write(changes: readonly ClusterChange[]): Promise<void> {
    const done = await this.#others.transact([], changes);
    if (!done.ok || !done.done) throw new Error('not written');
  }

  /** What makes it so on one host. */
  record(host: keyof typeof AT, state: State): readonly ClusterChange[] {
    const key = `${this.#on}${host}/${ENDPOINT}`;
    if (state === 'absent') return this.server.entries(key).length === 0 ? [] : [{ delete: key }];
    this.#generation = Math.max(this.#generation, this.server.revision) + 1;
    const names = state === 'named' ? ['web'] : [];
    const value = { at: AT[host], mac: MAC, addresses: ['10.1.0.5/24'], generation: this.#generation };
    return [{ put: key, value: { ...value, names, ports: ['80/tcp'] } }];
  }

  /** What this host has of it. */
  async seen(): Promise<string> {
    const { presence = [] } = this.cnm.network(NETWORK.id) ?? {};
    const { netns } = await this.#kernel.facts({ plans: [presence], firewall: false });
    const entries = [...netns.values()].flatMap(({ entries }) => [...(entries?.values() ?? [])]);
    const names = (this.#zone.find(this.#zone.hostView(), keyOf('web'))?.members ?? []).map(
      ({ host }) => `web ${host.addresses.join()}`,
    );
    return [...entries.map(entryName), ...names].sort().join('\n');
  }

  async settles(wanted: string): Promise<string> {
    let seen = '';
    await until('it to be so', () => {
      void this.seen().then((now) => (seen = now));
      return seen === wanted;
    }).catch(() => undefined);
    return seen;
  }
}

/** What there should be of it: hosts are there in any case. */
function wanted(state: State, host: keyof typeof AT): string {
  const all = ['to vx0 00:00:00:00:00:00 192.0.2.2', 'to vx0 00:00:00:00:00:00 192.0.2.3'];
  if (state !== 'absent')
    all.push(`to vx0 ${MAC} ${AT[host]}`, `port vx0 ${MAC}`, `neighbour br0 10.1.0.5 ${MAC}`);
  if (state === 'named') all.push('web 10.1.0.5');
  return all.sort().join('\n');
}

async function happens(world: World, way: Way, then: State): Promise<void> {
  if (way === 'snapshot') world.lose();
  if (way === 'restart') await world.stop();
  await world.write(
    way === 'move'
      ? [...world.record('h2', 'absent'), ...world.record('h3', then)]
      : world.record('h2', then),
  );
  if (way === 'snapshot') world.find();
  if (way === 'restart') await world.begin();
}

t.test('S05 however it is heard, what there was before, and what there is then', async (t) => {
  const rows = WAYS.flatMap((way) => STATES.flatMap((was) => STATES.map((then) => ({ way, was, then }))));
  t.equal(rows.length, 36);
  for (const { way, was, then } of rows) {
    const world = new World();
    await world.enter();
    await world.write(world.record('h2', was));
    t.equal(await world.settles(wanted(was, 'h2')), wanted(was, 'h2'), `${was}: as it should be`);
    await happens(world, way, then);
    const last = wanted(then, way === 'move' ? 'h3' : 'h2');
    t.equal(await world.settles(last), last, `${way}, ${was} to ${then}`);
    // Not only on its way there.
    for (let turn = 0; turn < 20; turn += 1) await setImmediate();
    t.equal(await world.seen(), last);
    await world.stop();
  }
});

t.test(
  'what was heard of a network goes from the disk with what was here of it, also at a start',
  async (t) => {
    for (const isThere of [true, false]) {
      const world = new World();
      await world.enter();
      await world.write(world.record('h2', 'named'));
      await until('it to be on disk', () => world.heard.length === 3);
      await world.cutOffWithoutContainers();
      const begun = world.begin();
      if (!isThere) world.lose();
      await begun;
      t.equal(world.cnm.network(NETWORK.id)?.presence, undefined, 'nothing is here');
      await until('nothing to be on disk', () => world.heard.length === 0);
      await world.stop();
    }
  },
);
