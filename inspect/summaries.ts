/** Records as the listings show them, from the store alone: no look at the kernel. Pure. */
import type { EngineNetwork } from '../cnm/cnm.ts';
import type { EndpointRecord, NetworkRecord, SandboxRecord, Subnet } from '../cnm/model.ts';
import type { PoolView } from '../ipam/ipam.ts';
import type {
  AttachmentView,
  EndpointSummary,
  Named,
  NetworkSummary,
  SandboxSummary,
  SubnetView,
} from './views.ts';

/** Where names and namespace paths are looked up. */
export interface Names {
  readonly networks: ReadonlyMap<string, NetworkRecord>;
  readonly sandboxes: ReadonlyMap<string, SandboxRecord>;
  /** What the Engine told in time; empty otherwise. */
  readonly engine: readonly EngineNetwork[];
  readonly pools: readonly PoolView[];
}

export function networkSummary(network: NetworkRecord, endpoints: number, names: Names): NetworkSummary {
  const { driver, origin, state, createdAt, internal } = network;
  const subnets = [...network.ipv4, ...network.ipv6].map((subnet, index) =>
    subnetView(subnet, network.pools?.[index], names.pools),
  );
  return {
    ...networkName(network.id, names),
    driver,
    origin,
    state,
    createdAt,
    internal,
    subnets,
    endpoints,
  };
}

export function endpointSummary(endpoint: EndpointRecord, names: Names): EndpointSummary {
  const { id, state, mac } = endpoint;
  const attachment = attachmentView(endpoint, names);
  const name = attachment?.name ?? endpoint.name;
  return {
    id,
    ...(name !== undefined && { name }),
    network: networkName(endpoint.network, names),
    state,
    mac,
    addresses: [endpoint.address, endpoint.addressV6].filter((address) => address !== undefined),
    ...(attachment && { attachment }),
  };
}

export function sandboxSummary(
  sandbox: SandboxRecord,
  endpoints: readonly EndpointRecord[],
  names: Names,
): SandboxSummary {
  const { id, name, state, createdAt, path } = sandbox;
  const own = endpoints.filter(
    ({ attachment }) => attachment?.kind === 'cnm' && attachment.key === sandbox.id,
  );
  return {
    id,
    name,
    state,
    createdAt,
    path,
    endpoints: own.map((endpoint) => endpointSummary(endpoint, names)),
  };
}

/** Ours know their name; Docker's are named by the Engine, if it answered. */
export function networkName(id: string, names: Names): Named {
  const name = names.networks.get(id)?.name ?? names.engine.find((network) => network.id === id)?.name;
  return { id, ...(name !== undefined && { name }) };
}

export function subnetView(
  subnet: Subnet,
  poolId: string | undefined,
  pools: readonly PoolView[],
): SubnetView {
  const { pool, gateway, aux } = subnet;
  const range = pools.find((candidate) => candidate.poolId === poolId)?.subPool;
  return { pool, ...(gateway && { gateway }), ...(range && { range }), aux };
}

function attachmentView(endpoint: EndpointRecord, names: Names): AttachmentView | undefined {
  const { attachment } = endpoint;
  if (attachment === undefined) return undefined;
  const { kind, key, state } = attachment;
  if (kind === 'cnm') {
    const sandbox = names.sandboxes.get(key);
    return { kind, key, state, ...(sandbox && { name: sandbox.name, path: sandbox.path }) };
  }
  const container = names.engine
    .find((network) => network.id === endpoint.network)
    ?.endpoints.find((candidate) => candidate.id === endpoint.id)?.container;
  return { kind, key, path: key, state, ...(container !== undefined && { name: container }) };
}
