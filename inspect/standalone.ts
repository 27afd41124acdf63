/**
 * Networks and sandboxes that `cnm` itself makes: the part that Docker plays for its own. Addresses come from the IPAM
 * before the network model is asked, and go back after it has let go of them, so that whatever a crash leaves is a lease
 * too many, never an address given twice. `reclaimLeases` finds those at the next start.
 */
import { randomBytes } from 'node:crypto';
import type { Ip } from '../address/ip.ts';
import { addressOf, contains, familyOfPrefix, type Prefix } from '../address/prefix.ts';
import type { Cnm } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type {
  EndpointRecord,
  NetworkRecord,
  NetworkSpec,
  PortBinding,
  SandboxRecord,
  Subnet,
} from '../cnm/model.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Plan } from '../kernel/step.ts';
import { type AddressPlan, allocate, release } from './allocate.ts';
import { checkWayIn, outside, readIp, readMac, readPorts, words } from './flags.ts';
import { leakedLeases } from './leaks.ts';
import { leasesOfEndpoint, leasesOfNetwork, poolOf } from './leases.ts';
import { checkName, quote, title } from './refs.ts';
import { subnetRequests } from './subnets.ts';
import type { SubnetRequest } from './subnets.ts';
import type { JoinRequest, LeakView, NetworkRequest, SandboxRequest } from './views.ts';

export interface StandaloneOptions {
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly log: Log;
}

export class Standalone {
  readonly #cnm: Cnm;
  readonly #ipam: Ipam;
  readonly #log: Log;
  /** Names of networks that are being created: two requests at once must not both find a name free. */
  readonly #creating = new Set<string>();
  /** Between a request to the IPAM and the record that speaks for it, a lease looks like a leak. */
  #underWay = 0;

  constructor({ cnm, ipam, log }: StandaloneOptions) {
    this.#cnm = cnm;
    this.#ipam = ipam;
    this.#log = log;
  }

