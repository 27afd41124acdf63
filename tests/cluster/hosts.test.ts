/*
 * Three hosts share an address space in a real etcd; all are killed, cut off and started again while they give addresses.
 *
 *   etcd  198.51.100.10 ──┐
 *   h1: cnmd 198.51.100.11 ──┼── uplink
 *   h2: cnmd 198.51.100.12 ──┤
 *   h3: cnmd 198.51.100.13 ──┘
 *
 * net 10.70.0.0/24 on each host (a bridge of its own with the gateway that they have together): 60 sandboxes at once.
 * Pool 10.71.0.0/16 at the plugin's socket: 10,000 allocations and more.
 */
import t from 'tap';
import type { Test } from 'tap';
import type { AddressView, AuditView, ClusterSummary, EndpointView } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { EtcdHost } from './etcd-host.ts';

const POOL = '10.71.0.0/16';
const POOL_ID = `cnm-global/${POOL}`;
const WANTED = 10_000;

async function ipam(host: CnmHost, method: string, body: object): Promise<{ readonly Address?: string }> {
  const { status, text } = await host.plugin('cnm-ipam', `IpamDriver.${method}`, body);
  if (status !== 200) throw new Error(text);
  return JSON.parse(text) as { readonly Address?: string };
}

/** Who was answered which address and has not begun to give it back. */
class Model {
  readonly owner = new Map<string, string>();
  allocations = 0;
  readonly doubles: string[] = [];

  took(address: string, host: string): void {
    const other = this.owner.get(address);
    if (other !== undefined) this.doubles.push(`${address}: ${other} and ${host}`);
    this.owner.set(address, host);
    this.allocations++;
  }
}

/** Takes and gives back without a pause, with some in flight, until it is told to stop. */
class Churn {
  readonly #host: CnmHost;
  readonly #model: Model;
  readonly #held: string[] = [];
  readonly #workers: Promise<void>[];
  #stopped = false;
  refused = 0;

  constructor(host: CnmHost, model: Model) {
    this.#host = host;
    this.#model = model;
    this.#workers = Array.from({ length: 6 }, () => this.#work());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      if (!(await this.#take())) await new Promise((resolve) => setTimeout(resolve, 50));
      if (this.#held.length > 300) await this.#giveBack();
    }
  }

