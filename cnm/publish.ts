/** Publish and unpublish the ports of an endpoint that became its container's gateway. */
import { isDeepStrictEqual } from 'node:util';
import { describe } from '../kernel/describe.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { Plan, PortHold } from '../kernel/step.ts';
import { abandon, apply, type Context, driverOf, inEndpoint, networkOf, revert } from './context.ts';
import type { Publishing, PublishRequest } from './driver.ts';
import { endpointOf, omit } from './endpoints.ts';
import { CnmError, messageOf } from './errors.ts';
import type {
  EndpointId,
  EndpointRecord,
  External,
  NetworkId,
  NetworkRecord,
  PortBinding,
  PublishedPort,
} from './model.ts';
import { isLost, named } from './holder.ts';
import {
  choosePorts,
  type Ephemeral,
  parsePortList,
  PortTaken,
  protocolName,
  singly,
  takenBy,
  type TakenPorts,
} from './ports.ts';

/** The key under which ports are chosen: two containers must not both find the same one free. */
const CHOOSING = 'ports';
/** How often another port is tried when a process of the host holds the one that was chosen; Docker tries as often. */
const ATTEMPTS = 10;

const EPHEMERAL = 'net.ipv4.ip_local_port_range';
const RESERVED = 'net.ipv4.ip_local_reserved_ports';
/** Where the kernel does not say (RFC 6335 section 6). */
const DYNAMIC_PORTS = { from: 49152, to: 65535 };

/** A port of an endpoint that Docker has lost is free: it is taken from it, with no queue of this endpoint's held, and asked for again. */
export async function programExternal(
  context: Context,
  network: NetworkId,
  id: EndpointId,
  ports: readonly PortBinding[],
): Promise<void> {
  for (;;) {
    try {
      await program(context, network, id, ports);
      return;
    } catch (error) {
      if (!(error instanceof PortTaken) || error.holder?.endpoint === undefined) throw error;
      const { endpoint } = error.holder;
      if (!(await isLost(context, endpoint))) throw await named(context, error, endpoint);
      context.log.warn(
        { endpoint: endpoint.id.slice(0, 12) },
        'a lost endpoint gives its ports to a new one',
      );
      await revokeExternal(context, endpoint.network, endpoint.id);
    }
  }
}

function program(
  context: Context,
  network: NetworkId,
  id: EndpointId,
  ports: readonly PortBinding[],
): Promise<void> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = endpointOf(context, network, id);
    const known = endpoint.external;
    if (known?.state === 'ready' && isDeepStrictEqual(known.requested, ports)) return;
    // What cannot be is refused before anything is taken away.
    const wish =
      ports.length === 0 ? undefined : wishOf(context, networkOf(context, network), endpoint, ports);
    if (known !== undefined) {
      if (wish !== undefined) choiceOf(context, endpoint, wish);
      await unpublish(context, endpoint);
    }
    if (wish === undefined) return;
    const bare = omit(endpoint, 'external');
    try {
      await publish(context, networkOf(context, network), bare, wish);
    } catch (error) {
      if (known?.state === 'ready') await putBack(context, bare, known);
      throw error;
    }
  });
}

/** What was published before a change that failed, on the ports that it had, unless somebody was faster. */
async function putBack(context: Context, before: EndpointRecord, external: External): Promise<void> {
  const applying: EndpointRecord = { ...before, external: { ...external, state: 'applying' } };
  try {
    await context.queues.run(CHOOSING, async () => {
      const taken = takenBy(context.records.endpoints().filter((other) => other.id !== before.id));
      for (const { proto, hostIp, hostPort } of external.published) {
        if (hostIp === undefined || hostPort === undefined) continue;
        const holder = taken.holder(proto, hostIp, hostPort);
        if (holder !== undefined)
          throw new CnmError('port-taken', `${holder.words} has port ${hostPort} now`);
      }
      await context.records.putEndpoint(applying);
    });
    await establish(context, applying, []);
  } catch (error) {
    context.log.warn({ endpoint: before.id, error: messageOf(error) }, 'ports could not be published again');
  }
}

export function revokeExternal(context: Context, network: NetworkId, id: EndpointId): Promise<void> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = context.records.endpoint(network, id);
    if (endpoint?.external !== undefined) await unpublish(context, endpoint);
  });
}

/** To be called in the endpoint's queue. */
export async function unpublish(context: Context, endpoint: EndpointRecord): Promise<void> {
  const { external } = endpoint;
  if (external === undefined) return;
  if (external.state !== 'removing') {
    await context.records.putEndpoint({ ...endpoint, external: { ...external, state: 'removing' } });
  }
  await revert(context, `unpublish the ports of endpoint ${endpoint.id.slice(0, 12)}`, external.plan);
  await context.records.putEndpoint(omit(endpoint, 'external'));
}

async function publish(
  context: Context,
  network: NetworkRecord,
  endpoint: EndpointRecord,
  wish: Wish,
): Promise<void> {
  const busy: PublishedPort[] = [];
  for (let attempt = 1; ; attempt += 1) {
    const chosen = await choose(context, network, endpoint, { ...wish, busy });
    const held = await establish(context, chosen, attempt < ATTEMPTS ? wish.requests : []);
    if (held === undefined) return;
    busy.push(held);
  }
}