  /** @throws CnmError; then every address is free again. */
  async createNetwork(request: NetworkRequest, id = newId()): Promise<NetworkRecord> {
    this.#checkNetwork(request);
    this.#creating.add(request.name);
    try {
      return await this.#withAddresses(request, id, async (spec) => {
        await this.#cnm.createNetwork(spec);
        return this.#recorded(spec.id);
      });
    } finally {
      this.#creating.delete(request.name);
    }
  }

  /** The plan that createNetwork would apply. Nothing stays. */
  async dryRun(request: NetworkRequest): Promise<{ readonly spec: NetworkSpec; readonly plan: Plan }> {
    this.#checkNetwork(request);
    return this.#withAddresses(request, newId(), async (spec) => ({
      spec,
      plan: await this.#cnm.dryRun(spec),
    }));
  }

  /** @throws CnmError `request-invalid` for a network of Docker's: only Docker can delete it without confusion. */
  async deleteNetwork(network: NetworkRecord): Promise<void> {
    if (network.origin === 'docker') {
      throw new CnmError(
        'request-invalid',
        `Network ${title(network)} belongs to Docker; delete it with: docker network rm ${network.name ?? network.id}`,
      );
    }
    await this.#tracked(async () => {
      await this.#cnm.deleteNetwork(network.id);
      await release(this.#ipam, this.#log, leasesOfNetwork(network));
    });
  }

  async createSandbox({ name, dnsSearch = [], dnsOptions = [] }: SandboxRequest): Promise<SandboxRecord> {
    checkName('sandbox', name);
    const dns = { search: words('--dns-search', dnsSearch), options: words('--dns-option', dnsOptions) };
    return this.#cnm.createSandbox(name, dnsSearch.length + dnsOptions.length > 0 ? dns : undefined);
  }

  /** Takes the sandbox off all its networks first, as removing a container does. */
  async deleteSandbox(sandbox: SandboxRecord): Promise<void> {
    for (const endpoint of this.#endpointsIn(sandbox)) await this.#leave(sandbox, endpoint);
    await this.#cnm.deleteSandbox(sandbox.id);
  }

  /** @throws CnmError; then every address is free again. */
  async join(sandbox: SandboxRecord, network: NetworkRecord, request: JoinRequest): Promise<EndpointRecord> {
    this.#checkJoin(sandbox, network);
    const mac = readMac(request.mac);
    const ports = readPorts(request.ports ?? []);
    checkWayIn(network, ports);
    return this.#tracked(async () => {
      const id = newId();
      const leases = await this.#endpointAddresses(network, sandbox.name, request);
      try {
        const joined = await this.#cnm.joinSandbox(sandbox.id, {
          id,
          network: network.id,
          name: sandbox.name,
          ...(request.aliases !== undefined && request.aliases.length > 0 && { aliases: request.aliases }),
          ...leases.addresses,
          ...(mac !== undefined && { mac }),
          options: request.options,
          ports: [],
        });
        return await this.#withPorts(sandbox, joined, ports);
      } catch (error) {
        // An endpoint that could not be undone keeps its addresses: its link may still bear them.
        if (this.#cnm.endpoint(network.id, id) === undefined) await release(this.#ipam, this.#log, leases);
        throw error;
      }
    });
  }

  /** A sandbox whose ports cannot be published does not join. */
  async #withPorts(
    sandbox: SandboxRecord,
    joined: EndpointRecord,
    ports: readonly PortBinding[],
  ): Promise<EndpointRecord> {
    if (ports.length === 0) return joined;
    try {
      await this.#cnm.programExternalConnectivity(joined.network, joined.id, ports);
      return joined;
    } catch (error) {
      await this.#cnm.leaveSandbox(sandbox.id, joined.network);
      throw error;
    }
  }

  /**
   * In the place of what was published before; the same again changes nothing. No ports: publishes none any more.
   * @param specs As after `-p`.
   * @throws CnmError; then the ports of before are still published.
   */
  async publish(endpoint: EndpointRecord, specs: readonly string[]): Promise<void> {
    this.#checkPortsOurs(endpoint);
    const ports = readPorts(specs);
    checkWayIn(this.#cnm.network(endpoint.network), ports);
    await this.#cnm.programExternalConnectivity(endpoint.network, endpoint.id, ports);
  }

  /** Leaving a network that the sandbox is not on is success. */
  async leave(sandbox: SandboxRecord, network: NetworkRecord): Promise<void> {
    const endpoint = this.#endpointsIn(sandbox).find((candidate) => candidate.network === network.id);
    if (endpoint !== undefined) await this.#leave(sandbox, endpoint);
  }

  /** Leases that nothing accounts for; none while an operation is between the IPAM and its record. */
  leaks(): readonly LeakView[] {
    if (this.#underWay > 0) return [];
    return leakedLeases(this.#cnm.networks(), this.#cnm.endpoints(), this.#ipam.pools());
  }

  /** Gives back what `leaks` found; answers what it gave back. */
  async reclaim(): Promise<readonly LeakView[]> {
    const leaks = this.leaks();
    for (const { poolId, address } of leaks) {
      if (address === undefined) await this.#ipam.releasePool(poolId);
      else await this.#ipam.releaseAddress(poolId, address);
    }
    if (leaks.length > 0) this.#log.warn({ leaks }, 'leases that belonged to nothing were released');
    return leaks;
  }

  async #withAddresses<T>(
    request: NetworkRequest,
    id: string,
    use: (spec: NetworkSpec) => Promise<T>,
  ): Promise<T> {
    return this.#tracked(async () => {
      const plan = await allocate(this.#ipam, this.#log, id, this.#subnets(request));
      try {
        return await use(specOf(id, request, plan));
      } finally {
        // Also after a dry run: what no record speaks for goes back.
        if (this.#cnm.network(id) === undefined) await release(this.#ipam, this.#log, plan);
      }
    });
  }

  /** A subnet gets a gateway's address, unless its driver needs none and the user named none. */
  #subnets(request: NetworkRequest): readonly SubnetRequest[] {
    const driver = this.#cnm.drivers.find(({ name }) => name === request.driver);
    const skip = driver?.gatewaySkip?.(request);
    // No subnet where a DHCP server has it; one that the user gave is the driver's to refuse.
    const leases = driver?.leases?.(request) === true;
    const wanted = subnetRequests(request).filter(({ v6, pool }) => v6 || pool !== undefined || !leases);
    return wanted.map((subnet) => ({
      ...subnet,
      noGateway: subnet.gateway === undefined && skip?.[subnet.v6 ? 6 : 4] === true,
    }));
  }

  async #endpointAddresses(
    network: NetworkRecord,
    name: string,
    request: JoinRequest,
  ): Promise<EndpointLeases> {
    const leases: EndpointLeases = { addresses: {}, leases: [], pools: [] };
    try {
      const v4 = await this.#endpointAddress(network, network.ipv4, name, readIp('--ip', 4, request.ip));
      if (v4 !== undefined) keep(leases, 'address', v4);
      const v6 = await this.#endpointAddress(network, network.ipv6, name, readIp('--ip6', 6, request.ip6));
      if (v6 !== undefined) keep(leases, 'addressV6', v6);
      return leases;
    } catch (error) {
      await release(this.#ipam, this.#log, leases);
      throw error;
    }
  }

  /** From the first subnet of the family that has one free, or the subnet that holds the wanted address. */
  async #endpointAddress(
    network: NetworkRecord,
    subnets: readonly Subnet[],
    name: string,
    wanted: Ip | undefined,
  ): Promise<Lease | undefined> {
    const usable = subnets.filter((subnet) => wanted === undefined || contains(subnet.pool, wanted));
    if (wanted !== undefined && usable.length === 0) throw outside(wanted, subnets);
    for (const [index, subnet] of usable.entries()) {
      const poolId = poolOf(network, subnet);
      try {
        const request = { gateway: false, name, serial: false, ...(wanted && { address: wanted }) };
        return { poolId, prefix: await this.#ipam.requestAddress(poolId, request) };
      } catch (error) {
        const last = index === usable.length - 1;
        if (last || !(error instanceof CnmError) || error.code !== 'pool-exhausted') throw error;
      }
    }
    return undefined;
  }

  async #leave(sandbox: SandboxRecord, endpoint: EndpointRecord): Promise<void> {
    await this.#tracked(async () => {
      try {
        await this.#cnm.leaveSandbox(sandbox.id, endpoint.network);
      } finally {
        const gone = this.#cnm.endpoint(endpoint.network, endpoint.id) === undefined;
        const network = this.#cnm.network(endpoint.network);
        if (gone && network !== undefined) {
          await release(this.#ipam, this.#log, { leases: leasesOfEndpoint(network, endpoint), pools: [] });
        }
      }
    });
  }

  #endpointsIn(sandbox: SandboxRecord): readonly EndpointRecord[] {
    return this.#cnm
      .endpoints()
      .filter(({ attachment }) => attachment?.kind === 'cnm' && attachment.key === sandbox.id);
  }

  #checkNetwork(request: NetworkRequest): void {
    checkName('network', request.name);
    const drivers = this.#cnm.drivers.map((driver) => driver.name);
    if (!drivers.includes(request.driver)) {
      throw new CnmError(
        'driver-unknown',
        `There is no driver ${quote(request.driver)} here; this daemon has ${drivers.join(', ')}`,
      );
    }
    const taken = this.#cnm.networks().find((network) => network.name === request.name);
    if (taken !== undefined || this.#creating.has(request.name)) {
      throw new CnmError('network-conflict', `A network with the name ${request.name} exists already`);
    }
  }

  #checkJoin(sandbox: SandboxRecord, network: NetworkRecord): void {
    if (network.origin === 'docker') {
      throw new CnmError(
        'request-invalid',
        `Network ${title(network)} belongs to Docker, which gives out its addresses; a sandbox can join networks made with: cnm network create`,
      );
    }
    const there = this.#endpointsIn(sandbox).find((endpoint) => endpoint.network === network.id);
    if (there === undefined) return;
    const address = there.address ?? there.addressV6 ?? there.mac;
    throw new CnmError(
      'endpoint-conflict',
      `Sandbox ${sandbox.name} is on network ${title(network)} already, with ${address}`,
    );
  }

  #checkPortsOurs({ id, name, network }: EndpointRecord): void {
    if (this.#cnm.network(network)?.origin !== 'docker') return;
    throw new CnmError(
      'request-invalid',
      `The ports of endpoint ${title({ id, ...(name !== undefined && { name }) })} are Docker's: publish them with docker run -p, when the container is made`,
    );
  }

  #recorded(id: string): NetworkRecord {
    const record = this.#cnm.network(id);
    if (record === undefined) throw new CnmError('internal', `Network ${id} was created but has no record`);
    return record;
  }

  async #tracked<T>(work: () => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#underWay -= 1;
    }
  }
}

