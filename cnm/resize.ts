/**
 * The size of packets on networks that lie on another network: when that takes others than before, the links of its presence and of its endpoints
 * get another MTU while containers run. What is narrower last when it grows, and first when it shrinks: nobody sends what somebody on the way
 * does not take.
 *
 * The stored plans say how far it has come: the presence has the new MTU before the kernel is touched, an endpoint after its links have it. So one
 * that differs from the presence is what a crash has left to do.
 */
import { type Facts, type LinkFact } from '../kernel/facts.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { LinkAdd, LinkMtu, NetnsPath, Plan, Step } from '../kernel/step.ts';
import { apply, type Context, driverOf } from './context.ts';
import type { EndpointRecord, NetworkId, NetworkRecord } from './model.ts';
import { presenceQueue } from './presence.ts';
import { messageOf } from './records.ts';

/** Each network by itself: one that cannot be resized keeps no other from it. */
export async function resizeNetworks(context: Context): Promise<void> {
  const present = context.records.networks().filter((network) => isMeasured(context, network));
  if (present.length === 0) return;
  const facts = await context.kernel.facts({ firewall: false });
  for (const { id } of present.filter((network) => isOff(context, network, facts))) {
    try {
      // Alone on the network: an endpoint that is being made now is made by the old presence.
      await context.queues.run(id, () => context.queues.run(presenceQueue(id), () => resize(context, id)));
    } catch (error) {
      context.log.error(
        { network: id.slice(0, 12), error: messageOf(error) },
        'does not follow the network below',
      );
    }
  }
}

function isMeasured(context: Context, { driver, presence, state }: NetworkRecord): boolean {
  return presence !== undefined && state === 'ready' && driverOf(context, driver).mtu !== undefined;
}

function isOff(context: Context, network: NetworkRecord, facts: Facts): boolean {
  const mtu = wantedMtu(context, network, facts);
  return mtu !== mtuOf(network.presence ?? []) || behind(context, network, mtu).length > 0;
}

/** As it is where the driver says nothing. */
function wantedMtu(context: Context, network: NetworkRecord, facts: Facts): number | undefined {
  const others = context.reach.remotes(network.id).flatMap((one) => (one.kind === 'host' ? [one.at] : []));
  const wanted = driverOf(context, network.driver).mtu?.(network, facts, context.host(), others);
  return wanted ?? mtuOf(network.presence ?? []);
}

/** Endpoints whose links have another one. */
function behind(context: Context, { id }: NetworkRecord, mtu: number | undefined): readonly EndpointRecord[] {
  return context.records
    .endpoints(id)
    .filter(({ state, plan }) => state === 'ready' && mtuOf(plan) !== undefined && mtuOf(plan) !== mtu);
}

function mtuOf(plan: Plan): number | undefined {
  return plan.find(isSized)?.mtu;
}

function isSized(step: Step): step is LinkAdd {
  return step.do === 'link.add' && step.mtu !== undefined;
}

function sized(plan: Plan, mtu: number): Plan {
  return plan.map((step) => (isSized(step) ? { ...step, mtu } : step));
}

async function resize(context: Context, id: NetworkId): Promise<void> {
  const network = context.records.network(id);
  if (network?.presence === undefined || network.state !== 'ready') return;
  const facts = await context.kernel.facts({ firewall: false });
  const mtu = wantedMtu(context, network, facts);
  const before = mtuOf(network.presence);
  if (mtu === undefined || before === undefined) return;
  const presence = sized(network.presence, mtu);
  if (mtu !== before) await context.records.putNetwork({ ...network, presence });
  const endpoints = behind(context, network, mtu);
  const links = async () => {
    try {
      await resizeLinks(context, id, presence, mtu > before);
    } catch (error) {
      // They are as they were, and to be resized when that is asked for again: before endpoints that grow.
      await context.records.putNetwork(network);
      throw error;
    }
  };
  if (mtu > before) await links();
  for (const endpoint of endpoints) await resizeEndpoint(context, endpoint, mtu);
  if (mtu < before) await links();
  const fields = { network: id.slice(0, 12), from: before, to: mtu, endpoints: endpoints.length };
  context.log.info(fields, 'the links of a network follow the network below: they have another MTU');
}

/** A bridge is made before the tunnel that is its port, and is the nearer to containers of the two. */
async function resizeLinks(context: Context, id: NetworkId, presence: Plan, grows: boolean): Promise<void> {
  const links = presence.filter(isSized);
  await apply(context, `resize network ${id.slice(0, 12)}`, grows ? links.toReversed() : links);
}

async function resizeEndpoint(context: Context, endpoint: EndpointRecord, mtu: number): Promise<void> {
  const plan = sized(endpoint.plan, mtu);
  const outside = () => apply(context, `resize endpoint ${endpoint.id.slice(0, 12)}`, plan.filter(isSized));
  const grows = mtu > (mtuOf(endpoint.plan) ?? 0);
  if (grows) await outside();
  await resizeInside(context, endpoint, mtu);
  if (!grows) await outside();
  await context.records.putEndpoint({ ...endpoint, plan });
}

/** Docker moves a link while nobody here knows: looked for again. */
const LOOKS = 3;

/** The end that containers have, wherever it is. What cannot be resized is told of, and the rest is not kept from it. */
async function resizeInside(context: Context, endpoint: EndpointRecord, mtu: number): Promise<void> {
  const about = { network: endpoint.network.slice(0, 12), endpoint: endpoint.id.slice(0, 12), mtu };
  for (let look = 1; ; look += 1) {
    try {
      const ends = await innerEnds(context, endpoint, mtu);
      if (ends.length > 0) await context.kernel.apply(ends);
      else if (endpoint.attachment !== undefined)
        context.log.warn({ ...about, netns: endpoint.attachment.key }, NOT_FOUND);
      return;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (look < LOOKS && error.errno === 'ENODEV') continue;
      context.log.warn({ ...about, error: error.message }, 'the interface in a container keeps its MTU');
      return;
    }
  }
}

const NOT_FOUND =
  'the interface in a container keeps its MTU, for it is not found there: what is larger than the network takes is lost';

/** By their mark, which they keep in other namespaces, under whatever name. */
async function innerEnds(
  { kernel, records }: Context,
  endpoint: EndpointRecord,
  mtu: number,
): Promise<readonly LinkMtu[]> {
  const { attachment, plan } = endpoint;
  const made = plan.filter(isSized);
  const outer = new Set(made.map(({ netns, name }) => `${netns ?? ''} ${name}`));
  const sandbox = attachment?.kind === 'cnm' ? sandboxPath(records, attachment.key) : attachment?.key;
  const netns = [...(sandbox === undefined ? [] : [sandbox]), ...made.flatMap((step) => step.netns ?? [])];
  const facts = await kernel.facts({ firewall: false, netns });
  const places: readonly (readonly [NetnsPath | undefined, ReadonlyMap<string, LinkFact> | undefined])[] = [
    [undefined, facts.host.links],
    ...netns.map((path) => [path, facts.netns.get(path)?.links] as const),
  ];
  return places.flatMap(([path, links]) =>
    [...(links?.values() ?? [])].flatMap(({ name, mark }) =>
      mark?.endpoint === endpoint.id && !outer.has(`${path ?? ''} ${name}`)
        ? [{ do: 'link.mtu' as const, ...(path !== undefined && { netns: path }), link: name, mark, mtu }]
        : [],
    ),
  );
}

function sandboxPath(records: Context['records'], id: string): NetnsPath | undefined {
  return records.sandbox(id)?.path;
}
