/** Three hosts over a cluster store and Engines in memory: which lose requests, are cut off, end and begin again. */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { clusterPlane, type ClusterPlane } from '../cnm/cluster/index.ts';
import { silent } from '../cnm/log.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import {
  type EngineDoor,
  EngineRefusal,
  EngineSilence,
  type StandaloneDoor,
} from '../cnm/published/doors.ts';
import { type NetworkDescription, PUBLISHED_LABEL } from '../cnm/published/record.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { type FakeClient, FakeCluster } from '../store/cluster-fake.ts';
import { memoryStore } from '../store/memory.ts';
import { PublishedNetworks } from './published.ts';

const described = (name: string, subnet = '10.1.0.0/24'): NetworkDescription => ({
  ...{ name, owner: 'docker', driver: 'cnm-overlay', labels: { tier: 'one' }, options: {} },
  ...{ internal: false, attachable: false, ipv4: true, ipv6: false },
  ipam: { driver: 'cnm-ipam', options: { space: 'cnm-global' }, subnets: [{ subnet, aux: {} }] },
});

/** What dockerd does, and what it may do instead. */
class Engine implements EngineDoor {
  readonly there = new Map<string, NetworkDescription>();
  readonly users = new Map<string, readonly string[]>();
  answers = true;
  installed = true;
  refusal = '';
  /** After it has made a network its answer is lost. */
  loses = false;
  made = 0;

  networks(): ReturnType<EngineDoor['networks']> {
    const networks = [...this.there].map(([id, network]) => {
      const made = PUBLISHED_LABEL in network.labels;
      const labels = Object.fromEntries(
        Object.entries(network.labels).filter(([key]) => key !== PUBLISHED_LABEL),
      );
      return { id, network: { ...network, labels }, made, swarm: false };
    });
    return Promise.resolve(this.answers ? { networks, withoutIpv4: true } : undefined);
  }

  isInstalled(): Promise<boolean> {
    return Promise.resolve(this.installed);
  }

  containers({ id }: { readonly id: string }): Promise<readonly string[]> {
    return Promise.resolve(this.users.get(id) ?? []);
  }

  async create(network: NetworkDescription): Promise<void> {
    await setImmediate();
    if (!this.answers) throw new EngineSilence('no Engine');
    if (this.refusal !== '') throw new EngineRefusal(this.refusal);
    if (this.there.has(network.name))
      throw new EngineRefusal(`network with name ${network.name} already exists`);
    this.there.set(network.name, network);
    this.made += 1;
    if (this.loses) throw new EngineSilence('the answer was lost');
  }

  close(): void {
    this.answers = false;
  }

  remove(id: string): Promise<void> {
    if ((this.users.get(id) ?? []).length > 0)
      return Promise.reject(new EngineRefusal('has active endpoints'));
    this.there.delete(id);
    return Promise.resolve();
  }
}

/** Networks of the host's own daemon. */
class Own implements StandaloneDoor {
  readonly there = new Map<string, NetworkDescription>();
  users: readonly string[] = [];

  records(): readonly NetworkRecord[] {
    return [...this.there].map(
      ([id, { name, driver }]) => ({ id, name, driver, origin: 'cnm', options: {} }) as NetworkRecord,
    );
  }

  endpoints(): readonly EndpointRecord[] {
    return this.users.map((name) => ({ id: name, name }) as EndpointRecord);
  }

  describe({ id }: NetworkRecord): NetworkDescription {
    return this.there.get(id) ?? described('none');
  }

  create(network: NetworkDescription, id: string): Promise<unknown> {
    this.there.set(id, { ...network, owner: 'cnm', labels: {} });
    return Promise.resolve();
  }

  remove({ id }: NetworkRecord): Promise<void> {
    this.there.delete(id);
    return Promise.resolve();
  }
}

class Host {
  readonly engine = new Engine();
  readonly own = new Own();
  readonly name: string;
  readonly #server: FakeCluster;
  client: FakeClient;
  #plane: ClusterPlane;
  published: PublishedNetworks;

