/** Keeps the zone equal to the records of networks and endpoints, and to what Docker says that its containers are called. */
import { addressOf } from '../address/prefix.ts';
import { dnsServers } from '../cnm/dns-options.ts';
import type { Cnm, EngineContainer, EngineNews, RecordChange } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { EndpointRecord } from '../cnm/model.ts';
import { containerPorts, protocolName } from '../cnm/ports.ts';
import type { PoolView } from '../ipam/ipam.ts';
import type { ZoneHost, ZonePort } from './record.ts';
import { Elsewhere, type OtherNews } from './elsewhere.ts';
import type { Zone } from './zone.ts';

export interface FeedParts {
  readonly cnm: Cnm;
  readonly zone: Zone;
  readonly log: Log;
  /** Its leases have names where Docker (from Engine 29 on) tells them: earlier than its events do. */
  readonly ipam?: { pools(): readonly Pick<PoolView, 'pool' | 'leases'>[] };
}

export class Feed {
  readonly #parts: FeedParts;
  readonly #elsewhere: Elsewhere;
  readonly #networkNames = new Map<string, string>();
  readonly #containers = new Map<string, EngineContainer>();
  /** Containers by endpoint. */
  readonly #byEndpoint = new Map<string, EngineContainer>();
  readonly #stopping = new Set<string>();
  /** What has been warned of. */
  readonly #unfit = new Set<string>();

  constructor(parts: FeedParts) {
    this.#parts = parts;
    const { cnm, zone } = parts;
    this.#elsewhere = new Elsewhere(zone, (network, id) => cnm.endpoint(network, id) !== undefined);
  }

  /** Everything that there is. */
  load(): void {
    for (const { id } of this.#parts.cnm.networks()) this.change({ what: 'network', id });
  }

  /** After a change of a record. */
  change(change: RecordChange): void {
    const { cnm } = this.#parts;
    if (change.what === 'network') this.#putNetwork(change.id);
    else if (change.what === 'endpoint') this.#putEndpoint(change.network, change.id);
    // A sandbox's name is its endpoints'; it does not change while they are there.
    else if (change.what === 'sandbox')
      for (const one of cnm.endpoints())
        if (one.attachment?.key === change.id) this.#putEndpoint(one.network, one.id);
  }

  /** What Docker told. */
  hear(news: EngineNews): void {
    switch (news.what) {
      case 'all':
        this.#forgetAllBut(new Set(news.containers.map(({ id }) => id)));
        for (const { id, name } of news.networks) this.#nameNetwork(id, name);
        for (const container of news.containers) this.#learn(container);
        return;
      case 'network':
        this.#nameNetwork(news.id, news.name);
        return;
      case 'container':
        this.#stopping.delete(news.container.id);
        this.#learn(news.container);
        return;
      case 'stopping':
        this.#stopping.add(news.id);
        this.#refresh(this.#containers.get(news.id));
        return;
      case 'gone':
        this.#forget(news.id);
    }
  }

  /** What the other hosts have. */
  hearOthers(news: OtherNews): void {
    this.#elsewhere.hear(news);
  }

  #nameNetwork(id: string, name: string): void {
    this.#networkNames.set(id, name);
    this.#putNetwork(id, false);
  }

