/** The wire of a network: the link that its endpoints' links are made on, and the VLANs of ours on the way to it. Pure. */
import { SHARED } from '../../cnm/driver.ts';
import { CnmError } from '../../cnm/errors.ts';
import { invalidValue, quote } from '../../cnm/option-values.ts';
import { shortOf } from '../../cnm/short-name.ts';
import type { Facts, LinkFact } from '../../kernel/facts.ts';
import type { VlanProtocol } from '../../kernel/step.ts';
import { type MacvlanOptions, parseVlanId, VLAN_IDS } from './options.ts';

/** A VLAN interface that we make, or have made. */
export interface Vlan {
  readonly name: string;
  readonly parent: string;
  readonly id: number;
  readonly protocol: VlanProtocol;
}

/** The name of the link that endpoints are on: from the options alone, so that it is the same for ever. */
export function wireOf(network: string, { parent, vlan }: MacvlanOptions): string {
  if (parent === undefined) return carrierNamesOf(network).carrier;
  return vlan === undefined ? parent : vlanNameOf(parent, vlan);
}

/** As `ip link` users name them; where that is too long for a name, `cnmv` and a hash. */
function vlanNameOf(parent: string, id: number): string {
  const name = `${parent}.${id}`;
  return Buffer.byteLength(name) <= 15 ? name : `cnmv${shortOf(`${parent} ${id}`)}`;
}

/** Of the veth pair that a network without a parent is on; its other end hears everything and says nothing. */
export function carrierNamesOf(network: string): { readonly carrier: string; readonly end: string } {
  const stem = `cnmp${shortOf(network)}`;
  return { carrier: stem, end: `${stem}e` };
}

export interface Way {
  /** The first interface on the way that is not ours. */
  readonly base: LinkFact;
  /** Outermost first; the last one is the wire. None: the base is. */
  readonly vlans: readonly Vlan[];
}

/**
 * From an interface of the host's to the wire. What is there and is not ours is used as it is, whatever its name and kind.
 * @throws CnmError naming the value and what would be right.
 */
export function wayTo(options: MacvlanOptions & { readonly parent: string }, facts: Facts): Way {
  const { parent, vlan, protocols } = options;
  const { links } = facts.host;
  const { base, levels } =
    vlan === undefined
      ? descend(parent, links)
      : below({ name: vlanNameOf(parent, vlan), parent, id: vlan }, links);
  if (protocols.length > levels.length) {
    throw new CnmError(
      'option-invalid',
      `vlan_protocol names ${protocols.length} (${protocols.join(', ')}), but there ${levels.length === 1 ? 'is 1 VLAN' : `are ${levels.length} VLANs`} to make on ${base.name}`,
    );
  }
  const vlans = levels.map((level, index) => ({ ...level, protocol: protocols[index] ?? '802.1q' }));
  for (const one of vlans) assertFree(one, links);
  return { base, vlans };
}

type Links = Facts['host']['links'];
type Level = Omit<Vlan, 'protocol'>;
interface Descent {
  readonly base: LinkFact;
  readonly levels: readonly Level[];
}

/** A sentence for a wire that leads nowhere just now; undefined: it leads somewhere, or the network is not meant to. */
export function outageOf(wire: string, { parent }: MacvlanOptions, links: Links): string | undefined {
  if (parent === undefined) return undefined;
  const link = links.get(wire) ?? nearest(parent, links);
  if (link === undefined)
    return `${parent} is not there: the network's containers are cut off until it is back, and have their interfaces again then`;
  if (!link.up) return `${link.name} is down: containers reach nobody by it`;
  return link.carrier ? undefined : `${link.name} has no carrier: containers reach nobody by it`;
}

/** What a VLAN that is still to be made will be on. */
function nearest(name: string, links: Links): LinkFact | undefined {
  const dot = name.lastIndexOf('.');
  return links.get(name) ?? (dot > 0 ? nearest(name.slice(0, dot), links) : undefined);
}

/** A name that is taken apart at its last dot, as often as there is no interface of somebody else's by that name. */
function descend(name: string, links: Links): Descent {
  const link = links.get(name);
  if (link !== undefined && !isOurs(link)) return { base: link, levels: [] };
  return below(apart(name, links), links);
}

function below(level: Level, links: Links): Descent {
  const there = links.get(level.name);
  if (there !== undefined && !isOurs(there)) {
    if (there.vlan?.id === level.id && there.parent === level.parent) return { base: there, levels: [] };
    throw new CnmError(
      'network-conflict',
      `Interface ${level.name} is there already and is not VLAN ${level.id} of ${level.parent} (it is ${kindOf(there)}); name it as parent= if you mean it`,
    );
  }
  const { base, levels } = descend(level.parent, links);
  return { base, levels: [...levels, level] };
}

/** @throws CnmError when no interface can be made of the name. */
function apart(name: string, links: Links): Level {
  const dot = name.lastIndexOf('.');
  const [parent, number] = [name.slice(0, Math.max(dot, 0)), name.slice(dot + 1)];
  if (dot < 1)
    throw new CnmError('option-invalid', `parent cannot be ${quote(name)}: ${notThere(name, links)}`);
  const id = parseVlanId(number);
  if (id === undefined) {
    throw invalidValue(
      'parent',
      name,
      `an interface that is there, or one with a VLAN, as ${parent}.100: ${quote(number)} is not ${VLAN_IDS}`,
    );
  }
  return { name, parent, id };
}

function notThere(name: string, links: Links): string {
  const names = [...links.values()].filter((link) => link.name !== 'lo' && link.mark === undefined);
  const some = names.slice(0, 8).map((link) => link.name);
  const has = some.length === 0 ? 'it has none' : `it has ${some.join(', ')}${names.length > 8 ? ', …' : ''}`;
  return `there is no interface ${name} on this host (${has}); one with a VLAN is made when it is missing, as eth0.100`;
}

/** The kernel has one VLAN interface of a number and protocol on a link, by whatever name. */
function assertFree({ name, parent, id, protocol }: Vlan, links: Links): void {
  const there = links.get(name);
  if (there?.vlan !== undefined && there.vlan.protocol !== protocol) {
    throw new CnmError(
      'network-conflict',
      `VLAN interface ${name} is there already with ${there.vlan.protocol}; this network wants ${protocol}: give vlan_protocol=${there.vlan.protocol}, or another VLAN`,
    );
  }
  const twin = [...links.values()].find(
    (link) =>
      link.name !== name && link.parent === parent && link.vlan?.id === id && link.vlan.protocol === protocol,
  );
  if (twin === undefined) return;
  throw new CnmError(
    'network-conflict',
    `VLAN ${id} of ${parent} is there already, as ${twin.name}: use parent=${twin.name}`,
  );
}

function isOurs({ mark }: LinkFact): boolean {
  return mark?.network === SHARED.network;
}

function kindOf({ kind, vlan, parent }: LinkFact): string {
  if (vlan !== undefined) return `VLAN ${vlan.id} of ${parent ?? 'an interface elsewhere'}`;
  return kind ?? 'a physical device';
}
