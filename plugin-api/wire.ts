/**
 * The NetworkDriver messages (moby, daemon/libnetwork/drivers/remote/api): their replies as types, their requests decoded
 * into the words of the Container Network Model. Field names are Go's and matched exactly, as Go's encoder writes them.
 *
 * Only what belongs to the wire is judged here: types, ids, the syntax of addresses, ports. What an option or a subnet may
 * be is the driver's to say. So Docker's null IPAM (pool 0.0.0.0/0 in the address space "null") passes.
 */
import { lengthOf, networkOf, prefixOf } from '../address/prefix.ts';
import type { Ip } from '../address/ip.ts';
import type { Prefix } from '../address/prefix.ts';
import { z } from 'zod';
import type {
  EndpointId,
  EndpointSpec,
  JoinInfo,
  NetworkId,
  NetworkSpec,
  PortBinding,
  Subnet,
} from '../cnm/model.ts';
import { CnmError } from '../cnm/errors.ts';
import * as field from './fields.ts';

/** Docker's own names in `Options`. */
export const OPTION = {
  generic: 'com.docker.network.generic',
  internal: 'com.docker.network.internal',
  enableIpv4: 'com.docker.network.enable_ipv4',
  enableIpv6: 'com.docker.network.enable_ipv6',
  portMap: 'com.docker.network.portmap',
} as const;

export interface CapabilitiesReply {
  readonly Scope: 'local' | 'global';
  readonly ConnectivityScope: 'local' | 'global';
  readonly GwAllocChecker: boolean;
}

/** Which gateway addresses Docker shall not allocate (Engine ≥ 28). */
export interface GatewayReply {
  readonly SkipIPv4: boolean;
  readonly SkipIPv6: boolean;
}

/** Only what the request left empty: dockerd takes a field that it had given, even unchanged, for an error. */
export interface CreateEndpointReply {
  readonly Interface: { readonly MacAddress?: string; readonly Address?: string };
}

export interface JoinReply {
  readonly InterfaceName: { readonly SrcName: string; readonly DstPrefix: string };
  readonly Gateway?: string;
  readonly GatewayIPv6?: string;
  readonly StaticRoutes?: readonly StaticRouteReply[];
  readonly DisableGatewayService: boolean;
}

export interface StaticRouteReply {
  readonly Destination: string;
  /** 0 through NextHop, 1 on link. */
  readonly RouteType: 0 | 1;
  readonly NextHop?: string;
}

/** The network part of a request for one endpoint. */
export interface EndpointKey {
  readonly network: NetworkId;
  readonly endpoint: EndpointId;
}

type Family = 4 | 6;

/** A gateway or auxiliary address with its pool's prefix length, however it was sent. */
function inPool(host: Ip | Prefix, pool: Prefix): Prefix {
  return host.includes('/') ? (host as Prefix) : prefixOf(host as Ip, lengthOf(pool));
}

/** driverapi.IPAMData. */
const ipamData = (family: Family) =>
  field
    .object({
      AddressSpace: field.optionalText('the name of an address space'),
      Pool: field.pool(family),
      Gateway: field.optionalHost(family),
      AuxAddresses: field.map(field.requiredHost(family)),
    })
    .transform((data): Subnet => ({
      addressSpace: data.AddressSpace ?? '',
      // An IPAM driver may answer a pool with host bits; dockerd passes them on.
      pool: networkOf(data.Pool),
      ...(data.Gateway === undefined ? {} : { gateway: inPool(data.Gateway, data.Pool) }),
      aux: Object.fromEntries(
        Object.entries(data.AuxAddresses).map(([name, host]) => [name, inPool(host, data.Pool)]),
      ),
    }));

const networkOptions = field.orElse(
  () => ({}),
  field.object({
    [OPTION.generic]: field.texted,
    [OPTION.internal]: field.optionalFlag,
    [OPTION.enableIpv4]: field.optionalFlag,
    [OPTION.enableIpv6]: field.optionalFlag,
  }),
);

const createNetwork = field.object({
  NetworkID: field.networkId,
  Options: networkOptions,
  IPv4Data: field.list(ipamData(4)),
  IPv6Data: field.list(ipamData(6)),
});

