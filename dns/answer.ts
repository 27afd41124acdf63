/** What is answered to a question from where it is asked: from our records, or that others know better. Pure. */
import { lengthOf, type Prefix } from '../address/prefix.ts';
import { type NameKey, keyOf, labelsOf, parentOf, reversedAddress } from './name.ts';
import type { Question } from './question.ts';
import type { LocalAnswer, LocalRecord } from './reply.ts';
import { CLASS_IN, RCODE, TYPE } from './wire.ts';
import type { Found, Member, NetworkZone, View, Zone } from './zone.ts';

/** Why an answer is what it is, for people. docs in README.md. */
export type Rule =
  | 'name'
  | 'name.network'
  | 'reverse'
  | 'service'
  | 'localhost'
  | 'inside-network'
  | 'own-subnet'
  | 'single-label'
  | 'class'
  | 'forward'
  | 'internal'
  | 'edns-version';

export interface Decision {
  readonly rule: Rule;
  /** Absent: to be forwarded, or (`internal`) to be failed at once. */
  readonly answer?: LocalAnswer;
  /** A code with no records, for what is not answered from a zone. */
  readonly refuse?: number;
  /** Of what network the record is. */
  readonly network?: string;
  /** Who answers. */
  readonly members?: readonly Member[];
}

export function decide(zone: Zone, view: View, question: Question): Decision {
  if (question.edns !== undefined && question.edns.version > 0)
    return { rule: 'edns-version', refuse: RCODE.BADVERS };
  if (question.class !== CLASS_IN) return { rule: 'class', refuse: RCODE.REFUSED };
  return (
    byName(zone, view, question) ??
    byAddress(zone, view, question) ??
    service(zone, view, question) ??
    localhost(question) ??
    nobodyElse(zone, question) ??
    (view.networks.some(({ network }) => !network.internal) ? { rule: 'forward' } : FAIL)
  );
}

const FAIL: Decision = { rule: 'internal', refuse: RCODE.SERVFAIL };

function byName(zone: Zone, view: View, question: Question): Decision | undefined {
  const found = zone.find(view, question.name);
  if (found === undefined) return undefined;
  return {
    rule: found.qualified ? 'name.network' : 'name',
    answer: aboutMembers(found, question),
    network: found.zone.id,
    members: found.members,
  };
}

/** A name that is known and has none of the type is NODATA and never NXDOMAIN: musl gives up for both families after that. */
function aboutMembers({ members, zone, qualified }: Found, { type, name }: Question): LocalAnswer {
  const [only] = members;
  // Most names are of one.
  const records =
    only !== undefined && members.length === 1
      ? addressRecords(only, type)
      : members.flatMap((member) => addressRecords(member, type));
  if (records.length > 0) return { rcode: RCODE.NOERROR, records: shuffled(records) };
  return nothing(RCODE.NOERROR, qualified ? (zone.suffix ?? name) : name);
}

/** RFC 8482 lets ANY be answered by what is at hand. */
function addressRecords({ v4, v6 }: Member, type: number, owner?: NameKey): readonly LocalRecord[] {
  const records: LocalRecord[] = [];
  if (type === TYPE.A || type === TYPE.ANY)
    for (const address of v4) records.push({ type: TYPE.A, address, owner });
  if (type === TYPE.AAAA || type === TYPE.ANY)
    for (const address of v6) records.push({ type: TYPE.AAAA, address, owner });
  return records;
}

/** Fisher and Yates, so that each of a service's endpoints comes first as often as the others. */
function shuffled<T>(items: readonly T[]): readonly T[] {
  if (items.length < 2) return items;
  const mixed = [...items];
  for (let last = mixed.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    const [a, b] = [mixed[last], mixed[other]];
    if (a !== undefined && b !== undefined) [mixed[last], mixed[other]] = [b, a];
  }
  return mixed;
}

function nothing(rcode: number, suffix: NameKey): LocalAnswer {
  return { rcode, records: [], soa: suffix.length };
}

/** Addresses of all our networks are ours alone: who is not in the view is not there, and nobody else is asked. */
function byAddress(zone: Zone, view: View, { name, type }: Question): Decision | undefined {
  const address = reversedAddress(name);
  if (address === undefined) return undefined;
  const found = zone.findAddress(view, address);
  const subnet = zone.subnetOf(address);
  if (found === undefined) {
    if (subnet === undefined) return undefined;
    return { rule: 'own-subnet', answer: nothing(RCODE.NXDOMAIN, reverseZone(name, subnet)) };
  }
  const about = { rule: 'reverse' as const, network: found.zone.id, members: [found.member] };
  if (type !== TYPE.PTR && type !== TYPE.ANY)
    return {
      ...about,
      answer: nothing(RCODE.NOERROR, subnet === undefined ? name : reverseZone(name, subnet)),
    };
  const own = fullName(found.zone, found.member);
  // It exists, and cannot be said: a failure, as with Docker's resolver.
  if (own === undefined) return { ...about, refuse: RCODE.SERVFAIL };
  return { ...about, answer: { rcode: RCODE.NOERROR, records: [{ type: TYPE.PTR, name: own }] } };
}

