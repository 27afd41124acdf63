/** Sandboxes of our own: network namespaces that we make, fill and delete. What Docker does with its sandboxes, done here. */
import { randomBytes } from 'node:crypto';
import { familyOfPrefix, lengthOf, type Prefix, prefix } from '../address/prefix.ts';
import type { NetnsPath, Plan, RouteAdd, Step } from '../kernel/step.ts';
import { abandon, apply, type Context, inEndpoint, PLANNING, revert } from './context.ts';
import { dismantleEndpoint, establishEndpoint, joinInfo } from './endpoints.ts';
import { CnmError } from './errors.ts';
import type {
  Attachment,
  EndpointRecord,
  EndpointSpec,
  JoinInfo,
  NetworkId,
  SandboxDns,
  SandboxRecord,
} from './model.ts';

export async function createSandbox(
  context: Context,
  name: string,
  dns?: SandboxDns,
): Promise<SandboxRecord> {
  const record = await context.queues.run(PLANNING, () => planSandbox(context, name, dns));
  if (record.state === 'ready') return record;
  return context.queues.run(record.id, async () => {
    try {
      await apply(context, `create sandbox ${name}`, record.plan);
      await context.records.putSandbox({ ...record, state: 'ready' });
    } catch (error) {
      await abandon(context, `sandbox ${name}`, record.plan, () => context.records.dropSandbox(record.id));
      throw error;
    }
    context.log.info({ sandbox: name, netns: record.path }, 'sandbox created');
    return { ...record, state: 'ready' };
  });
}

export function deleteSandbox(context: Context, reference: string): Promise<void> {
  const known = findSandbox(context, reference);
  if (known === undefined) return Promise.resolve();
  return context.queues.run(known.id, async () => {
    const sandbox = context.records.sandbox(known.id);
    if (sandbox === undefined) return;
    const joined = endpointsIn(context, sandbox);
    if (joined.length > 0) {
      const networks = joined
        .map((endpoint) => context.records.network(endpoint.network)?.name ?? endpoint.network)
        .join(', ');
      throw new CnmError(
        'sandbox-busy',
        `Sandbox ${sandbox.name} is joined to ${networks}; it must leave first`,
      );
    }
    await dismantleSandbox(context, sandbox);
    context.log.info({ sandbox: sandbox.name }, 'sandbox deleted');
  });
}

/** To be called in the sandbox's queue. */
export async function dismantleSandbox(context: Context, sandbox: SandboxRecord): Promise<void> {
  if (sandbox.state !== 'removing') await context.records.putSandbox({ ...sandbox, state: 'removing' });
  await revert(context, `delete sandbox ${sandbox.name}`, sandbox.plan);
  await context.records.dropSandbox(sandbox.id);
}

/** Sandbox first, then network, then endpoint: the one order in which queues are ever held together. */
export function joinSandbox(
  context: Context,
  reference: string,
  spec: EndpointSpec,
): Promise<EndpointRecord> {
  const { id } = sandboxOf(context, reference);
  return context.queues.run(id, async () => {
    const sandbox = sandboxOf(context, id);
    if (sandbox.state !== 'ready')
      throw new CnmError('sandbox-unknown', `Sandbox ${sandbox.name} is not ready`);
    const there = endpointsIn(context, sandbox).find((endpoint) => endpoint.network === spec.network);
    if (there !== undefined && there.id !== spec.id) {
      throw new CnmError(
        'endpoint-conflict',
        `Sandbox ${sandbox.name} has an endpoint on this network already: ${there.id}`,
      );
    }
    return inEndpoint(context, spec.network, spec.id, () => attach(context, sandbox, spec));
  });
}

export function leaveSandbox(
  context: Context,
  reference: string,
  network: NetworkId,
): Promise<EndpointRecord | undefined> {
  const { id } = sandboxOf(context, reference);
  return context.queues.run(id, async () => {
    const sandbox = sandboxOf(context, id);
    const endpoint = endpointsIn(context, sandbox).find((candidate) => candidate.network === network);
    if (endpoint === undefined) return undefined;
    await inEndpoint(context, network, endpoint.id, () => dismantleEndpoint(context, endpoint));
    await inheritDefaultRoute(context, sandbox);
    return endpoint;
  });
}