export function decodeNetwork(body: unknown, driver: string): NetworkSpec {
  const { NetworkID, Options, IPv4Data, IPv6Data } = field.decode(createNetwork, body);
  return {
    id: NetworkID,
    driver,
    origin: 'docker',
    options: Options[OPTION.generic],
    internal: Options[OPTION.internal] ?? false,
    // Engines below 28 do not send it: there, IPv4 is always on.
    enableIpv4: Options[OPTION.enableIpv4] ?? true,
    enableIpv6: Options[OPTION.enableIpv6] ?? false,
    ipv4: IPv4Data,
    ipv6: IPv6Data,
  };
}

const allocation = field.object({
  NetworkID: field.networkId,
  Options: field.texted,
  IPv4Data: field.list(ipamData(4)),
  IPv6Data: field.list(ipamData(6)),
});

/** Swarm's managers: the options stand by themselves, not under `generic`, and there is no IPv6 (swarmkit's allocator sends null). */
export function decodeAllocation(body: unknown, driver: string): NetworkSpec {
  const { NetworkID, Options, IPv4Data, IPv6Data } = field.decode(allocation, body);
  return {
    id: NetworkID,
    driver,
    origin: 'docker',
    options: Options,
    internal: false,
    enableIpv4: true,
    enableIpv6: IPv6Data.length > 0,
    ipv4: IPv4Data,
    ipv6: IPv6Data,
  };
}

const gatewayCheck = field.object({ Options: networkOptions });

/** GwAllocCheck: the options of a network that is about to be created, and nothing else of it. */
export function decodeGatewayCheck(body: unknown): Pick<NetworkSpec, 'options' | 'internal'> {
  const { Options } = field.decode(gatewayCheck, body);
  return { options: Options[OPTION.generic], internal: Options[OPTION.internal] ?? false };
}

const network = field.object({ NetworkID: field.networkId });

export function decodeNetworkId(body: unknown): NetworkId {
  return field.decode(network, body).NetworkID;
}

const key = { NetworkID: field.networkId, EndpointID: field.endpointId };
const endpointKey = field.object(key);

export function decodeEndpointKey(body: unknown): EndpointKey {
  const { NetworkID, EndpointID } = field.decode(endpointKey, body);
  return { network: NetworkID, endpoint: EndpointID };
}

/** types.PortBinding. No HostPortEnd, or 0 beside a HostPort, means one port. */
const portBinding = field
  .object({
    Proto: field.protocol,
    IP: field.optionalIp,
    Port: field.port,
    HostIP: field.optionalIp,
    HostPort: field.optionalPort,
    HostPortEnd: field.optionalPort,
  })
  .transform((binding, context): PortBinding => {
    const hostPort = binding.HostPort ?? 0;
    const hostPortEnd =
      binding.HostPortEnd === undefined || binding.HostPortEnd === 0 ? hostPort : binding.HostPortEnd;
    if (hostPortEnd < hostPort) {
      context.addIssue({
        code: 'custom',
        path: ['HostPortEnd'],
        message: `${hostPortEnd} is below HostPort ${hostPort}: a range ends where it starts or above`,
      });
    }
    return {
      proto: binding.Proto,
      port: binding.Port,
      ...(binding.IP === undefined ? {} : { ip: binding.IP }),
      ...(binding.HostIP === undefined ? {} : { hostIp: binding.HostIP }),
      hostPort,
      hostPortEnd,
    };
  });

const portMap = field.list(portBinding);

/**
 * Names in an endpoint's Options on which dockerd itself acts, whatever the driver (libnetwork.md section 0.1): not for us. All others are
 * `driver-opt`s, which the driver knows or refuses.
 */
const DOCKERS: readonly string[] = [
  OPTION.portMap,
  'com.docker.network.endpoint.exposedports',
  'com.docker.network.endpoint.dnsservers',
  'com.docker.network.endpoint.macaddress',
  'com.docker.network.endpoint.sysctls',
  'com.docker.network.driver.private.no_proxy_6to4',
];

