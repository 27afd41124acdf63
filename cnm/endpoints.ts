/** Create and delete endpoints, join them to a sandbox of Docker's, leave it. */
import { isDeepStrictEqual } from 'node:util';
import { addressOf } from '../address/prefix.ts';
import { describe } from '../kernel/describe.ts';
import type { EndpointAnswer } from './cnm.ts';
import {
  abandon,
  apply,
  type Context,
  driverOf,
  endpointKey,
  inEndpoint,
  networkOf,
  revert,
} from './context.ts';
import { CnmError } from './errors.ts';
import { isLost } from './holder.ts';
import { withLease } from './leasing.ts';
import { wholeEndpoint } from './plans.ts';
import { enter, vacate } from './presence.ts';
import type {
  Attachment,
  EndpointId,
  EndpointRecord,
  EndpointSpec,
  JoinInfo,
  NetworkId,
  NetworkRecord,
} from './model.ts';

export function createEndpoint(context: Context, spec: EndpointSpec): Promise<EndpointAnswer> {
  return inEndpoint(context, spec.network, spec.id, async () => {
    const record = await establishEndpoint(context, spec);
    return {
      ...(spec.mac === undefined && { mac: record.mac }),
      ...(record.leased !== undefined && { address: record.leased.address }),
    };
  });
}

/**
 * To be called in the network's queue. `attachment`: where it is going to be at once; recorded from the start, so that a
 * crash before it is there undoes the endpoint as a whole.
 */
export async function establishEndpoint(
  context: Context,
  spec: EndpointSpec,
  attachment?: Attachment,
): Promise<EndpointRecord> {
  const network = networkOf(context, spec.network);
  if (network.state !== 'ready')
    throw new CnmError(
      'network-unknown',
      `Network ${spec.network} is being ${network.state === 'removing' ? 'deleted' : 'created'}`,
    );
  const known = context.records.endpoint(spec.network, spec.id);
  if (known?.state === 'ready' && known.attachment?.state !== 'applying') return sameEndpoint(known, spec);
  if (known !== undefined) await dismantleEndpoint(context, known);
  return withLease(context, network, spec, async (wanted) => {
    const release = claimAddresses(context, wanted);
    try {
      await assertAddressFree(context, wanted);
      const { network: present, entered } = await enter(context, spec.network);
      return await makeEndpoint(context, present, wanted, attachment).finally(entered);
    } finally {
      release();
    }
  });
}

async function makeEndpoint(
  context: Context,
  network: NetworkRecord,
  spec: EndpointSpec,
  attachment: Attachment | undefined,
): Promise<EndpointRecord> {
  const record = { ...planEndpoint(context, network, spec), ...(attachment && { attachment }) };
  await context.records.putEndpoint(record);
  try {
    await apply(context, `create endpoint ${spec.id.slice(0, 12)}`, record.plan);
    await context.records.putEndpoint({ ...record, state: 'ready' });
  } catch (error) {
    await abandon(context, `endpoint ${spec.id}`, record.plan, () =>
      context.records.dropEndpoint(spec.network, spec.id),
    );
    throw error;
  }
  context.log.debug(
    { endpoint: spec.id.slice(0, 12), plan: record.plan.map(describe) },
    'the plan of the endpoint',
  );
  return { ...record, state: 'ready' };
}

export function deleteEndpoint(context: Context, network: NetworkId, id: EndpointId): Promise<void> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = context.records.endpoint(network, id);
    if (endpoint !== undefined) await dismantleEndpoint(context, endpoint);
  });
}

/** To be called in the endpoint's queue, or in the network's. Brings a record of any state to nothing, wherever its link is. */
export async function dismantleEndpoint(context: Context, endpoint: EndpointRecord): Promise<void> {
  if (endpoint.state !== 'removing') await context.records.putEndpoint({ ...endpoint, state: 'removing' });
  await revert(context, `delete endpoint ${endpoint.id.slice(0, 12)}`, wholeEndpoint(endpoint));
  await context.records.dropEndpoint(endpoint.network, endpoint.id);
  await vacate(context, endpoint.network);
}

/** Docker moves the link into its sandbox itself after this has answered. */
export function join(
  context: Context,
  network: NetworkId,
  id: EndpointId,
  sandboxKey: string,
): Promise<JoinInfo> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = endpointOf(context, network, id);
    const held = endpoint.attachment;
    if (held !== undefined && held.key !== sandboxKey) {
      throw new CnmError(
        'endpoint-busy',
        `Endpoint ${id} is joined to sandbox ${held.key} already; it must leave it first`,
      );
    }
    if (held === undefined) {
      await context.records.putEndpoint({
        ...omit(endpoint, 'left'),
        attachment: { kind: 'docker', key: sandboxKey, plan: [], state: 'ready' },
      });
    }
    return joinInfo(context, endpoint);
  });
}