export function findSandbox(context: Context, reference: string): SandboxRecord | undefined {
  return (
    context.records.sandbox(reference) ??
    context.records.sandboxes().find((sandbox) => sandbox.name === reference)
  );
}

export function endpointsIn(context: Context, sandbox: SandboxRecord): readonly EndpointRecord[] {
  return context.records
    .endpoints()
    .filter((endpoint) => endpoint.attachment?.kind === 'cnm' && endpoint.attachment.key === sandbox.id)
    .sort((a, b) => a.createdAt.localeCompare(b.createdAt));
}

function sandboxOf(context: Context, reference: string): SandboxRecord {
  const sandbox = findSandbox(context, reference);
  if (sandbox === undefined) throw new CnmError('sandbox-unknown', `There is no sandbox ${reference}`);
  return sandbox;
}

async function planSandbox(context: Context, name: string, dns?: SandboxDns): Promise<SandboxRecord> {
  const known = context.records.sandboxes().find((sandbox) => sandbox.name === name);
  if (known?.state === 'ready') return known;
  if (known !== undefined)
    throw new CnmError(
      'sandbox-conflict',
      `Sandbox ${name} is being ${known.state === 'removing' ? 'deleted' : 'created'}`,
    );
  const id = randomBytes(32).toString('hex');
  const path = `${context.runDir}/netns/${id.slice(0, 12)}`;
  const createdAt = context.now().toISOString();
  const record: SandboxRecord = {
    id,
    name,
    state: 'applying',
    createdAt,
    path,
    plan: [{ do: 'netns.add', path }],
    ...(dns !== undefined && { dns }),
  };
  await context.records.putSandbox(record);
  return record;
}

/** In the queues of both. The endpoint is made, then moved in; if it cannot be, nothing of it stays. */
async function attach(context: Context, sandbox: SandboxRecord, spec: EndpointSpec): Promise<EndpointRecord> {
  const underWay: Attachment = { kind: 'cnm', key: sandbox.id, plan: [], state: 'applying' };
  const endpoint = await establishEndpoint(context, spec, underWay);
  if (endpoint.attachment?.state === 'ready') return endpoint;
  const plan = attachmentPlan(context, sandbox, endpoint, joinInfo(context, endpoint));
  const attachment = { kind: 'cnm', key: sandbox.id, plan } as const;
  const drop = () => context.records.dropEndpoint(spec.network, spec.id);
  try {
    await context.records.putEndpoint({ ...endpoint, attachment: { ...attachment, state: 'applying' } });
    await apply(context, `join sandbox ${sandbox.name}`, plan);
    const joined: EndpointRecord = { ...endpoint, attachment: { ...attachment, state: 'ready' } };
    await context.records.putEndpoint(joined);
    context.log.info(
      { sandbox: sandbox.name, network: spec.network.slice(0, 12), address: spec.address ?? spec.addressV6 },
      'joined',
    );
    return joined;
  } catch (error) {
    await abandon(context, `joining sandbox ${sandbox.name}`, [...endpoint.plan, ...plan], drop);
    throw error;
  }
}

function attachmentPlan(
  context: Context,
  sandbox: SandboxRecord,
  endpoint: EndpointRecord,
  info: JoinInfo,
): Plan {
  const neighbours = endpointsIn(context, sandbox);
  const as = freeName(info.dstPrefix, neighbours);
  return insidePlan(sandbox.path, as, endpoint, info, neighbours);
}

