/** Reads records, facts and names and hands them to the pure views. Changes nothing, except in `fix`. */
import type { Ip } from '../address/ip.ts';
import type { Cnm, Difference, EngineNetwork, EngineView } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { EndpointRecord, NetworkRecord, SandboxRecord } from '../cnm/model.ts';
import { wholeNetwork } from '../cnm/plans.ts';
import type { LeaseView } from '../ipam/dhcp/leases.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { endpointView, netnsPaths, networkView, type Picture, sandboxView } from './chain.ts';
import { differenceView, doctorView, orphanView } from './doctor.ts';
import { endpointLease } from './lease.ts';
import { networkFirewall, rulesetOf } from './firewall.ts';
import { endpointsMeant, portViews } from './port-views.ts';
import { resolveRef } from './refs.ts';
import { publishedAs, type PublishedService } from './published.ts';
import { remotesView } from './remotes.ts';
import type { Standalone } from './standalone.ts';
import { endpointSummary, type Names, networkName, networkSummary, sandboxSummary } from './summaries.ts';
import type {
  CheckView,
  DifferenceView,
  DoctorView,
  EndpointSummary,
  EndpointView,
  FirewallView,
  FixView,
  LeakView,
  NetworkSummary,
  NetworkView,
  PortView,
  SandboxSummary,
  SandboxView,
} from './views.ts';
import { encryptionView } from './encryption.ts';
import type { OverlayService } from './overlay.ts';

export interface ObservatoryOptions {
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly kernel: Kernel;
  readonly standalone: Standalone;
  readonly engine?: EngineView;
  readonly notices?: readonly string[];
  /** What a DHCP server has given an endpoint. */
  readonly lease?: (network: string, endpoint: string) => LeaseView | undefined;
  readonly published?: PublishedService;
  readonly overlay?: Pick<OverlayService, 'until'>;
}

/** Names are a courtesy: a listing does not wait longer than this for an Engine that is busy or restoring. */
const LISTING_PATIENCE_MS = 2_000;
/** What is asked for by a name of the Engine's cannot be found without it. */
const NAME_PATIENCE_MS = 10_000;

export class Observatory {
  readonly #options: ObservatoryOptions;
  readonly #cnm: Cnm;

  constructor(options: ObservatoryOptions) {
    this.#options = options;
    this.#cnm = options.cnm;
  }

