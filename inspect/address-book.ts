/** What the IPAM has given and to whom, the audit of it, and the release of what an audit found. */
import { ipValue, parseIp, type Ip } from '../address/ip.ts';
import { addressOf, contains, networkOf } from '../address/prefix.ts';
import type { Cnm, EngineNetwork, EngineView } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Ipam, PoolView, SharedPoolView } from '../ipam/ipam.ts';
import { unusable } from '../ipam/policy.ts';
import { poolOptions } from '../ipam/options.ts';
import type { Facts } from '../kernel/facts.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { audit } from './ipam-audit.ts';
import { quote } from './refs.ts';
import type { Standalone } from './standalone.ts';
import { endpointSummary, type Names, networkName } from './summaries.ts';
import type {
  AddressState,
  AddressView,
  AuditView,
  ClusterSummary,
  FindingView,
  Named,
  PoolSummary,
  ReleaseView,
  SharedPoolSummary,
} from './views.ts';

export interface AddressBookOptions {
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly kernel: Kernel;
  readonly standalone: Standalone;
  readonly engine?: EngineView;
  /** Files of all namespaces that a container may live in. */
  readonly namespaces?: () => readonly string[];
  readonly names: () => Promise<Names>;
}

/** A lease that is younger may still be on its way to its endpoint: Docker asks for both, one after the other. */
const SETTLED_MS = 60_000;

export class AddressBook {
  readonly #options: AddressBookOptions;

  constructor(options: AddressBookOptions) {
    this.#options = options;
  }

  async pools(): Promise<readonly PoolSummary[]> {
    const names = await this.#options.names();
    return this.#options.ipam.pools().map((pool) => summaryOf(pool, this.#network(pool, names)));
  }