/** The part of a reverse name that its whole subnet shares, in whole labels: of bytes, or of half bytes. */
function reverseZone(name: NameKey, subnet: Prefix): NameKey {
  const v6 = subnet.includes(':');
  const own = (v6 ? 32 : 4) - Math.floor(lengthOf(subnet) / (v6 ? 4 : 8));
  let zone = name;
  for (let n = 0; n < own; n += 1) zone = parentOf(zone);
  return zone;
}

/** `name.network`, by which it is found again; the name alone where the network's cannot be part of a domain name. */
function fullName({ suffix = '' }: NetworkZone, { keys }: Member): NameKey | undefined {
  return keys.map((key) => key + suffix).find((key) => key.length < 255) ?? keys[0];
}

/** Services that RFC 6335's registry has a name for and people put into containers. */
const SERVICES: Readonly<Record<string, number>> = {
  http: 80,
  https: 443,
  ssh: 22,
  domain: 53,
  ldap: 389,
  ldaps: 636,
  mysql: 3306,
  postgresql: 5432,
  amqp: 5672,
  redis: 6379,
  mongodb: 27017,
};
const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

/** `_80._tcp.web` and `_http._tcp.web` (RFC 2782), and `80.tcp.web` as Docker's resolver means it: a record for each endpoint. */
function service(zone: Zone, view: View, question: Question): Decision | undefined {
  const [first = '', second = ''] = labelsOf(question.name);
  const proto = PROTOCOLS.find((known) => second === known || second === `_${known}`);
  const word = first.replace(/^_/, '');
  const port = /^\d{1,5}$/.test(word) ? Number(word) : SERVICES[word];
  if (proto === undefined || port === undefined) return undefined;
  const found = zone.find(view, parentOf(parentOf(question.name)));
  if (found === undefined) return undefined;
  const serving = found.members.filter(({ host }) =>
    host.ports.some((one) => one.port === port && one.proto === proto),
  );
  const about = { rule: 'service' as const, network: found.zone.id };
  const base = found.qualified ? (found.zone.suffix ?? found.name) : found.name;
  if (serving.length === 0) return { ...about, answer: nothing(RCODE.NXDOMAIN, base) };
  if (question.type !== TYPE.SRV && question.type !== TYPE.ANY)
    return { ...about, members: serving, answer: nothing(RCODE.NOERROR, base) };
  return { ...about, members: serving, answer: serviceAnswer(found.zone, shuffled(serving), port) };
}

function serviceAnswer(zone: NetworkZone, members: readonly Member[], port: number): LocalAnswer {
  const targets = members.flatMap((member) => {
    const target = fullName(zone, member);
    return target === undefined ? [] : [{ member, target }];
  });
  return {
    rcode: RCODE.NOERROR,
    records: targets.map(({ target }) => ({ type: TYPE.SRV, port, target })),
    additional: targets.flatMap(({ member, target }) => addressRecords(member, TYPE.ANY, target)),
  };
}

const LOCALHOST = keyOf('localhost');
const LOOPBACK = { v4: [0x7f000001], v6: [Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)] };

/** RFC 6761 section 6.3: never asked of others. */
function localhost({ name, type }: Question): Decision | undefined {
  if (!name.endsWith(LOCALHOST) || labelsOf(name).at(-1) !== 'localhost') return undefined;
  const records = addressRecords({ ...LOOPBACK, keys: [], host: NOBODY }, type);
  const answer = records.length > 0 ? { rcode: RCODE.NOERROR, records } : nothing(RCODE.NOERROR, LOCALHOST);
  return { rule: 'localhost', answer };
}

const NOBODY = { id: '', network: '', owner: '', names: [], addresses: [], ports: [] };

/** What a validator asks of a top-level domain; all else about a name of one label can only mean a container. */
const OF_DOMAINS: readonly number[] = [TYPE.NS, TYPE.SOA, TYPE.DS, TYPE.DNSKEY];

/**
 * Names that others must not be asked for: inside a network of ours, whether the asker is on it or not; and single labels, which on the
 * internet are nothing (systemd-resolved and aardvark-dns keep them too). The name of a container that is just gone is one of these.
 */
function nobodyElse(zone: Zone, { name, type }: Question): Decision | undefined {
  const suffix = zone.suffixAround(name);
  if (suffix !== undefined) {
    // The network's own name exists, being above others.
    const rcode = suffix === name ? RCODE.NOERROR : RCODE.NXDOMAIN;
    return { rule: 'inside-network', answer: nothing(rcode, suffix) };
  }
  if (name === '' || parentOf(name) !== '' || OF_DOMAINS.includes(type)) return undefined;
  return { rule: 'single-label', answer: nothing(RCODE.NXDOMAIN, name) };
}