/**
 * An endpoint's Options: Docker's own entries, which have types of their own (the MAC among them is Go's base64 of six
 * bytes; Interface.MacAddress says the same in clear), and beside them the user's `driver-opt`s as flat strings.
 */
const endpointOptions = field.map(z.unknown()).transform((options, context) => {
  const ports = portMap.safeParse(options[OPTION.portMap]);
  for (const issue of ports.error?.issues ?? []) {
    context.addIssue({ code: 'custom', path: [OPTION.portMap, ...issue.path], message: issue.message });
  }
  const texts = Object.entries(options).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string' && !DOCKERS.includes(entry[0]),
  );
  return { options: Object.fromEntries(texts), ports: ports.data ?? [] };
});

const createEndpoint = field.object({
  ...key,
  Interface: field.orElse(
    () => ({}),
    field.object({
      Address: field.interfaceAddress(4),
      AddressIPv6: field.interfaceAddress(6),
      MacAddress: field.optionalMac,
    }),
  ),
  Options: endpointOptions,
});

export function decodeEndpoint(body: unknown): EndpointSpec {
  const { NetworkID, EndpointID, Interface, Options } = field.decode(createEndpoint, body);
  const { Address, AddressIPv6, MacAddress } = Interface;
  return {
    id: EndpointID,
    network: NetworkID,
    ...(Address === undefined ? {} : { address: Address }),
    ...(AddressIPv6 === undefined ? {} : { addressV6: AddressIPv6 }),
    ...(MacAddress === undefined ? {} : { mac: MacAddress }),
    options: Options.options,
    ports: Options.ports,
  };
}

/** The options of a Join are those of the container; its ports come again with ProgramExternalConnectivity. */
const join = field.object({
  ...key,
  SandboxKey: field.requiredText('the path of a sandbox'),
  Options: endpointOptions,
});

export function decodeJoin(body: unknown): EndpointKey & { readonly sandboxKey: string } {
  const { NetworkID, EndpointID, SandboxKey } = field.decode(join, body);
  return { network: NetworkID, endpoint: EndpointID, sandboxKey: SandboxKey };
}

const program = field.object({ ...key, Options: endpointOptions });

export function decodeProgram(body: unknown): EndpointKey & { readonly ports: readonly PortBinding[] } {
  const { NetworkID, EndpointID, Options } = field.decode(program, body);
  return { network: NetworkID, endpoint: EndpointID, ports: Options.ports };
}

const discovery = field.object({
  DiscoveryType: field.required('a number (1 = node)', (value) =>
    typeof value === 'number' ? value : undefined,
  ),
  DiscoveryData: field.orElse(
    () => ({}),
    field.object({
      Address: field.optionalIp,
      BindAddress: field.optionalText('the address of a node'),
      Self: field.optionalFlag,
    }),
  ),
});

/** A node of the swarm: type 1 is the only one that dockerd passes on. */
export function decodeDiscovery(body: unknown): {
  readonly type: number;
  readonly address?: Ip;
  readonly self: boolean;
} {
  const { DiscoveryType, DiscoveryData } = field.decode(discovery, body);
  return {
    type: DiscoveryType,
    ...(DiscoveryData.Address === undefined ? {} : { address: DiscoveryData.Address }),
    self: DiscoveryData.Self ?? false,
  };
}

export function joinReply(join: JoinInfo): JoinReply {
  const routes = join.routes.map(({ destination, nextHop }): StaticRouteReply => {
    // dockerd follows a nil pointer for a route without a destination.
    if (destination.length === 0) throw new CnmError('internal', 'A static route without a destination');
    return nextHop === undefined
      ? { Destination: destination, RouteType: 1 }
      : { Destination: destination, RouteType: 0, NextHop: nextHop };
  });
  return {
    InterfaceName: { SrcName: join.srcName, DstPrefix: join.dstPrefix },
    ...(join.gateway === undefined ? {} : { Gateway: join.gateway }),
    ...(join.gatewayV6 === undefined ? {} : { GatewayIPv6: join.gatewayV6 }),
    ...(routes.length === 0 ? {} : { StaticRoutes: routes }),
    DisableGatewayService: join.disableGatewayService,
  };
}