interface Wish {
  readonly publishing: Publishing;
  readonly requests: readonly PublishRequest[];
  readonly ports: readonly PortBinding[];
  readonly ephemeral: Ephemeral;
  /** Ports that a process of the host turned out to hold. */
  readonly busy: readonly PublishedPort[];
}

function wishOf(
  context: Context,
  network: NetworkRecord,
  endpoint: EndpointRecord,
  ports: readonly PortBinding[],
): Wish {
  const { publishing, name } = driverOf(context, network.driver);
  if (publishing === undefined) {
    throw new CnmError('option-invalid', `${name} does not publish ports; start the container without -p`);
  }
  const requests = publishing.requests(network, endpoint, ports);
  return { publishing, requests, ports, ephemeral: ephemeralRange(context), busy: [] };
}

/** Stores the choice before the next one is made, so that the next one sees it. */
function choose(
  context: Context,
  network: NetworkRecord,
  endpoint: EndpointRecord,
  wish: Wish,
): Promise<EndpointRecord> {
  return context.queues.run(CHOOSING, async () => {
    const published = choiceOf(context, endpoint, wish);
    if (wish.requests.some(({ from }) => from === 0)) context.ephemeral.next = highest(published) + 1;
    const plan = wish.publishing.plan(network, published);
    const chosen: EndpointRecord = {
      ...endpoint,
      external: { requested: wish.ports, published, plan, state: 'applying' },
    };
    await context.records.putEndpoint(chosen);
    return chosen;
  });
}

/** @throws PortTaken that names who has the port. */
function choiceOf(context: Context, { id }: EndpointRecord, wish: Wish): readonly PublishedPort[] {
  const others = context.records.endpoints().filter((other) => other.id !== id);
  const taken = withBusy(takenBy(others), wish.busy);
  return choosePorts(wish.requests, taken, wish.ephemeral, context.ephemeral.next);
}

/** Answers the port that a process of the host holds, when none of the requests (none: it is the last attempt) insists on it. */
async function establish(
  context: Context,
  chosen: EndpointRecord,
  requests: readonly PublishRequest[],
): Promise<PublishedPort | undefined> {
  const { external } = chosen;
  if (external === undefined) return undefined;
  const what = `publish the ports of endpoint ${chosen.id.slice(0, 12)}`;
  try {
    await apply(context, what, external.plan);
    await context.records.putEndpoint({ ...chosen, external: { ...external, state: 'ready' } });
    context.log.info(
      { endpoint: chosen.id.slice(0, 12), ports: external.published.length },
      'ports published',
    );
    return undefined;
  } catch (error) {
    await abandon(context, what, external.plan, () => context.records.putEndpoint(omit(chosen, 'external')));
    const hold = refusedHold(error, external.plan);
    if (hold === undefined) throw error;
    const held = external.published.find(
      ({ proto, hostIp, hostPort }) =>
        protocolName(proto) === hold.proto && hostIp === hold.address && hostPort === hold.port,
    );
    if (held !== undefined && requests.length > 0 && !requests.some((request) => insistsOn(request, held)))
      return held;
    throw new CnmError('port-taken', portTaken(hold, error), { cause: error });
  }
}

/** Whether the request can do with this one port and no other. */
function insistsOn({ proto, from, to }: PublishRequest, held: PublishedPort): boolean {
  return proto === held.proto && from === held.hostPort && to === from;
}

function highest(published: readonly PublishedPort[]): number {
  return published.reduce((most, { hostPort = 0 }) => Math.max(most, hostPort), 0);
}

/** The one port that cannot be had, of all that the plan holds. */
function refusedHold(error: unknown, plan: Plan): PortHold | undefined {
  const cause = error instanceof CnmError ? error.cause : error;
  if (!(cause instanceof KernelError) || !TAKEN.includes(cause.errno)) return undefined;
  return plan
    .flatMap((step) => (step.do === 'port.hold' ? singly(step) : []))
    .find((one) => describe(one) === cause.operation);
}

/** Other refusals (no privilege, no descriptor left) are no matter of this port, and told in the kernel's words. */
const TAKEN = ['EADDRINUSE', 'EADDRNOTAVAIL'];

function portTaken({ proto, address, port }: PortHold, error: unknown): string {
  const cause = error instanceof CnmError ? error.cause : error;
  const { errno, detail } = cause as KernelError;
  const why = detail === '' ? errno : detail;
  if (errno === 'EADDRNOTAVAIL')
    return `Port ${port}/${proto} cannot be published on ${address}: the host does not have this address`;
  return `Port ${port}/${proto} on ${address} is not free: ${why}`;
}

const PROCESS = { words: 'a process of the host' };

function withBusy(taken: TakenPorts, busy: readonly PublishedPort[]): TakenPorts {
  for (const { proto, hostIp, hostPort } of busy) {
    if (hostIp !== undefined && hostPort !== undefined) taken.add(proto, hostIp, hostPort, PROCESS);
  }
  return taken;
}

function ephemeralRange({ kernel }: Context): Ephemeral {
  const reserved = parsePortList(kernel.sysctl(RESERVED) ?? '');
  const [from, to] = (kernel.sysctl(EPHEMERAL) ?? '').split(/\s+/).map(Number);
  const known = from !== undefined && to !== undefined && from > 0 && to >= from;
  return { ...(known ? { from, to } : DYNAMIC_PORTS), reserved };
}
