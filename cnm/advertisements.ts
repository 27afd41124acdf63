/**
 * Whether a container takes addresses and routes from router advertisements (RFC 4862), which a LAN may be full of. To a sandbox of ours that is
 * said before its interface is up (sandboxes.ts). Docker takes a link in by itself, and no driver can tell it to set this: it is said as
 * soon as the link is seen there, once, and what came in before is put right.
 */
import { addressOf, familyOfPrefix } from '../address/prefix.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { NetnsFacts } from '../kernel/facts.ts';
import type { Plan, Step } from '../kernel/step.ts';
import { type Context, inEndpoint } from './context.ts';
import { joinInfo } from './endpoints.ts';
import type { EndpointRecord, JoinInfo } from './model.ts';
import { advertisementStep, isDefault, insidePlan } from './sandboxes.ts';

/** To be called after rememberNames. */
export async function settleAdvertisements(context: Context): Promise<void> {
  for (const { network, id } of context.records.endpoints().filter(isUnsettled)) {
    if (!context.interfaces.has(id)) continue;
    await inEndpoint(context, network, id, async () => {
      const endpoint = context.records.endpoint(network, id);
      if (endpoint !== undefined && isUnsettled(endpoint)) await settle(context, endpoint);
    });
  }
}

function isUnsettled({ attachment, addressV6, settledIn }: EndpointRecord): boolean {
  return attachment?.kind === 'docker' && addressV6 !== undefined && settledIn !== attachment.key;
}

async function settle(context: Context, endpoint: EndpointRecord): Promise<void> {
  const link = context.interfaces.get(endpoint.id);
  const netns = endpoint.attachment?.key;
  const info = joinInfo(context, endpoint);
  if (link === undefined || netns === undefined || info.routerAdvertisements === undefined) return;
  try {
    await context.kernel.apply([advertisementStep(netns, link, info.routerAdvertisements)]);
    const there = (await context.kernel.facts({ firewall: false, netns: [netns] })).netns.get(netns);
    if (!info.routerAdvertisements && there !== undefined && hasTaken(there, link, endpoint, info)) {
      await context.kernel.apply(withoutThem(netns, link, endpoint, info, there));
      const fields = { endpoint: endpoint.id.slice(0, 12), network: endpoint.network.slice(0, 12) };
      context.log.info(fields, 'what a router had advertised to a starting container was taken away again');
    }
    await context.records.putEndpoint({ ...endpoint, settledIn: netns });
  } catch (error) {
    // The container ends while we look.
    if (!(error instanceof KernelError)) throw error;
    context.log.debug({ endpoint: endpoint.id.slice(0, 12), error: error.message }, 'not settled');
  }
}

/** An address that nobody gave it, or another way out. */
function hasTaken(
  { addresses, routes }: NetnsFacts,
  link: string,
  endpoint: EndpointRecord,
  info: JoinInfo,
): boolean {
  const isOther = ({ prefix }: NetnsFacts['addresses'][number]) =>
    familyOfPrefix(prefix) === 6 && !prefix.startsWith('fe80:') && prefix !== endpoint.addressV6;
  return (
    addresses.some((one) => one.link === link && isOther(one)) ||
    routes.some((one) => one.link === link && isDefaultV6(one) && one.via !== info.gatewayV6)
  );
}

function isDefaultV6(route: NetnsFacts['routes'][number]): boolean {
  return isDefault(route) && familyOfPrefix(route.to) === 6;
}

/** The kernel forgets all of IPv6 on a link where it is switched off; then it is as Docker made it. */
function withoutThem(
  netns: string,
  link: string,
  endpoint: EndpointRecord,
  info: JoinInfo,
  { routes }: NetnsFacts,
): Plan {
  const key = `net.ipv6.conf.${link.replaceAll('.', '/')}.disable_ipv6`;
  const hadDefault = routes.some(
    (one) => one.link === link && isDefaultV6(one) && one.via === info.gatewayV6,
  );
  const { gatewayV6, ...rest } = info;
  const again = insidePlan(netns, link, endpoint, {
    ...rest,
    ...(hadDefault && gatewayV6 !== undefined && { gatewayV6 }),
  });
  return [{ do: 'sysctl.set', netns, key, value: '1', keep: true }, ...again.filter(isOfIpv6)];
}

function isOfIpv6(step: Step): boolean {
  if (step.do === 'sysctl.set') return true;
  if (step.do === 'addr.add') return familyOfPrefix(step.prefix) === 6;
  return step.do === 'route.add' && addressOf(step.to).includes(':');
}