/**
 * Releases the leases of standalone networks that a crash left with no endpoint, network or auxiliary address behind
 * them. For `main.ts`, after `cnm.reconcile` has settled what was cut off and before the admin socket listens.
 */
export function reclaimLeases(options: StandaloneOptions): Promise<readonly LeakView[]> {
  return new Standalone(options).reclaim();
}

function newId(): string {
  return randomBytes(32).toString('hex');
}

interface Lease {
  readonly poolId: string;
  readonly prefix: Prefix;
}

interface EndpointLeases extends AddressPlan {
  readonly addresses: { address?: Prefix; addressV6?: Prefix };
  readonly leases: { poolId: string; address: Ip }[];
}

function keep(leases: EndpointLeases, field: 'address' | 'addressV6', { poolId, prefix }: Lease): void {
  leases.addresses[field] = prefix;
  leases.leases.push({ poolId, address: addressOf(prefix) });
}

function specOf(
  id: string,
  request: NetworkRequest,
  plan: { readonly subnets: readonly Subnet[]; readonly pools: readonly string[] },
): NetworkSpec {
  const family = (wanted: 4 | 6) => plan.subnets.filter((subnet) => familyOfPrefix(subnet.pool) === wanted);
  const { name, driver, options, internal, ipv4, ipv6 } = request;
  return {
    id,
    name,
    driver,
    origin: 'cnm',
    options,
    internal,
    enableIpv4: ipv4,
    enableIpv6: ipv6,
    ipv4: family(4),
    ipv6: family(6),
    pools: plan.pools,
  };
}