  async networks(): Promise<readonly NetworkSummary[]> {
    const names = await this.names();
    return this.#cnm
      .networks()
      .map((network) => ({
        ...networkSummary(network, this.#cnm.endpoints(network.id).length, names),
        ...this.#published(network, names),
      }))
      .sort(byName);
  }

  async network(ref: string): Promise<NetworkView> {
    const names = await this.#namesFor(ref);
    const network = this.#resolveNetwork(ref, names);
    const endpoints = this.#cnm.endpoints(network.id);
    const view = networkView(network, endpoints, await this.#picture(endpoints, names));
    const remotes = remotesView(network, this.#cnm.remotes(network.id));
    const encryption = encryptionView(network, this.#options.overlay?.until());
    return {
      ...view,
      ...this.#published(network, names),
      ...(remotes && { remotes }),
      ...(encryption && { encryption }),
    };
  }

  #published(network: NetworkRecord, names: Names): Pick<NetworkSummary, 'published'> {
    const { name } = networkName(network.id, names);
    const published = publishedAs(name, network, this.#options.published?.all() ?? []);
    return published === undefined ? {} : { published };
  }

  /** Sends frames on the network's wire. */
  async checkNetwork(ref: string, ask: readonly Ip[]): Promise<CheckView> {
    const names = await this.#namesFor(ref);
    const { id } = this.#resolveNetwork(ref, names);
    return { network: networkName(id, names), findings: await this.#cnm.checkNetwork(id, ask) };
  }

  async endpoints(network: string | undefined): Promise<readonly EndpointSummary[]> {
    const names = await this.#namesFor(network);
    const of = network === undefined ? undefined : this.#resolveNetwork(network, names).id;
    return this.#cnm
      .endpoints(of)
      .map((endpoint) => endpointSummary(endpoint, names))
      .sort(byName);
  }

  async endpoint(ref: string): Promise<EndpointView> {
    const names = await this.#namesFor(ref);
    const record = this.#resolveEndpoint(ref, names);
    const picture = await this.#picture([record], names);
    const lease = this.#options.lease?.(record.network, record.id);
    return {
      ...endpointView(record, this.#cnm.network(record.network), picture),
      ...(lease !== undefined && { lease: endpointLease(lease) }),
    };
  }

  /** @throws CnmError `endpoint-unknown`, or `request-invalid` when several match. */
  async findEndpoint(ref: string): Promise<EndpointRecord> {
    return this.#resolveEndpoint(ref, await this.#namesFor(ref));
  }

  /** Of all networks, or of what `ref` means: an endpoint, a container or sandbox, or a network. */
  async ports(ref: string | undefined): Promise<readonly PortView[]> {
    const names = await this.#namesFor(ref);
    const all = this.#cnm.endpoints();
    const meant = ref === undefined ? all : endpointsMeant(ref, all, this.#cnm.networks(), names);
    return meant
      .toSorted((a, b) => titleOf(a, names).localeCompare(titleOf(b, names)))
      .flatMap((endpoint) => portViews(endpoint, names));
  }

  /** Of all networks that have a bridge, or of one. */
  async firewall(ref: string | undefined): Promise<FirewallView> {
    const names = await this.#namesFor(ref);
    const asked = ref === undefined ? this.#cnm.networks() : [this.#resolveNetwork(ref, names)];
    const networks = asked.filter((network) =>
      wholeNetwork(network).some((step) => step.do === 'nft.element'),
    );
    const facts = await this.#options.kernel.facts();
    const picture = { facts, counters: this.#options.kernel.counters(), names };
    return {
      loaded: facts.rulesetCurrent,
      networks: networks
        .map((network) => networkFirewall(network, this.#cnm.endpoints(network.id), picture))
        .sort(byName),
    };
  }

  /** The table in nft's own words, with the elements of all networks or of one. @throws KernelError when there is no table. */
  async ruleset(ref: string | undefined): Promise<string> {
    const network = ref === undefined ? undefined : await this.findNetwork(ref);
    const text = await this.#options.kernel.ruleset();
    return network === undefined ? text : rulesetOf(text, network, this.#cnm.endpoints(network.id));
  }

  async sandboxes(): Promise<readonly SandboxSummary[]> {
    const names = await this.names();
    const endpoints = this.#cnm.endpoints();
    return this.#cnm
      .sandboxes()
      .map((sandbox) => sandboxSummary(sandbox, endpoints, names))
      .sort((a, b) => a.name.localeCompare(b.name));
  }

  async sandbox(ref: string): Promise<SandboxView> {
    const sandbox = this.findSandbox(ref);
    const endpoints = this.#cnm
      .endpoints()
      .filter(({ attachment }) => attachment?.kind === 'cnm' && attachment.key === sandbox.id);
    const picture = await this.#picture(endpoints, await this.names(), [sandbox.path]);
    const members = endpoints.map((endpoint) =>
      endpointView(endpoint, this.#cnm.network(endpoint.network), picture),
    );
    return sandboxView(sandbox, members, picture);
  }

  /** @throws CnmError `network-unknown`, or `request-invalid` when several match. */
  async findNetwork(ref: string): Promise<NetworkRecord> {
    return this.#resolveNetwork(ref, await this.#namesFor(ref));
  }

  /** @throws CnmError `sandbox-unknown`, or `request-invalid` when several match. */
  findSandbox(ref: string): SandboxRecord {
    return resolveRef('sandbox', ref, this.#cnm.sandboxes());
  }

  async doctor(): Promise<DoctorView> {
    const [drift, names] = await Promise.all([this.#cnm.drift(), this.names()]);
    const { standalone, notices = [] } = this.#options;
    return doctorView(drift, standalone.leaks(), notices, (one) => this.#titled(one, names));
  }

  async fix(): Promise<FixView> {
    const { rulesetCurrent } = await this.#options.kernel.facts();
    const { undone, finished, repaired, removed, failed } = await this.#cnm.reconcile({
      removeOrphans: true,
    });
    const trouble = [...failed];
    const released = await this.#reclaim(trouble);
    const names = await this.names();
    const after = await this.doctor();
    return {
      rulesetLoaded: !rulesetCurrent && after.rulesetCurrent,
      undone,
      finished,
      repaired: repaired.map((one) => this.#titled(one, names)),
      removed: removed.map(orphanView),
      released,
      failed: trouble,
      after,
    };
  }

  async #reclaim(failed: string[]): Promise<readonly LeakView[]> {
    try {
      return await this.#options.standalone.reclaim();
    } catch (error) {
      if (!(error instanceof CnmError)) throw error;
      failed.push(error.message);
      return [];
    }
  }

  #resolveNetwork(ref: string, names: Names): NetworkRecord {
    const all = this.#cnm.networks().map((record) => ({ ...networkName(record.id, names), record }));
    return resolveRef('network', ref, all).record;
  }

  #resolveEndpoint(ref: string, names: Names): EndpointRecord {
    const all = this.#cnm
      .endpoints()
      .map((record) => ({ ...summaryName(endpointSummary(record, names)), record }));
    return resolveRef('endpoint', ref, all).record;
  }

  #titled(difference: Difference, names: Names): DifferenceView {
    return differenceView(difference, this.#nameOf(difference, names), names);
  }

  #nameOf({ object, id, network }: Difference, names: Names): string | undefined {
    if (object === 'network') return networkName(id, names).name;
    if (object === 'sandbox') return names.sandboxes.get(id)?.name;
    const endpoint = network === undefined ? undefined : this.#cnm.endpoint(network, id);
    return endpoint && endpointSummary(endpoint, names).name;
  }

  /** One dump for the namespaces of these endpoints, and the differences of everything. */
  async #picture(
    endpoints: readonly EndpointRecord[],
    names: Names,
    more: readonly string[] = [],
  ): Promise<Picture> {
    const netns = [...new Set([...netnsPaths(endpoints, names), ...more])];
    const { kernel } = this.#options;
    const [facts, vteps, drift] = await Promise.all([
      kernel.facts({ netns }),
      kernel.vtepCounters(),
      this.#cnm.drift(),
    ]);
    const differences = drift.differences.map((one) => this.#titled(one, names));
    return { facts, vteps, names, differences, drivers: this.#cnm.drivers };
  }

  /** As many digits as Docker shows of an ID, or more, mean the same without names. */
  #namesFor(ref: string | undefined): Promise<Names> {
    const isName = ref !== undefined && !/^[0-9a-f]{12,64}$/.test(ref);
    return this.names(isName ? NAME_PATIENCE_MS : LISTING_PATIENCE_MS);
  }

  /** All that has a name; what the Engine knows, if it answers within so many milliseconds. */
  async names(patience = LISTING_PATIENCE_MS): Promise<Names> {
    const engine = await this.#engineNetworks(patience);
    return {
      networks: new Map(this.#cnm.networks().map((network) => [network.id, network])),
      sandboxes: new Map(this.#cnm.sandboxes().map((sandbox) => [sandbox.id, sandbox])),
      engine,
      pools: this.#options.ipam.pools(),
    };
  }

  /** Asked only when there is something of Docker's to name. Never an error. */
  async #engineNetworks(patience: number): Promise<readonly EngineNetwork[]> {
    const { engine } = this.#options;
    const known = this.#cnm.networks().some(({ origin }) => origin === 'docker');
    const given = this.#options.ipam.pools().some(({ owner }) => owner === undefined);
    if (engine === undefined || (!known && !given)) return [];
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(resolve, patience, undefined);
    try {
      return (await Promise.race([engine.networks(), late])) ?? [];
    } catch {
      return [];
    } finally {
      clearTimeout(timer);
    }
  }
}

function titleOf(endpoint: EndpointRecord, names: Names): string {
  const { name, id } = endpointSummary(endpoint, names);
  return `${name ?? ''} ${id}`;
}

interface Title {
  readonly id: string;
  readonly name?: string;
}

function byName(a: Title, b: Title): number {
  return (a.name ?? a.id).localeCompare(b.name ?? b.id);
}

function summaryName({ id, name }: EndpointSummary): Title {
  return { id, ...(name !== undefined && { name }) };
}
