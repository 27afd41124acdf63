/**
 * Who is known by which name, network by network: an index in memory, changed one endpoint at a time. A name is seen only from the
 * networks on which it is; the first network of a view that knows it wins, as with Docker's resolver.
 */
import { type Ip, familyOf, ipBytes } from '../address/ip.ts';
import { contains, type Prefix } from '../address/prefix.ts';
import { type NameKey, nameKey, parentOf } from './name.ts';
import type { ZoneHost, ZoneNetwork } from './record.ts';
import { isTopLevelDomain } from './top-level.ts';

/** An endpoint as answers are made from it. */
export interface Member {
  readonly host: ZoneHost;
  /** Host byte order. */
  readonly v4: readonly number[];
  readonly v6: readonly Uint8Array[];
  readonly keys: readonly NameKey[];
}

/** One network's own names. */
export class NetworkZone {
  readonly id: string;
  network: ZoneNetwork;
  /** Its name as a suffix; undefined when it has none, or none that can be a domain name (one of 115 characters is a name for Docker). */
  suffix: NameKey | undefined;
  /** By endpoint id. */
  readonly members = new Map<string, Member>();
  readonly names = new Map<NameKey, Member | readonly Member[]>();
  readonly addresses = new Map<Ip, Member>();

  constructor(network: ZoneNetwork) {
    this.id = network.id;
    this.network = network;
    this.suffix = suffixOf(network);
  }
}

function suffixOf({ name }: ZoneNetwork): NameKey | undefined {
  return name === undefined ? undefined : nameKey(name);
}

/** From where names are seen: the networks of one sandbox, one network, or all (the host itself). */
export interface View {
  readonly networks: readonly NetworkZone[];
}

export interface Found {
  readonly zone: NetworkZone;
  readonly members: readonly Member[];
  /** The name without its network's: what the members go by. */
  readonly name: NameKey;
  readonly qualified: boolean;
}

const NOBODY: readonly Member[] = [];

export class Zone {
  readonly #networks = new Map<string, NetworkZone>();
  /** By suffix: names of networks need not be unique. */
  readonly #suffixes = new Map<NameKey, readonly NetworkZone[]>();
  /** Networks by owner, in the order in which it joined them. */
  readonly #owners = new Map<string, readonly NetworkZone[]>();

  putNetwork(network: ZoneNetwork): void {
    const zone = this.#networks.get(network.id) ?? new NetworkZone(network);
    this.#networks.set(network.id, zone);
    this.#unlist(zone);
    zone.network = network;
    zone.suffix = suffixOf(network);
    if (zone.suffix === undefined) return;
    this.#suffixes.set(zone.suffix, [...(this.#suffixes.get(zone.suffix) ?? []), zone]);
  }

  /** With all who are on it. */
  dropNetwork(id: string): void {
    const zone = this.#networks.get(id);
    if (zone === undefined) return;
    for (const endpoint of [...zone.members.keys()]) this.dropHost(id, endpoint);
    this.#unlist(zone);
    this.#networks.delete(id);
  }

  #unlist(zone: NetworkZone): void {
    if (zone.suffix === undefined) return;
    const left = (this.#suffixes.get(zone.suffix) ?? []).filter((one) => one !== zone);
    if (left.length === 0) this.#suffixes.delete(zone.suffix);
    else this.#suffixes.set(zone.suffix, left);
  }

  /**
   * In the place of what was known of this endpoint. A network that is not known is ignored.
   * @returns the names that cannot be domain names, and are left out
   */
  putHost(host: ZoneHost): readonly string[] {
    const zone = this.#networks.get(host.network);
    if (zone === undefined) return [];
    const former = zone.members.get(host.id);
    if (former !== undefined) unindex(zone, former);
    const member = memberOf(host);
    index(zone, member);
    if (former?.host.owner !== host.owner) {
      if (former !== undefined) this.#leave(former.host.owner, zone);
      this.#owners.set(host.owner, [...(this.#owners.get(host.owner) ?? []), zone]);
    }
    return host.names.filter((name) => nameKey(name) === undefined);
  }

  dropHost(network: string, id: string): void {
    const zone = this.#networks.get(network);
    const member = zone?.members.get(id);
    if (zone === undefined || member === undefined) return;
    unindex(zone, member);
    this.#leave(member.host.owner, zone);
  }

