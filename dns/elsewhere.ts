/**
 * Names of endpoints that are on other hosts, beside those of the records here. Whoever knows the other hosts tells of them, by the ids that
 * networks have here; they are kept, too, for networks that are not there yet.
 */
import type { EndpointId, NetworkId } from '../cnm/model.ts';
import type { ZoneHost } from './record.ts';
import type { Zone } from './zone.ts';

/** To be built by whoever knows the other hosts. */
export interface OtherHosts {
  /** Everything first, and again whenever something may have been missed; then what changes. Returns the way to stop. */
  follow(listener: (news: OtherNews) => void): () => void;
}

/** A host's `owner` is the same for all endpoints of one container or sandbox, and no other's on any host. */
export type OtherNews =
  | { readonly what: 'all'; readonly hosts: readonly ZoneHost[] }
  | { readonly what: 'host'; readonly host: ZoneHost }
  | { readonly what: 'gone'; readonly network: NetworkId; readonly id: EndpointId };

export class Elsewhere {
  readonly #zone: Zone;
  readonly #isHere: (network: NetworkId, id: EndpointId) => boolean;
  /** By network, by endpoint. */
  readonly #hosts = new Map<NetworkId, Map<EndpointId, ZoneHost>>();

  /** @param isHere whether there is a record of an endpoint here: then that is the truth */
  constructor(zone: Zone, isHere: (network: NetworkId, id: EndpointId) => boolean) {
    this.#zone = zone;
    this.#isHere = isHere;
  }

  hear(news: OtherNews): void {
    switch (news.what) {
      case 'all': {
        const living = new Set(news.hosts.map(({ network, id }) => `${network} ${id}`));
        for (const [network, hosts] of this.#hosts)
          for (const id of hosts.keys()) if (!living.has(`${network} ${id}`)) this.#forget(network, id);
        for (const host of news.hosts) this.#learn(host);
        return;
      }
      case 'host':
        this.#learn(news.host);
        return;
      case 'gone':
        this.#forget(news.network, news.id);
    }
  }

  /** A network that the zone has just come to know. */
  putNetwork(network: NetworkId): void {
    for (const host of this.#hosts.get(network)?.values() ?? []) this.#put(host);
  }

  /** An endpoint that has left this host; true when it is known to be on another one, and is still in the zone. */
  takeBack(network: NetworkId, id: EndpointId): boolean {
    const host = this.#hosts.get(network)?.get(id);
    if (host !== undefined) this.#zone.putHost(host);
    return host !== undefined;
  }

  #learn(host: ZoneHost): void {
    const hosts = this.#hosts.get(host.network) ?? new Map<EndpointId, ZoneHost>();
    this.#hosts.set(host.network, hosts.set(host.id, host));
    this.#put(host);
  }

  #put(host: ZoneHost): void {
    if (!this.#isHere(host.network, host.id)) this.#zone.putHost(host);
  }

  #forget(network: NetworkId, id: EndpointId): void {
    const hosts = this.#hosts.get(network);
    if (hosts?.delete(id) !== true) return;
    if (hosts.size === 0) this.#hosts.delete(network);
    if (!this.#isHere(network, id)) this.#zone.dropHost(network, id);
  }
}