/** Docker brings the link back by itself, before or after this. */
export function leave(context: Context, network: NetworkId, id: EndpointId): Promise<void> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = context.records.endpoint(network, id);
    if (endpoint?.attachment?.kind !== 'docker') return;
    await context.records.putEndpoint({ ...omit(endpoint, 'attachment'), left: endpoint.attachment.key });
  });
}

export function joinInfo(context: Context, endpoint: EndpointRecord): JoinInfo {
  const network = networkOf(context, endpoint.network);
  return driverOf(context, network.driver).join(network, endpoint);
}

export function endpointOf(context: Context, network: NetworkId, id: EndpointId): EndpointRecord {
  networkOf(context, network);
  const endpoint = context.records.endpoint(network, id);
  if (endpoint === undefined)
    throw new CnmError('endpoint-unknown', `There is no endpoint ${id} on network ${network}`);
  return endpoint;
}

function planEndpoint(context: Context, network: NetworkRecord, spec: EndpointSpec): EndpointRecord {
  const driver = driverOf(context, network.driver);
  const wanted = { ...spec, mac: spec.mac ?? driver.mac(network, spec) };
  const plan = driver.endpoint(network, wanted);
  const shared = network.agreement !== undefined && { generation: context.control?.generation() ?? 0 };
  return { ...wanted, ...shared, state: 'applying', createdAt: context.now().toISOString(), plan };
}

function sameEndpoint(known: EndpointRecord, spec: EndpointSpec): EndpointRecord {
  for (const field of Object.keys(spec) as (keyof EndpointSpec)[]) {
    if (isDeepStrictEqual(known[field], spec[field])) continue;
    const [had, wanted] = [JSON.stringify(known[field]), JSON.stringify(spec[field])];
    throw new CnmError(
      'endpoint-conflict',
      `Endpoint ${spec.id} exists already with ${field} ${had}; asked for ${wanted}`,
    );
  }
  return known;
}

/**
 * An address is held once on a network. Where Docker is the authority and hands out an address that an endpoint of ours
 * still holds, that endpoint is one that Docker lost in a crash (libnetwork.md §7): it gives way, unless its link is in
 * a living sandbox, for nobody's running container may lose its network.
 */
async function assertAddressFree(context: Context, spec: EndpointSpec): Promise<void> {
  for (const other of context.records.endpoints(spec.network)) {
    const shared = sharedAddress(other, spec);
    if (shared === undefined) continue;
    if (!(await isLost(context, other))) {
      throw new CnmError(
        'endpoint-conflict',
        `Address ${shared} is held by endpoint ${other.id} in sandbox ${other.attachment?.key ?? '(none)'}`,
      );
    }
    context.log.warn(
      { endpoint: other.id.slice(0, 12), address: shared },
      'a lost endpoint gives its address to a new one',
    );
    await context.queues.run(endpointKey(spec.network, other.id), async () => {
      const still = context.records.endpoint(spec.network, other.id);
      if (still !== undefined) await dismantleEndpoint(context, still);
    });
  }
}

/** Between the look at the records and the record of its own an endpoint has only this to keep its addresses. */
function claimAddresses(context: Context, { network, address, addressV6 }: EndpointSpec): () => void {
  const wanted = [address, addressV6].flatMap((one) =>
    one === undefined ? [] : [`${network} ${addressOf(one)}`],
  );
  const taken = wanted.find((claim) => context.claimed.has(claim));
  if (taken !== undefined) {
    throw new CnmError(
      'endpoint-conflict',
      `Address ${taken.split(' ')[1] ?? ''} is being given to another endpoint of this network`,
    );
  }
  for (const claim of wanted) context.claimed.add(claim);
  return () => {
    for (const claim of wanted) context.claimed.delete(claim);
  };
}

function sharedAddress(a: EndpointSpec, b: EndpointSpec): string | undefined {
  if (a.address !== undefined && b.address !== undefined && addressOf(a.address) === addressOf(b.address))
    return a.address;
  if (
    a.addressV6 !== undefined &&
    b.addressV6 !== undefined &&
    addressOf(a.addressV6) === addressOf(b.addressV6)
  )
    return a.addressV6;
  return undefined;
}

export function omit(endpoint: EndpointRecord, field: 'attachment' | 'external' | 'left'): EndpointRecord {
  const rest = { ...endpoint };
  Reflect.deleteProperty(rest, field);
  return rest;
}