  #learn(container: EngineContainer): void {
    this.#unlearn(container.id);
    this.#containers.set(container.id, container);
    for (const { id } of container.endpoints) this.#byEndpoint.set(id, container);
    this.#refresh(container);
  }

  #forget(id: string): void {
    const former = this.#containers.get(id);
    this.#unlearn(id);
    this.#stopping.delete(id);
    this.#refresh(former);
  }

  #unlearn(id: string): void {
    for (const endpoint of this.#containers.get(id)?.endpoints ?? []) this.#byEndpoint.delete(endpoint.id);
    this.#containers.delete(id);
  }

  #forgetAllBut(living: ReadonlySet<string>): void {
    for (const id of this.#containers.keys()) if (!living.has(id)) this.#forget(id);
  }

  #refresh(container: EngineContainer | undefined): void {
    for (const { network, id } of container?.endpoints ?? []) this.#putEndpoint(network, id);
  }

  #putNetwork(id: string, endpoints = true): void {
    const { cnm, zone } = this.#parts;
    const record = cnm.network(id);
    if (record?.state !== 'ready') {
      zone.dropNetwork(id);
      if (record === undefined) this.#networkNames.delete(id);
      return;
    }
    const name = record.name ?? this.#networkNames.get(id);
    zone.putNetwork({
      id,
      ...(name !== undefined && { name }),
      internal: record.internal,
      subnets: [...record.ipv4, ...record.ipv6].map(({ pool }) => pool),
      upstreams: dnsServers(record.options),
    });
    if (!endpoints) return;
    for (const endpoint of cnm.endpoints(id)) this.#putEndpoint(id, endpoint.id);
    this.#elsewhere.putNetwork(id);
  }

  #putEndpoint(network: string, id: string): void {
    const record = this.#parts.cnm.endpoint(network, id);
    const host = record === undefined ? undefined : this.#hostOf(record);
    if (record === undefined && this.#elsewhere.takeBack(network, id)) return;
    if (host === undefined) this.#parts.zone.dropHost(network, id);
    else for (const name of this.#parts.zone.putHost(host)) this.#warn(name, network, id);
    if (record !== undefined) this.#introduce(network, id, host);
  }

  /** The other hosts of the network are told what its endpoint is called here. */
  #introduce(network: string, id: string, host: ZoneHost | undefined): void {
    const { names = [], ports = [] } = host ?? {};
    const texts = ports.map(({ port, proto }) => `${port}/${proto}`);
    this.#parts.cnm.introduce(network, id, { names, ports: texts });
  }

  /** Undefined while it is on its way in or out. */
  #hostOf(record: EndpointRecord): ZoneHost | undefined {
    const { id, network, state, attachment, address, addressV6 } = record;
    if (state !== 'ready' || attachment?.state !== 'ready') return undefined;
    const container = this.#byEndpoint.get(id);
    const leaving = container !== undefined && this.#stopping.has(container.id);
    return {
      id,
      network,
      owner: attachment.key,
      names: leaving ? [] : this.#namesOf(record, container),
      addresses: leaving
        ? []
        : [address, addressV6].flatMap((one) => (one === undefined ? [] : [addressOf(one)])),
      ports: attachment.kind === 'cnm' ? publishedPorts(record) : containerPorts(container?.ports ?? []),
    };
  }

  #namesOf(record: EndpointRecord, container: EngineContainer | undefined): readonly string[] {
    const { attachment, name, aliases = [] } = record;
    if (attachment?.kind === 'cnm')
      return [...(name === undefined ? [] : [name]), ...aliases, attachment.key.slice(0, 12)];
    if (container === undefined) return this.#leaseNames(record);
    const own = container.endpoints.filter(({ id }) => id === record.id).flatMap((one) => one.aliases);
    const hostname = container.hostname === '' ? [] : [container.hostname];
    return [...new Set([container.name, ...own, container.id.slice(0, 12), ...hostname])];
  }

  #leaseNames({ network, address }: EndpointRecord): readonly string[] {
    const own = address === undefined ? undefined : addressOf(address);
    const subnets = this.#parts.cnm.network(network)?.ipv4.map(({ pool }) => pool) ?? [];
    const pools = (this.#parts.ipam?.pools() ?? []).filter(({ pool }) => subnets.includes(pool));
    return pools.flatMap(({ leases }) =>
      leases.flatMap((lease) => (lease.address === own && lease.name !== undefined ? [lease.name] : [])),
    );
  }

  #warn(name: string, network: string, endpoint: string): void {
    const key = `${network} ${endpoint} ${name}`;
    if (this.#unfit.has(key)) return;
    if (this.#unfit.size > 1000) this.#unfit.clear();
    this.#unfit.add(key);
    const about = { name, network: network.slice(0, 12), endpoint: endpoint.slice(0, 12) };
    this.#parts.log.warn(
      about,
      'no domain name, and left out of the DNS: labels have 1 to 63 bytes and no spaces, commas or semicolons',
    );
  }
}

function publishedPorts({ external }: EndpointRecord): readonly ZonePort[] {
  const texts = (external?.published ?? []).map(({ proto, port }) => `${port}/${protocolName(proto)}`);
  // Published on several addresses it is one port of the container's.
  return containerPorts([...new Set(texts)]);
}