  async #take(): Promise<boolean> {
    try {
      const { Address = '' } = await ipam(this.#host, 'RequestAddress', {
        PoolID: POOL_ID,
        Address: '',
        Options: null,
      });
      const address = Address.replace('/16', '');
      this.#model.took(address, this.#host.name);
      this.#held.push(address);
      return true;
    } catch {
      this.refused++;
      return false;
    }
  }

  async #giveBack(): Promise<void> {
    const [address = ''] = this.#held.splice(Math.floor(Math.random() * this.#held.length), 1);
    this.#model.owner.delete(address);
    // Again until it is answered: a daemon that was killed may or may not have done it.
    for (;;) {
      try {
        await ipam(this.#host, 'ReleaseAddress', { PoolID: POOL_ID, Address: address });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }
}

async function leased(host: CnmHost): Promise<readonly string[]> {
  const views = await host.admin<readonly AddressView[]>(
    'GET',
    `/v1/ipam/leases?pool=${encodeURIComponent(POOL)}`,
  );
  return views.filter(({ state }) => state === 'endpoint').map(({ address }) => address);
}

async function sixty(t: Test, hosts: readonly CnmHost[]): Promise<void> {
  const create = (host: CnmHost) =>
    host.cnm('network', 'create', '--subnet', '10.70.0.0/24', '--ipam-opt', 'space=cnm-global', 'net');
  await Promise.all(hosts.map(create));
  const started = await Promise.all(
    hosts.flatMap((host) =>
      Array.from({ length: 20 }, async (_, n) => {
        await host.admin('POST', '/v1/sandboxes', { name: `s${n}` });
        return host.admin<EndpointView>('POST', `/v1/sandboxes/s${n}/join`, { network: 'net' });
      }),
    ),
  );
  const addresses = started.flatMap((endpoint) => endpoint.addresses);
  t.equal(addresses.length, 60);
  t.equal(new Set(addresses).size, 60, 'every one once');
  t.notOk(addresses.includes('10.70.0.1/24' as never));
  for (const host of hosts)
    t.match(await host.net('ip', '-br', 'address'), /10\.70\.0\.1\/24/, `the gateway is on ${host.name} too`);
}

/** What happens meanwhile, one after the other, each long enough for windows to run out. */
async function troubles(hosts: readonly CnmHost[], etcd: EtcdHost, model: Model): Promise<void> {
  const [h1, h2, h3] = hosts as [CnmHost, CnmHost, CnmHost];
  const more = async (count: number, limit: number) => {
    const from = model.allocations;
    await until(`${count} more allocations`, limit, () => model.allocations >= from + count || undefined);
  };
  await more(1500, 180_000);
  await etcd.kill();
  await more(500, 180_000);
  await etcd.start();
  await more(1000, 180_000);
  await h2.net('ip', 'link', 'set', 'eth0', 'down');
  await more(1000, 180_000);
  await h3.killPlugin('SIGKILL');
  await h3.startPlugin();
  await more(500, 180_000);
  await h2.net('ip', 'link', 'set', 'eth0', 'up');
  await h1.killPlugin('SIGKILL');
  await etcd.kill();
  await h1.startPlugin();
  await more(300, 180_000);
  await etcd.start();
  await until(`${WANTED} allocations`, 300_000, () => model.allocations >= WANTED || undefined);
}

t.test('three hosts and one etcd', async (t) => {
  const lab = await openLab(t);
  const store = await lab.peer({ name: 'store' });
  const etcd = new EtcdHost(store);
  await etcd.start();
  const hosts = await Promise.all(
    ['h1', 'h2', 'h3'].map((name) =>
      lab.bareHost({ name, arguments: ['--cluster', `etcd://${store.address}:2379`, '--log-level', 'info'] }),
    ),
  );
  const [h1, h2] = hosts as [CnmHost, CnmHost, CnmHost];
  await etcd.hasHosts(hosts.length);

  await t.test('O13 60 starts at once: unique addresses, one gateway', (t) => sixty(t, hosts));

  await t.test('10,000 allocations while all of it fails: none twice, none lost', async (t) => {
    const pool = { AddressSpace: 'cnm-global', Pool: POOL, SubPool: '', Options: { rest: '0' }, V6: false };
    for (const host of hosts) await ipam(host, 'RequestPool', pool);
    const model = new Model();
    const churns = hosts.map((host) => new Churn(host, model));
    try {
      await troubles(hosts, etcd, model);
    } finally {
      await Promise.all(churns.map((churn) => churn.stop()));
    }
    t.same(model.doubles, []);
    t.ok(
      model.allocations >= WANTED,
      `${model.allocations} allocations, ${churns.map(({ refused }) => refused).join(' ')} refused`,
    );
    const all: string[] = [];
    for (const host of hosts) {
      const has = await leased(host);
      const lost = [...model.owner].filter(
        ([address, owner]) => owner === host.name && !has.includes(address),
      );
      t.same(lost, [], `all that was answered is leased on ${host.name}`);
      // What was asked for when the daemon was killed may be leased and not answered: it is in nobody else's hands.
      all.push(...has);
    }
    t.equal(new Set(all).size, all.length, 'no two hosts have the same');
    let states: readonly string[] = [];
    await until('all to be in the cluster again', 60_000, async () => {
      const { hosts: seen } = await h1.admin<ClusterSummary>('GET', '/v1/ipam/hosts');
      states = seen.map(({ state }) => state).sort();
      return !states.includes('away') || undefined;
    });
    t.same(states, ['self', 'there', 'there']);
  });

  await t.test('the command tells of it', async (t) => {
    t.match(await h1.cnm('ipam', 'hosts'), /etcd:\/\/198\.51\.100\.10:2379 answers[^]*this host[^]*there/);
    t.match(
      await h1.cnm('ipam', 'ls'),
      /10\.71\.0\.0\/16 +cnm-global[^]*HOSTS HOLD|HOSTS HOLD[^]*10\.71\.0\.0\/16 +cnm-global/,
    );
    const [theirs = ''] = await leased(h2);
    t.match(await h1.cnm('ipam', 'show', theirs), /cluster +the host h2/);
    const { findings } = await h1.admin<AuditView>('GET', '/v1/ipam/check');
    t.same(
      findings.filter(({ kind }) => kind === 'double'),
      [],
    );
    const refused = await h1.tryCnm('ipam', 'release', '--host', 'nobody');
    t.match(refused.stderr, /No host "nobody"/);
  });

  await t.test('a host that is lost: what it held is kept, and freed by hand', async (t) => {
    const kept = await leased(h2);
    await h2.powerOff();
    const away = await until('it to be away', 60_000, async () => {
      const { hosts: seen } = await h1.admin<ClusterSummary>('GET', '/v1/ipam/hosts');
      return seen.find(({ state }) => state === 'away');
    });
    const named = { PoolID: POOL_ID, Address: kept[0], Options: null };
    await t.rejects(ipam(h1, 'RequestAddress', named), {
      message: /is held by the host .*away.*cnm ipam release --host/,
    });
    await h1.cnm('ipam', 'release', '--host', away.id);
    t.equal((await ipam(h1, 'RequestAddress', named)).Address, `${kept[0] ?? ''}/16`);
  });

  await t.test('all away again, and nothing is left in etcd', async (t) => {
    for (const host of hosts.filter((one) => one !== h2)) {
      await ipam(host, 'ReleasePool', { PoolID: POOL_ID });
      for (let n = 0; n < 20; n++) await host.admin('DELETE', `/v1/sandboxes/s${n}`);
      await host.admin('DELETE', '/v1/networks/net');
    }
    // What could not be told at once is told every 30 s.
    await until('etcd to forget the pools', 90_000, async () => {
      const left = (await etcd.keys('/cnm/ipam/')).filter((key) => /pool\/|block|batch|ask/.test(key));
      return left.length === 0 || undefined;
    });
    for (const host of hosts.filter((one) => one !== h2)) await host.killPlugin('SIGTERM');
    t.same(await etcd.keys('/cnm/ipam/host/'), [], 'a daemon that stops says so');
  });
});
