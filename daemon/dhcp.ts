/** The leases of DHCP servers as the daemon runs them: they follow the records of endpoints, and what Docker calls its containers. */
import type { Cnm, EngineContainer, EngineNames, EngineNews } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import { createDhcpLeases, type DhcpLeases, type LeaseView } from '../ipam/dhcp/leases.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Store } from '../store/store.ts';

export function openLeases(store: Store, kernel: Kernel, log: Log): DhcpLeases {
  return createDhcpLeases({ store, log, tap: (link, port) => kernel.tapLink(link, port) });
}

export interface DhcpParts {
  readonly leases: DhcpLeases;
  readonly cnm: Cnm;
  readonly engine: EngineNames;
  readonly log: Log;
}

export interface Dhcp {
  /** When records and kernel agree. */
  start(): Promise<void>;
  lease(network: string, endpoint: string): LeaseView | undefined;
  close(): Promise<void>;
}

export function createDhcp(parts: DhcpParts): Dhcp {
  return new Service(parts);
}

const LATER = 'a lease cannot be given back yet';

class Service implements Dhcp {
  readonly #parts: DhcpParts;
  /** Endpoints that a container has, or had when it was last looked at. */
  readonly #byContainer = new Map<string, readonly string[]>();
  #stops: (() => void)[] = [];

  constructor(parts: DhcpParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { leases, cnm, engine } = this.#parts;
    await leases.start(
      (network, id) => cnm.endpoint(network, id) !== undefined,
      (network, id, leased) => {
        if (cnm.endpoint(network, id)?.address === leased.address) return;
        this.#quietly('a container cannot have its other address', cnm.readdress(network, id, leased));
      },
    );
    this.#stops = [
      cnm.watch((change) => {
        if (change.what === 'endpoint' && cnm.endpoint(change.network, change.id) === undefined)
          this.#quietly(LATER, leases.giveBack(change.network, change.id));
      }),
      engine.follow((news) => {
        this.#hear(news);
      }),
    ];
  }

  lease(network: string, endpoint: string): LeaseView | undefined {
    return this.#parts.leases.views().find((one) => one.network === network && one.endpoint === endpoint);
  }

  #hear(news: EngineNews): void {
    if (news.what === 'all') for (const container of news.containers) this.#name(container);
    else if (news.what === 'container') this.#name(news.container);
    else if (news.what === 'gone' && news.removed === true) {
      for (const endpoint of this.#byContainer.get(news.id) ?? [])
        this.#quietly(LATER, this.#parts.leases.over(endpoint));
      this.#byContainer.delete(news.id);
    }
  }

  /** The host name, where somebody chose it: without one Docker takes the first digits of the id, which nobody looks for. */
  #name({ id, name, hostname, endpoints }: EngineContainer): void {
    const ids = endpoints.map((endpoint) => endpoint.id);
    this.#byContainer.set(id, [...new Set([...(this.#byContainer.get(id) ?? []), ...ids])].slice(-8));
    const hostName = hostname === '' || id.startsWith(hostname) ? name : hostname;
    for (const endpoint of ids) this.#parts.leases.named(endpoint, hostName);
  }

  #quietly(what: string, work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.#parts.log.error({ error: String(error) }, what);
    });
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop();
    await this.#parts.leases.close();
  }
}
