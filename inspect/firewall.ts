/** What the firewall does for a network: read from what the kernel holds, not from what was asked for. Pure. */
import { parseIp } from '../address/ip.ts';
import { addressOf, contains } from '../address/prefix.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import { wholeNetwork } from '../cnm/plans.ts';
import type { Facts } from '../kernel/facts.ts';
import type { PacketCount } from '../kernel/kernel.ts';
import type { NftSetName, Plan } from '../kernel/step.ts';
import { deviceOf } from './chain.ts';
import { counted, portViews } from './port-views.ts';
import { type Names, networkName } from './summaries.ts';
import type { FamilyFirewallView, NetworkFirewallView } from './views.ts';

export interface FirewallPicture {
  readonly facts: Facts;
  readonly counters: ReadonlyMap<string, PacketCount>;
  readonly names: Names;
}

export function networkFirewall(
  network: NetworkRecord,
  endpoints: readonly EndpointRecord[],
  { facts, counters, names }: FirewallPicture,
): NetworkFirewallView {
  // Of an overlay network its uplink is what a bridge is of others.
  const bridge = deviceOf(wholeNetwork(network)) ?? '';
  const holds = holder(facts);
  return {
    ...networkName(network.id, names),
    driver: network.driver,
    bridge,
    filtered: holds('bridges', bridge) !== undefined,
    icc: holds('same_bridge', `${bridge} . ${bridge}`) !== undefined,
    internal: holds('internal', bridge) !== undefined,
    families: ([4, 6] as const).flatMap((family) => familyView(family, network, bridge, facts)),
    trusted: before(bridge, 'trusted', facts),
    accepts: acceptsOf(network, bridge, facts),
    ports: endpoints.flatMap((one) => portViews(one, names)).map((port) => counted(port, counters)),
  };
}

type Holds = (set: NftSetName, key: string) => string | undefined;

function holder({ elements }: Facts): Holds {
  return (set, key) => elements?.get(set)?.get(key);
}

function familyView(
  family: 4 | 6,
  network: NetworkRecord,
  bridge: string,
  facts: Facts,
): readonly FamilyFirewallView[] {
  const subnets = family === 4 ? network.ipv4 : network.ipv6;
  if (subnets.length === 0) return [];
  const holds = holder(facts);
  const snat = holds(`snat${family}`, bridge);
  const source = snat === undefined ? undefined : parseIp(snat);
  const masqueraded = holds(`masquerade${family}`, bridge) !== undefined;
  const onBridge = facts.host.addresses.some(
    ({ link, prefix }) => link === bridge && subnets.some(({ pool }) => contains(pool, addressOf(prefix))),
  );
  return [
    {
      family,
      mode: modeOf(family, bridge, onBridge, holds),
      source: source ?? (masqueraded ? 'interface' : 'own'),
      obeysHost: before(bridge, `inside${family}`, facts).length > 0,
    },
  ];
}

function modeOf(family: 4 | 6, bridge: string, onBridge: boolean, holds: Holds): FamilyFirewallView['mode'] {
  if (holds('internal', bridge) !== undefined) return onBridge ? 'internal' : 'isolated';
  if (holds(`routed${family}`, bridge) !== undefined) return 'routed';
  return holds(`unprotected${family}`, bridge) === undefined ? 'nat' : 'nat-unprotected';
}

/** What stands before the bridge in the pairs of a set. */
function before(bridge: string, set: NftSetName, { elements }: Facts): readonly string[] {
  const end = ` . ${bridge}`;
  return [...(elements?.get(set)?.keys() ?? [])]
    .filter((key) => key.endsWith(end))
    .map((key) => key.slice(0, -end.length))
    .sort();
}

function acceptsOf(
  network: NetworkRecord,
  bridge: string,
  { accepts, acceptChain }: Facts,
): NetworkFirewallView['accepts'] {
  if (!wholeNetwork(network).some((step) => step.do === 'forward.accept')) return [];
  return ([4, 6] as const).map((family) => {
    const there = accepts.some(
      (rule) => rule.family === family && rule.bridge === bridge && network.id.startsWith(rule.network),
    );
    const chain = family === 4 ? acceptChain.v4 : acceptChain.v6;
    return { family, state: there ? 'there' : chain ? 'missing' : 'no chain' };
  });
}

/**
 * What `nft list table` prints, with those elements alone that belong to a network: its plans name them, or they name its bridge.
 * The rules are the same for all networks and stay.
 */
export function rulesetOf(
  text: string,
  network: NetworkRecord,
  endpoints: readonly EndpointRecord[],
): string {
  const plans: Plan = [
    wholeNetwork(network),
    ...endpoints.flatMap((one) => [one.plan, one.external?.plan ?? []]),
  ].flat();
  const own = new Set(
    plans.flatMap((step) => (step.do === 'nft.element' ? [`${step.set} ${step.key.join(' . ')}`] : [])),
  );
  const bridge = deviceOf(wholeNetwork(network));
  return text.replace(
    /^(\t(?:set|map) (\S+) \{\n[^}]*?)\t\telements = \{ ([^]*?) \}\n(\t\}\n)/gm,
    (_, head: string, set: string, elements: string, end: string) => {
      const kept = split(elements).filter((element) => {
        const key = keyOf(element);
        return own.has(`${set} ${key}`) || (bridge !== undefined && key.split(' . ').includes(bridge));
      });
      return head + (kept.length === 0 ? '' : `\t\telements = { ${kept.join(',\n\t\t\t     ')} }\n`) + end;
    },
  );
}

/** At commas outside of quotes: a name of an interface may have them. */
function split(elements: string): readonly string[] {
  return elements.match(/(?:"[^"]*"|[^,"])+/g)?.map((element) => element.trim()) ?? [];
}

/** `"br0" . "br0"`, `10.1.0.2 . tcp . 80 counter packets 1 bytes 60`, `tcp . 80 : 10.1.0.2 . 80`. */
function keyOf(element: string): string {
  return (element.replace(/ counter packets \d+ bytes \d+/, '').split(' : ')[0] ?? '').replaceAll('"', '');
}