/** The link of an endpoint moved into a namespace, and all that it needs there. `neighbours`: who may have the default route already. */
export function insidePlan(
  netns: NetnsPath,
  as: string,
  endpoint: EndpointRecord,
  info: JoinInfo,
  neighbours: readonly EndpointRecord[] = [],
): Plan {
  const steps: Step[] = [{ do: 'link.move', link: info.srcName, to: netns, as, mac: endpoint.mac }];
  // As Docker does: an interface with no IPv6 address has no IPv6 at all, not even a link-local address.
  const disabled = endpoint.addressV6 === undefined ? '1' : '0';
  steps.push({
    do: 'sysctl.set',
    netns,
    key: `net.ipv6.conf.${as}.disable_ipv6`,
    value: disabled,
    keep: true,
  });
  if (endpoint.addressV6 !== undefined && info.routerAdvertisements !== undefined)
    steps.push(advertisementStep(netns, as, info.routerAdvertisements));
  for (const address of [endpoint.address, endpoint.addressV6]) {
    if (address !== undefined) steps.push({ do: 'addr.add', netns, link: as, prefix: address });
  }
  steps.push({ do: 'link.up', netns, link: as });
  for (const route of info.routes) {
    steps.push({
      do: 'route.add',
      netns,
      to: route.destination,
      link: as,
      ...(route.nextHop && { via: route.nextHop }),
    });
  }
  return [...steps, ...defaultRoutes(netns, as, info, neighbours)];
}

/** The first endpoint with a gateway carries the sandbox's default route, per family. */
function defaultRoutes(
  netns: string,
  link: string,
  info: JoinInfo,
  neighbours: readonly EndpointRecord[],
): RouteAdd[] {
  const taken = neighbours
    .flatMap((endpoint) => (endpoint.attachment?.plan ?? []).filter(isDefaultRoute))
    .map((route) => familyOfPrefix(route.to));
  const routes: RouteAdd[] = [];
  if (info.gateway && !taken.includes(4))
    routes.push({ do: 'route.add', netns, to: prefix('0.0.0.0/0'), via: info.gateway, link });
  if (info.gatewayV6 && !taken.includes(6))
    routes.push({ do: 'route.add', netns, to: prefix('::/0'), via: info.gatewayV6, link });
  return routes;
}

/** When the endpoint with the default route has left, the next one that has a gateway takes over. */
export async function inheritDefaultRoute(context: Context, sandbox: SandboxRecord): Promise<void> {
  const remaining = endpointsIn(context, sandbox);
  for (const endpoint of remaining) {
    const attachment = endpoint.attachment;
    const link = attachment?.plan.find((step) => step.do === 'link.move')?.as;
    if (attachment === undefined || link === undefined) continue;
    const routes = defaultRoutes(sandbox.path, link, joinInfo(context, endpoint), remaining);
    if (routes.length === 0) continue;
    await context.records.putEndpoint({
      ...endpoint,
      attachment: { ...attachment, plan: [...attachment.plan, ...routes] },
    });
    await apply(context, `give sandbox ${sandbox.name} its next default route`, routes);
    // It may have a gateway of one family only: the other's may be at the next endpoint.
    return inheritDefaultRoute(context, sandbox);
  }
}

/** Whether an interface takes what routers advertise. 2: also where it forwards (Documentation/networking/ip-sysctl.rst, accept_ra). */
export function advertisementStep(netns: NetnsPath, link: string, takes: boolean): Step {
  const key = `net.ipv6.conf.${link.replaceAll('.', '/')}.accept_ra`;
  return { do: 'sysctl.set', netns, key, value: takes ? '2' : '0', keep: true };
}

function isDefaultRoute(step: Step): step is RouteAdd {
  return step.do === 'route.add' && isDefault(step);
}

export function isDefault({ to }: { readonly to: Prefix }): boolean {
  return lengthOf(to) === 0;
}

/** `eth0`, `eth1`, …: the lowest number that is free in the sandbox, as Docker counts. */
function freeName(dstPrefix: string, neighbours: readonly EndpointRecord[]): string {
  const used = new Set(
    neighbours.flatMap((endpoint) =>
      (endpoint.attachment?.plan ?? []).map((step) => (step.do === 'link.move' ? step.as : '')),
    ),
  );
  let number = 0;
  while (used.has(`${dstPrefix}${number}`)) number += 1;
  return `${dstPrefix}${number}`;
}