  /** All leases of a pool, and the addresses that were held lately. @throws CnmError `pool-unknown`. */
  async leases(ref: string): Promise<readonly AddressView[]> {
    const names = await this.#options.names();
    const pools = this.#pools().filter(({ poolId, pool }) => poolId === ref || pool === ref);
    if (pools.length === 0)
      throw new CnmError('pool-unknown', `There is no pool ${quote(ref)}: cnm ipam ls lists them`);
    return pools.flatMap((pool) => [
      ...pool.leases.map(({ address }) => this.#address(pool, address, names)),
      ...pool.formers.map(({ address }) => this.#address(pool, address, names)),
    ]);
  }

  /** What is known of an address in every pool that has it. @throws CnmError `address-invalid`, `pool-unknown`. */
  async show(text: string): Promise<readonly AddressView[]> {
    const address = parseIp(text);
    if (address === undefined)
      throw new CnmError(
        'address-invalid',
        `${quote(text)} is not an IP address: write it as 10.1.0.2 or fd00::2`,
      );
    const pools = this.#pools().filter(({ pool }) => contains(pool, address));
    if (pools.length === 0)
      throw new CnmError('pool-unknown', `No pool has the address ${address}: cnm ipam ls lists the pools`);
    const names = await this.#options.names();
    const seenIn = liveIn(await this.#facts()).get(address) ?? [];
    // Of several ranges of one pool, the one that holds it; else all.
    const holding = pools.filter(({ leases }) => leases.some((lease) => lease.address === address));
    return (holding.length > 0 ? holding : pools).map((pool) => ({
      ...this.#address(pool, address, names),
      seenIn,
    }));
  }

  /** Looks at everything and changes nothing. */
  async check(): Promise<AuditView> {
    const { cnm, standalone, engine } = this.#options;
    const now = Date.now();
    const [facts, listed] = await Promise.all([this.#facts(), engine?.networks()]);
    const pools = this.#pools();
    const usesDocker = pools.some(({ owner }) => owner === undefined);
    const findings = audit({
      pools,
      networks: cnm.networks(),
      endpoints: cnm.endpoints(),
      ...(listed !== undefined && { listed }),
      live: liveIn(facts),
      routes: facts.host.routes,
      leaks: standalone.leaks(),
      olderThan: now - SETTLED_MS,
    });
    const silent = usesDocker && listed === undefined;
    const docker = silent ? ['Docker did not answer: what it has forgotten cannot be told'] : [];
    const notes = [...docker, ...clusterNotes(this.cluster(), pools)];
    return { checkedAt: new Date(now).toISOString(), healthy: findings.length === 0, findings, notes };
  }

  /** Only what a check of this moment finds again, of the same lease. */
  async release(asked: readonly FindingView[]): Promise<ReleaseView> {
    const { ipam } = this.#options;
    const current = (await this.check()).findings;
    const released: FindingView[] = [];
    const kept: { finding: FindingView; why: string }[] = [];
    for (const finding of asked) {
      const { kind, poolId, address } = finding;
      if (kind !== 'leak') {
        kept.push({ finding, why: `it is no leak but: ${kind}` });
      } else if (!current.some((one) => isSame(one, finding))) {
        kept.push({ finding, why: 'it is no leak any more' });
      } else {
        await (address === undefined ? ipam.releasePool(poolId) : ipam.releaseAddress(poolId, address));
        released.push(finding);
      }
    }
    return { released, kept };
  }

  cluster(): ClusterSummary {
    const { cluster } = this.#options.ipam;
    if (cluster === undefined) return { reachable: false, hosts: [] };
    const { name, reachable, trouble, hosts } = cluster;
    return { store: name, reachable, ...(trouble !== '' && { trouble }), hosts };
  }

  /** Frees what a host holds that is gone for good. @throws CnmError. */
  async forgetHost(host: string): Promise<ClusterSummary> {
    const { cluster } = this.#options.ipam;
    if (cluster === undefined)
      throw new CnmError('request-invalid', 'This host is in no cluster: cnmd --cluster says which');
    const known = cluster.hosts.find(({ id }) => id === host);
    // What holds no addresses any more cannot be asked for again: they go last. Some never had any.
    const isAway = known === undefined || known.state === 'away';
    const hadNetworks = isAway && (await this.#options.cnm.forgetHost(host));
    if (known !== undefined || !hadNetworks) await cluster.forget(host);
    return this.cluster();
  }

  /** With their lists made once. */
  #pools(): readonly PoolView[] {
    return this.#options.ipam.pools().map((pool) => ({ ...pool }));
  }

  #facts(): Promise<Facts> {
    return this.#options.kernel.facts({ firewall: false, netns: this.#options.namespaces?.() ?? [] });
  }

  #network({ poolId, pool, owner }: PoolView, names: Names): Named | undefined {
    const ours = this.#options.cnm
      .networks()
      .find(
        ({ id, pools, ipv4, ipv6 }) =>
          id === owner ||
          pools?.includes(poolId) === true ||
          [...ipv4, ...ipv6].some((subnet) => networkOf(subnet.pool) === pool),
      );
    if (ours !== undefined) return networkName(ours.id, names);
    const listed = names.engine.find(({ subnets = [] }) =>
      subnets.some((one) => networkOf(one.pool) === pool),
    );
    return listed && { id: listed.id, name: listed.name };
  }

  #address(pool: PoolView, address: Ip, names: Names): AddressView {
    const lease = pool.leases.find((one) => one.address === address);
    const former = pool.formers.find((one) => one.address === address);
    const since = lease?.since ?? former?.freed;
    const name = lease?.name ?? former?.name;
    const network = this.#network(pool, names);
    const heldBy = pool.shared?.holder(address);
    const holder = lease?.purpose === 'endpoint' ? this.#holder(address, network, names) : undefined;
    return {
      poolId: pool.poolId,
      address,
      state: lease?.purpose ?? freeState(pool, address),
      ...(name !== undefined && { name }),
      ...(network && { network }),
      ...(holder && { holder }),
      ...(heldBy !== undefined && { heldBy }),
      ...(since !== undefined && { since: new Date(since).toISOString() }),
    };
  }

  #holder(address: Ip, network: Named | undefined, names: Names): Named | undefined {
    const endpoint = this.#options.cnm
      .endpoints(network?.id)
      .find((one) => [one.address, one.addressV6].some((prefix) => prefix && addressOf(prefix) === address));
    if (endpoint !== undefined) {
      const { id, name } = endpointSummary(endpoint, names);
      return { id, ...(name !== undefined && { name }) };
    }
    const listed = engineEndpoint(names.engine, address, network?.id);
    return listed && { id: listed.id, name: listed.container };
  }
}

function engineEndpoint(engine: readonly EngineNetwork[], address: Ip, network: string | undefined) {
  return engine
    .filter(({ id }) => network === undefined || id === network)
    .flatMap(({ endpoints }) => endpoints)
    .find(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address);
}

function summaryOf(view: PoolView, network: Named | undefined): PoolSummary {
  const { poolId, space, pool, subPool, options } = view;
  const { choosable, free, used, resting, reserved } = view.usage;
  const { shared } = view;
  return {
    poolId,
    space,
    pool,
    ...(subPool !== undefined && { range: subPool }),
    ...(network && { network }),
    options,
    choosable: Number(choosable),
    free: Number(free),
    used,
    resting,
    reserved: Number(reserved),
    ...(shared !== undefined && { cluster: sharedSummary(shared) }),
  };
}

function sharedSummary({ unheld, held }: SharedPoolView): SharedPoolSummary {
  return {
    unheld: Number(unheld),
    held: Object.fromEntries([...held].map(([host, count]) => [host, Number(count)])),
  };
}

/** What may be behind the findings, and no finding of itself. */
function clusterNotes(
  { store = '', reachable, trouble, hosts }: ClusterSummary,
  pools: readonly PoolView[],
): readonly string[] {
  if (store === '') return [];
  const cut = reachable ? [] : [`${store} does not answer: what is known of the cluster may be old`];
  const out = trouble === undefined ? [] : [`This host is not in the cluster: ${trouble}`];
  const away = hosts.flatMap(({ id, state }) => {
    if (state !== 'away') return [];
    const held = pools.reduce((sum, { shared }) => sum + (shared?.held.get(id) ?? 0n), 0n);
    return [
      `The host ${id} is away, and ${held} addresses of this host's pools are kept for it. When it is gone for good: cnm ipam release --host ${id}`,
    ];
  });
  return [...cut, ...out, ...away];
}

function freeState({ pool, subPool, formers, options }: PoolView, address: Ip): AddressState {
  if (unusable(pool, address) !== undefined) return 'unusable';
  if (formers.find((one) => one.address === address)?.resting === true) return 'resting';
  if (subPool !== undefined && !contains(subPool, address)) return 'reserved';
  const value = ipValue(address);
  const { reserved } = poolOptions(pool, options);
  return reserved.some(({ first, last }) => first <= value && value <= last) ? 'reserved' : 'free';
}

function liveIn({ host, netns }: Facts): ReadonlyMap<Ip, readonly string[]> {
  const live = new Map<Ip, string[]>();
  for (const [where, { addresses }] of [['host', host] as const, ...netns]) {
    for (const address of new Set(addresses.map(({ prefix }) => addressOf(prefix))))
      live.set(address, [...(live.get(address) ?? []), where]);
  }
  return live;
}

function isSame(a: FindingView, b: FindingView): boolean {
  return a.kind === b.kind && a.poolId === b.poolId && a.address === b.address && a.since === b.since;
}