  #leave(owner: string, zone: NetworkZone): void {
    const networks = [...(this.#owners.get(owner) ?? [])];
    const at = networks.indexOf(zone);
    if (at >= 0) networks.splice(at, 1);
    if (networks.length === 0) this.#owners.delete(owner);
    else this.#owners.set(owner, networks);
  }

  networks(): readonly NetworkZone[] {
    return [...this.#networks.values()];
  }

  network(id: string): NetworkZone | undefined {
    return this.#networks.get(id);
  }

  /** What a sandbox or container sees: nothing when it is on no network. */
  viewOf(owner: string): View {
    return { networks: this.#owners.get(owner) ?? [] };
  }

  /** What is seen by whoever has this address on a network: all that its owner sees, or the network when nobody is known by it. */
  viewFrom(network: string, address: Ip | undefined): View {
    const zone = this.#networks.get(network);
    if (zone === undefined) return { networks: [] };
    const owner = address === undefined ? undefined : zone.addresses.get(address)?.host.owner;
    return owner === undefined ? { networks: [zone] } : this.viewOf(owner);
  }

  /** Everything. */
  hostView(): View {
    return { networks: this.networks() };
  }

  /** As a name of a network of the view; else as `name.network`, the shortest name of a network first (`a.b` in `c` before `a` in `b.c`). */
  find({ networks }: View, key: NameKey): Found | undefined {
    for (const zone of networks) {
      const members = named(zone, key);
      if (members.length > 0) return { zone, members, name: key, qualified: false };
    }
    return this.#findQualified(networks, key);
  }

  #findQualified(networks: readonly NetworkZone[], key: NameKey): Found | undefined {
    let found: Found | undefined;
    for (let suffix = parentOf(key); suffix !== ''; suffix = parentOf(suffix)) {
      for (const zone of this.#suffixes.get(suffix) ?? []) {
        const name = key.slice(0, key.length - suffix.length);
        const members = networks.includes(zone) ? named(zone, name) : NOBODY;
        // The last suffix is the shortest.
        if (members.length > 0) found = { zone, members, name, qualified: true };
      }
    }
    return found;
  }

  /** Who has an address, among those that the view shows. */
  findAddress({ networks }: View, address: Ip): { zone: NetworkZone; member: Member } | undefined {
    for (const zone of networks) {
      const member = zone.addresses.get(address);
      if (member !== undefined) return { zone, member };
    }
    return undefined;
  }

  /** The subnet of ours, of any network, that an address is in. */
  subnetOf(address: Ip): Prefix | undefined {
    const family = familyOf(address);
    for (const { network } of this.#networks.values()) {
      const subnet = network.subnets.find(
        (one) => one.includes(':') === (family === 6) && contains(one, address),
      );
      if (subnet !== undefined) return subnet;
    }
    return undefined;
  }

  /**
   * The name of a network, of ours but not necessarily of the view, that a name is inside of or equal to: nobody else knows names in there.
   * A network that is called like a top-level domain of the internet (`app`, `dev`) does not take that domain away.
   */
  suffixAround(key: NameKey): NameKey | undefined {
    for (let suffix = key; suffix !== ''; suffix = parentOf(suffix)) {
      if (this.#suffixes.has(suffix) && !isTopLevelDomain(suffix)) return suffix;
    }
    return undefined;
  }
}

function memberOf(host: ZoneHost): Member {
  const keys = host.names.map(nameKey).filter((key) => key !== undefined);
  const bytes = host.addresses.map(ipBytes);
  return {
    host,
    v4: bytes.filter(({ length }) => length === 4).map((four) => Buffer.from(four).readUInt32BE()),
    v6: bytes.filter(({ length }) => length === 16),
    keys: [...new Set(keys)],
  };
}

function named(zone: NetworkZone, key: NameKey): readonly Member[] {
  const held = zone.names.get(key);
  if (held === undefined) return NOBODY;
  return 'host' in held ? [held] : held;
}

function index(zone: NetworkZone, member: Member): void {
  zone.members.set(member.host.id, member);
  for (const key of member.keys) {
    const others = named(zone, key);
    zone.names.set(key, others.length === 0 ? member : [...others, member]);
  }
  // The newest: who had the address before is gone, or goes.
  for (const address of member.host.addresses) zone.addresses.set(address, member);
}

function unindex(zone: NetworkZone, member: Member): void {
  zone.members.delete(member.host.id);
  for (const key of member.keys) {
    const [first, ...rest] = named(zone, key).filter((one) => one !== member);
    if (first === undefined) zone.names.delete(key);
    else zone.names.set(key, rest.length === 0 ? first : [first, ...rest]);
  }
  for (const address of member.host.addresses) {
    if (zone.addresses.get(address) === member) zone.addresses.delete(address);
  }
}