  constructor(server: FakeCluster, name: string) {
    this.#server = server;
    this.name = name;
    this.client = server.client();
    [this.#plane, this.published] = this.#start();
  }

  #start(): [ClusterPlane, PublishedNetworks] {
    const { own } = this;
    const host = { id: `id-${this.name}`, name: this.name, boot: this.name };
    const plane = clusterPlane({
      ...{ store: this.client, records: memoryStore(), host, log: silent },
      ...{ shared: () => [], own: () => [], isThere: () => Promise.resolve(false) },
      pace: { ttl: 10, retry: 1 },
    });
    plane.start();
    const published = new PublishedNetworks({
      ...{ store: this.client, plane, host, log: silent, engine: this.engine, pace: { soon: 1, late: 5 } },
      cnm: {
        drivers: [overlay],
        networks: () => own.records(),
        network: (wanted) => own.records().find(({ id }) => id === wanted),
        endpoints: () => own.endpoints(),
      },
      ipam: { globalSpace: 'cnm-global' },
      standalone: own,
    });
    published.start();
    return [plane, published];
  }

  /** kill -9: what was under way ends where it was. */
  async restart(): Promise<void> {
    await this.client.close();
    const { answers } = this.engine;
    await this.published.close();
    this.engine.answers = answers;
    this.client = this.#server.client();
    [this.#plane, this.published] = this.#start();
  }

  /** By its own daemon. */
  hasOwn(name: string): boolean {
    return this.own.records().some((one) => one.name === name);
  }

  /** Docker goes for good, or has never been. */
  async withoutDocker(): Promise<void> {
    this.engine.answers = this.engine.installed = false;
    await setImmediate();
  }

  withDocker(): void {
    this.engine.answers = this.engine.installed = true;
  }

  has(name: string): boolean {
    return this.engine.there.has(name);
  }

  /** As its own network, and then everywhere. */
  publish(name: string, wait = 15_000, subnet?: string) {
    if (!this.has(name)) this.engine.there.set(name, described(name, subnet));
    const network = { id: name, driver: 'cnm-overlay', origin: 'docker', options: {} };
    return this.published.publish(network as NetworkRecord, wait);
  }

  async close(): Promise<void> {
    await this.published.close();
    await this.#plane.close();
    await this.client.close();
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`waited for ${what}`);
    await setImmediate();
  }
}

type Hosts = readonly [Host, Host, Host];

async function open(t: Test, server = new FakeCluster()): Promise<{ server: FakeCluster; hosts: Hosts }> {
  const hosts: Hosts = [new Host(server, 'h1'), new Host(server, 'h2'), new Host(server, 'h3')];
  t.teardown(async () => {
    for (const host of hosts) await host.close();
  });
  await until('all to be there', () => server.entries('overlay/host/').length === 3);
  return { server, hosts };
}

const fail = (): never => {
  throw new Error('nothing is published');
};
const said = (state: Awaited<ReturnType<PublishedNetworks['publish']>>) =>
  state.hosts.map(({ host, outcome, message = '' }) => `${host} ${outcome} ${message}`.trim());

t.test('made on all, shown on all, removed where it was made', async (t) => {
  const { hosts } = await open(t);
  const [h1, h2, h3] = hosts;
  t.same(said(await h1.publish('n')), ['h1 exists', 'h2 ok', 'h3 ok']);
  t.same(h2.engine.there.get('n')?.labels, { tier: 'one', [PUBLISHED_LABEL]: 'true' });
  t.same(said(await h3.publish('n')), ['h1 exists', 'h2 ok', 'h3 ok'], 'again, from a copy');
  t.equal(h2.engine.made, 1);
  for (const host of hosts) {
    await until('it to be known', () => host.published.all()[0]?.hosts.length === 3);
    t.match(host.published.all(), [{ network: { name: 'n', by: 'h1' } }]);
  }
  h2.engine.there.delete('n');
  await until('it to be back', () => h2.has('n'));
  h3.engine.users.set('n', ['web']);
  t.same(said(await h2.published.withdraw('n', 15_000)), [
    'h1 own stays, for it was not made by publishing it',
    'h2 removed',
    'h3 kept stays while web are on it',
  ]);
  h3.engine.users.clear();
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.ok(h3.has('n'), 'who counts on it keeps it');
  t.match(said(await h2.published.withdraw('n', 15_000)), [/own/, 'h2 removed', 'h3 removed']);
  t.ok(h1.has('n'));
  t.same(h1.published.all(), []);
});

