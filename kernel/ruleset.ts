/**
 * Our nftables table `inet cnm`. Pure.
 *
 * The chains never change while the daemon runs: what differs from network to network is elements of sets, so that a
 * packet costs the same few lookups however many networks there are, and a change is one small transaction.
 *
 * An `accept` here ends only this table's chain; the host's and Docker's own tables still see the packet and can drop
 * it. A `drop` is final (net/netfilter/core.c: nf_hook_slow). Therefore nothing here drops a packet that does not come
 * from or go to a bridge of ours.
 */
import { createHash } from 'node:crypto';
import type { FieldType, SetType } from './element.ts';
import type { NftSetName } from './step.ts';

export const TABLE = 'cnm';

export const SETS: Readonly<Record<NftSetName, SetType>> = {
  bridges: { key: ['ifname'] },
  same_bridge: { key: ['ifname', 'ifname'] },
  internal: { key: ['ifname'] },
  masquerade4: { key: ['ifname'] },
  masquerade6: { key: ['ifname'] },
};

export const SET_NAMES = Object.keys(SETS) as readonly NftSetName[];

interface Rule {
  readonly why: string;
  readonly rule: string;
}

interface Chain {
  readonly name: string;
  /** Absent for a chain that is only jumped to. */
  readonly hook?: string;
  readonly rules: readonly Rule[];
}

/** Packets that the host forwards into one of our bridges. */
const INTO: Chain = {
  name: 'into_bridge',
  rules: [
    {
      why: 'Replies to what a container began.',
      rule: 'ct state established,related accept',
    },
    {
      why: 'Published ports: somebody here chose to let this connection in by translating its destination.',
      rule: 'ct status dnat accept',
    },
    {
      why: 'All else: other networks, Docker bridges, and hosts of the LAN that route straight to a container.',
      rule: 'drop',
    },
  ],
};

const FORWARD: Chain = {
  name: 'forward',
  hook: 'type filter hook forward priority filter; policy accept;',
  rules: [
    {
      why: 'Between two ports of one bridge. Such frames come by here only when br_netfilter hands them to IP (bridge-nf-call-iptables, which dockerd sets), with the bridge as both interfaces.',
      rule: 'iifname . oifname @same_bridge accept',
    },
    {
      why: 'A network without a way out: nothing leaves it, whatever routes a container makes for itself,',
      rule: 'iifname @internal drop',
    },
    {
      why: 'and nothing enters, not even a reply: no connection across its edge may live on.',
      rule: 'oifname @internal drop',
    },
    {
      why: 'What is bound for the world from a bridge of ours leaves by the policy, as do packets that are not ours.',
      rule: `oifname @bridges goto ${INTO.name}`,
    },
  ],
};

const POSTROUTING: Chain = {
  name: 'postrouting',
  hook: 'type nat hook postrouting priority srcnat; policy accept;',
  rules: [
    {
      why: 'Outbound packets get the address of the interface that they leave by. Matched by interface, not by subnet, so that containers that route for others work too; frames bridged under br_netfilter have no input interface here and keep their source, as do the packets of the host. Multicast keeps it, because receivers tell senders apart by their source (RFC 4607 §3): Linux 6.18 shows routed multicast no input interface here, which is not relied upon.',
      rule: 'iifname @masquerade4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade',
    },
    {
      why: 'The same for IPv6; RFC 4291 §2.7 for multicast.',
      rule: 'iifname @masquerade6 oifname != @bridges ip6 daddr != ff00::/8 masquerade',
    },
  ],
};

const CHAINS: readonly Chain[] = [INTO, FORWARD, POSTROUTING];

/** How many rules the table has: fewer means that somebody flushed a chain and left the sets. */
export const RULE_COUNT = CHAINS.reduce((sum, { rules }) => sum + rules.length, 0);

const BODY = [...SET_NAMES.map(setText), ...CHAINS.map(chainText)].join('\n');

/**
 * The name of an empty set that tells which version of the chains is loaded: names and nothing else come through every
 * version of nft and of the kernel unchanged.
 */
export const VERSION_SET = `version_${createHash('sha256').update(BODY).digest('hex').slice(0, 12)}`;

/** Elements of our sets: fields joined with ' . ', as in Facts. */
export type Elements = ReadonlyMap<NftSetName, ReadonlyMap<string, string>>;

/**
 * A file for `nft -f`: one transaction that puts the table with these elements in the place of one that is there, if
 * any. `add` before `delete`, because deleting what does not exist fails.
 */
export function rulesetText(elements: Elements = new Map()): string {
  return `add table inet ${TABLE}
delete table inet ${TABLE}
table inet ${TABLE} {
	# Which version of these chains is loaded. Always empty.
	set ${VERSION_SET} {
		type mark
	}

${BODY}}
${[...elements].flatMap(([set, held]) => [...held].map(([key, data]) => elementLine(set, key, data))).join('')}`;
}

/** Empty for a name that nft's notation cannot hold: it is put back over netlink, which can. */
function elementLine(set: NftSetName, key: string, data: string): string {
  if (/["\\*]/.test(key + data)) return '';
  const { key: types, data: dataTypes } = SETS[set];
  const fields = quoted(types, key) + (dataTypes === undefined ? '' : ` : ${quoted(dataTypes, data)}`);
  return `add element inet ${TABLE} ${set} { ${fields} }\n`;
}

/** Interface names in quotes: they may look like keywords. */
function quoted(types: readonly FieldType[], text: string): string {
  return text
    .split(' . ')
    .map((field, i) => (types[i] === 'ifname' ? `"${field}"` : field))
    .join(' . ');
}

function setText(name: NftSetName): string {
  const { key, data } = SETS[name];
  const type = key.join(' . ') + (data === undefined ? '' : ` : ${data.join(' . ')}`);
  return `	${data === undefined ? 'set' : 'map'} ${name} {\n		type ${type}\n	}\n`;
}

function chainText({ name, hook, rules }: Chain): string {
  const lines = rules.flatMap(({ why, rule }) => [...wrapped(why).map((line) => `# ${line}`), rule]);
  const body = [...(hook === undefined ? [] : [hook]), ...lines].map((line) => `		${line}\n`).join('');
  return `	chain ${name} {\n${body}	}\n`;
}

/** Lines of at most 100 characters. */
function wrapped(text: string): string[] {
  return text.match(/.{1,100}(?:\s|$)/g)?.map((line) => line.trimEnd()) ?? [];
}
