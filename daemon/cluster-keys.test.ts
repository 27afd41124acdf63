/** Two hosts of a cluster with an encrypted network: their records, their kernels, and a secret that nobody gave them. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { type ClusterPlane, clusterPlane } from '../cnm/cluster/index.ts';
import type { Cnm } from '../cnm/cnm.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import type { EndpointSpec, NetworkSpec } from '../cnm/model.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import type { Step } from '../kernel/step.ts';
import { FakeCluster, type FakeClient } from '../store/cluster-fake.ts';
import { memoryStore } from '../store/memory.ts';
import { ClusterKeys } from './cluster-keys.ts';

const POOL = prefix('10.1.0.0/24');
const NETWORK: NetworkSpec = {
  id: 'a1'.repeat(32),
  driver: 'cnm-overlay',
  origin: 'cnm',
  options: { encrypted: '' },
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: 'cnm-global', pool: POOL, aux: {} }],
  ipv6: [],
};

class Host {
  readonly #number: number;
  readonly #server: FakeCluster;
  readonly #store = memoryStore();
  readonly kernel: FakeKernel;
  readonly #endpoint: EndpointSpec;
  client!: FakeClient;
  cnm!: Cnm;
  keys!: ClusterKeys;
  #plane!: ClusterPlane;

  constructor(server: FakeCluster, number: number) {
    this.#number = number;
    this.#server = server;
    const addresses = [prefix(`192.0.2.${number}/24`)];
    this.kernel = fakeKernel({
      links: [{ name: 'eth0', addresses }],
      routes: [{ to: prefix('0.0.0.0/0'), link: 'eth0' }],
    });
    const address = prefix(`10.1.0.1${number}/24`);
    this.#endpoint = { id: `e${number}`.repeat(32), network: NETWORK.id, address, options: {}, ports: [] };
    this.start();
  }

  start(): void {
    const client = this.#server.client();
    const host = { id: `host${this.#number}`, name: `h${this.#number}`, boot: 'one' };
    const pace = { ttl: 10, retry: 1, ask: 1, askAgain: 2, back: 2 };
    const keys = new ClusterKeys({
      ...{ cluster: client, store: this.#store, host, period: 3_600_000, log: silent, retireAfter: 1 },
      pace: { ttl: 10, retry: 1, patience: 10_000 },
    });
    const plane = clusterPlane({
      ...{
        store: client,
        host,
        log: silent,
        pace,
        shared: () => [POOL],
        own: () => [],
        records: this.#store,
      },
      isThere: () => Promise.resolve(false),
    });
    this.client = client;
    this.keys = keys;
    this.#plane = plane;
    this.cnm = createCnm({
      ...{ kernel: this.kernel, store: this.#store, drivers: [overlay], log: silent, runDir: '/run/cnm' },
      ...{ control: plane, encryption: () => keys.current() },
    });
    plane.start();
  }

  async ready(): Promise<void> {
    await this.cnm.reconcile();
    this.keys.start(this.cnm);
  }

  async run(): Promise<void> {
    await this.cnm.createNetwork(NETWORK);
    await this.cnm.createEndpoint(this.#endpoint);
  }

  stop(): Promise<void> {
    return this.cnm.deleteEndpoint(NETWORK.id, this.#endpoint.id);
  }

  async close(): Promise<void> {
    await this.keys.close();
    await this.cnm.close();
    await this.#plane.close();
    await this.client.close();
  }

  /** SPIs. */
  async states(): Promise<{ readonly sent: readonly number[]; readonly received: readonly number[] }> {
    const { states = [] } = (await this.kernel.facts()).xfrm ?? {};
    const own = states.filter(({ src }) => src === `192.0.2.${this.#number}`);
    const others = states.filter((state) => !own.includes(state));
    return { sent: own.map(({ spi }) => spi), received: others.map(({ spi }) => spi) };
  }
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 15_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited for ${what}`);
    await setImmediate();
  }
}

/** One key to send with on either host, which the other one has. */
async function fits(hosts: readonly [Host, Host], not: readonly number[] = []): Promise<boolean> {
  const [a, b] = [await hosts[0].states(), await hosts[1].states()];
  const fit = (from: typeof a, to: typeof a) =>
    from.sent.length === 1 && from.sent.every((spi) => to.received.includes(spi) && !not.includes(spi));
  return fit(a, b) && fit(b, a);
}

t.test('a host that cannot take its keys holds the others up until it can', async (t) => {
  const server = new FakeCluster();
  const hosts: readonly [Host, Host] = [new Host(server, 1), new Host(server, 2)];
  const [one, two] = hosts;
  await until('the cluster', () => one.cnm.drift().then(() => server.entries('overlay/host/').length === 2));
  for (const host of hosts) await host.ready();
  await until('a secret', () => hosts.every(({ keys }) => keys.current() !== undefined));
  for (const host of hosts) await host.run();
  await until('keys for each other', () => fits(hosts));

  const [before, held] = [await one.states(), await two.states()];
  let refused = 0;
  const mend = two.kernel.failAt(({ do: what }) => what === 'xfrm.state.add' && (refused += 1) > 0, 'ENOMEM');
  const rotated = one.keys.rotate();
  await until('more than one attempt', () => refused > 3);
  t.same((await one.states()).sent, before.sent, 'what the other one cannot read is not sent');
  t.same(await two.states(), held);
  t.match(server.entry('secret/has/host2')?.value, { has: 1 });
  mend();
  await rotated;
  await until('others', () => fits(hosts, before.sent));
  for (const host of hosts) await host.close();
});

t.test('from the first secret to the last container', async (t) => {
  const server = new FakeCluster();
  const hosts: readonly [Host, Host] = [new Host(server, 1), new Host(server, 2)];
  const [one, two] = hosts;
  await until('the cluster', () => one.cnm.drift().then(() => server.entries('overlay/host/').length === 2));
  await t.rejects(one.cnm.createNetwork(NETWORK), { message: /as soon as its etcd answers/ });
  for (const host of hosts) await host.ready();
  await until('a secret', () => hosts.every(({ keys }) => keys.current() !== undefined));
  for (const host of hosts) await host.run();
  await until('keys for each other', () => fits(hosts));
  for (const host of hosts) t.same((await host.cnm.drift()).differences, []);

  const first = await one.states();
  t.match(await two.keys.rotate(), { ahead: 0, networks: 1 });
  await until('others', () => fits(hosts, first.sent));
  await until('nothing of the former secret', async () => {
    const { received } = await one.states();
    return received.length === 8 && !received.some((spi) => first.received.includes(spi));
  });

  const second = await one.states();
  for (const { client } of hosts) client.cut();
  await one.keys.close();
  await one.cnm.close();
  one.start();
  one.client.cut();
  await one.ready();
  await one.cnm.renewKeys(true);
  t.same(await one.states(), second, 'without the cluster, a daemon that begins has what it had');
  for (const { client } of hosts) client.heal();
  await until('both to be back', () => fits(hosts));

  await two.stop();
  await until('nobody to send to', async () => {
    const { sent, received } = await one.states();
    return sent.length + received.length === 0;
  });
  t.same(await two.states(), { sent: [], received: [] });
  for (const host of hosts) await host.close();
});

t.test('who asked for another secret is not told that it is sent with before it is', async (t) => {
  const server = new FakeCluster();
  const hosts: readonly [Host, Host] = [new Host(server, 1), new Host(server, 2)];
  const [one] = hosts;
  await until('the cluster', () => one.cnm.drift().then(() => server.entries('overlay/host/').length === 2));
  for (const host of hosts) await host.ready();
  await until('a secret', () => hosts.every(({ keys }) => keys.current() !== undefined));
  for (const host of hosts) await host.run();
  await until('keys for each other', () => fits(hosts));
  await until('both to say so', () => server.entries('secret/has/').length === 2);

  const before = await one.states();
  // What it sends with cannot be made; what it receives with can.
  let refused = 0;
  const isSent = (step: Step) => step.do === 'xfrm.state.add' && step.src === '192.0.2.1';
  const mend = one.kernel.failAt((step) => isSent(step) && (refused += 1) > 0, 'ENOMEM');
  let told = false;
  const rotated = one.keys.rotate().then((rotation) => {
    told = true;
    return rotation;
  });
  await until('more than one attempt', () => refused > 3);
  t.notOk(told);
  t.same((await one.states()).sent, before.sent);
  mend();
  t.match(await rotated, { networks: 1 });
  t.notMatch((await one.states()).sent, before.sent);
  await until('others', () => fits(hosts, before.sent));
  for (const host of hosts) await host.close();
});