t.test('what is in the way is shown, and left', async (t) => {
  const { hosts } = await open(t);
  const [h1, h2, h3] = hosts;
  h2.engine.there.set('n', described('n', '10.9.0.0/24'));
  h3.engine.refusal = 'Pool overlaps with other one on this address space';
  t.same(said(await h1.publish('n')), [
    'h1 exists',
    'h2 refused n is published with subnets 10.1.0.0/24, and has subnets 10.9.0.0/24 here; it was not touched',
    'h3 refused Pool overlaps with other one on this address space',
  ]);
  await t.rejects(h2.publish('n'), { code: 'network-conflict', message: /unpublish it first/ });
  h3.engine.refusal = '';
  h2.engine.there.delete('n');
  await until('both to try again', () => h2.has('n') && h3.has('n'));
  await t.rejects(h1.published.withdraw('other', 10), { code: 'network-unknown' });
});

t.test('Engines that are away, and answers that are lost', async (t) => {
  const { server, hosts } = await open(t);
  const [h1, h2, h3] = hosts;
  h2.engine.answers = false;
  h3.engine.loses = true;
  t.match(said(await h1.publish('n')), ['h1 exists', /h2 waiting no Docker Engine/, /h3 (ok|waiting)/]);
  h2.engine.answers = true;
  h1.engine.answers = false;
  await t.rejects(h1.publish('m'), { code: 'unavailable', message: /no Docker Engine answers here/ });
  h1.engine.answers = true;
  await until('both', () => h2.has('n') && h3.has('n'));
  t.same(said(await h1.publish('n')), ['h1 exists', 'h2 ok', 'h3 ok']);
  t.equal(h3.engine.made, 1, 'made once');
  const late = new Host(server, 'h4');
  t.teardown(() => late.close());
  await until('one that comes later', () => late.has('n'));
});

t.test('a host without Docker makes it by its own daemon, until there is Docker', async (t) => {
  const { hosts } = await open(t);
  const [h1, h2, h3] = hosts;
  await h3.withoutDocker();
  t.same(said(await h1.publish('n')), ['h1 exists', 'h2 ok', 'h3 ok']);
  t.match([...h3.own.there.values()], [{ name: 'n', ipam: { subnets: [{ subnet: '10.1.0.0/24' }] } }]);
  t.notOk(h2.hasOwn('n'), 'where there is Docker it is Docker’s');
  h3.own.users = ['box'];
  h3.withDocker();
  await until('it to be said that it is in use', () =>
    said(h1.published.all()[0] ?? fail()).some((line) => line.includes("it is not Docker's while box")),
  );
  t.match(said(await h1.publish('n')), ['h1 exists', 'h2 ok', /^h3 ok made before there was Docker here/]);
  h3.own.users = [];
  await until('it to be Docker’s', () => h3.has('n') && !h3.hasOwn('n'));
  await until('that to be said', () => said(h1.published.all()[0] ?? fail()).includes('h3 ok'));

  // An Engine that is down is no host without one.
  h2.engine.answers = false;
  t.match(said(await h1.publish('m')), ['h1 exists', /^h2 waiting no Docker Engine/, 'h3 ok']);
  t.notOk(h2.hasOwn('m'));
  h2.engine.answers = true;
  await until('it to be made', () => h2.has('m'));

  await h3.withoutDocker();
  h3.engine.there.clear();
  await until('both by its daemon', () => h3.hasOwn('n') && h3.hasOwn('m'));
  for (const name of ['n', 'm'])
    t.match(said(await h2.published.withdraw(name, 15_000)), [/^h1 own/, 'h2 removed', 'h3 removed']);
  t.same(h3.own.records(), []);
});

t.test('what cannot be there without Docker is shown, and is nobody’s failure', async (t) => {
  const { hosts } = await open(t);
  const [h1, , h3] = hosts;
  await h3.withoutDocker();
  const local = described('n', '10.3.0.0/24');
  h1.engine.there.set('n', { ...local, ipam: { ...local.ipam, driver: 'default', options: {} } });
  t.same(said(await h1.publish('n')), [
    'h1 exists',
    'h2 ok',
    'h3 no-docker without Docker a host can have its networks only with addresses of cnm-global',
  ]);
  t.same(h3.own.records(), []);
  h3.withDocker();
  await until('it to be made when there is Docker', () => h3.has('n'));
});

t.test('without the store nothing is changed; a host that is cut off makes it afterwards', async (t) => {
  const { server, hosts } = await open(t);
  const [h1, h2] = hosts;
  h1.client.cut();
  await t.rejects(h1.publish('n', 10), { code: 'cluster-unreachable' });
  t.same(server.entries('overlay/published/'), []);
  h1.client.heal();
  h2.client.cut();
  let wait = 20;
  let now: readonly string[] = [];
  while (wait < 30_000 && !now.includes('h3 ok')) now = said(await h1.publish('n', (wait *= 2)));
  t.same(now, ['h1 exists', 'h2 unheard', 'h3 ok']);
  server.advance(11_000);
  await until('its record to go', () => server.entries('overlay/host/').length === 2);
  t.same(said(await h1.publish('n')), ['h1 exists', 'h3 ok'], 'nobody waits for it');
  server.compact();
  h2.client.heal();
  await until('it to be made', () => h2.has('n'));
  await until('it to be said', () => h1.published.all()[0]?.hosts.length === 3);
});

t.test('whatever is lost, killed and cut off, in the end all have what was last said', async (t) => {
  const step = fc.record({
    host: fc.nat(2),
    network: fc.constantFrom('a', 'b'),
    what: fc.constantFrom('publish', 'withdraw', 'kill', 'cut', 'heal', 'silence', 'lose', 'move'),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const server = new FakeCluster();
      const hosts = [1, 2, 3].map((number) => new Host(server, `h${number}`));
      for (const { host: number, network, what } of steps) {
        const host = hosts[number];
        if (host === undefined) continue;
        if (what === 'publish') await host.publish(network, 0).catch(() => undefined);
        else if (what === 'withdraw') await host.published.withdraw(network, 0).catch(() => undefined);
        else if (what === 'kill') await host.restart();
        else if (what === 'cut') host.client.cut();
        else if (what === 'heal') host.client.heal();
        else if (what === 'silence') host.engine.answers = !host.engine.answers;
        else if (what === 'move') host.engine.installed = !host.engine.installed;
        else host.engine.loses = !host.engine.loses;
        await setImmediate();
      }
      for (const { client, engine } of hosts) {
        client.heal();
        engine.answers = true;
      }
      for (const name of ['a', 'b']) {
        const { state } = (server.entry(`overlay/published/${name}`)?.value ?? {}) as { state?: string };
        const marked = (host: Host) => PUBLISHED_LABEL in (host.engine.there.get(name)?.labels ?? {});
        if (state !== undefined)
          await until(`${name} to be ${state}`, () =>
            hosts.every((host) =>
              state === 'published'
                ? host.has(name) && !host.hasOwn(name)
                : !marked(host) && !host.hasOwn(name),
            ),
          );
      }
      for (const host of hosts) await host.close();
    }),
    { numRuns: 30 },
  );
  t.pass('in none of 30');
});
