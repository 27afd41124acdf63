/**
 * The nftables table of a network's namespace that has an uplink: between the addresses that its endpoints have and those by which the rest
 * of the host knows them (`uplink.translate`). One for one, so that nothing of it depends on who is there, and it never changes. Pure.
 */
import { createHash } from 'node:crypto';
import { familyOfPrefix, type Prefix } from '../address/prefix.ts';
import type { UplinkTranslate } from './step.ts';
import { TABLE } from './sets.ts';

type Wanted = Pick<UplinkTranslate, 'link' | 'pairs'>;

interface Chain {
  readonly name: string;
  readonly hook: string;
  readonly rules: readonly string[];
}

/** By number: where there is no /etc/protocols, nft knows neither icmp nor ipv6-icmp by name. */
const ICMP = '{ 1, 58 }';

function chains({ link, pairs }: Wanted): readonly Chain[] {
  const of = (family: 4 | 6) => pairs.filter(({ inside }) => familyOfPrefix(inside) === family);
  const both = (rule: (words: Words) => readonly string[]) =>
    ([4, 6] as const).flatMap((family) => (of(family).length === 0 ? [] : rule(wordsOf(family, of(family)))));
  return [
    {
      // What stays between the network's own addresses, bridged or routed, is nobody's translation: it costs no tracking, and may come back by another host.
      name: 'apart',
      hook: 'type filter hook prerouting priority raw; policy accept;',
      rules: both(({ ip, pools }) => [
        `iifname != "${link}" ${ip} saddr ${pools} ${ip} daddr ${pools} notrack`,
      ]),
    },
    {
      name: 'inward',
      hook: 'type nat hook prerouting priority dstnat; policy accept;',
      rules: both(({ ip, inward }) => [`iifname "${link}" dnat ${ip} prefix to ${ip} daddr map ${inward}`]),
    },
    {
      // What an endpoint sends on for others goes by the uplink's own address.
      name: 'outward',
      hook: 'type nat hook postrouting priority srcnat; policy accept;',
      rules: [
        ...both(({ ip, outward }) => [`oifname "${link}" snat ${ip} prefix to ${ip} saddr map ${outward}`]),
        `oifname "${link}" masquerade`,
      ],
    },
    {
      // `rt mtu` is the smaller one of both directions (nft_rt.c, get_tcpmss()), and a size is never made larger (nft_exthdr.c).
      name: 'passing',
      hook: 'type filter hook forward priority filter; policy accept;',
      rules: [
        `iifname "${link}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu`,
        `oifname "${link}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu`,
        `iifname "${link}" ct state established,related accept`,
        `iifname "${link}" ct status dnat accept`,
        `iifname "${link}" drop`,
      ],
    },
    {
      // The router itself, and the resolver at the gateways, are for the network alone.
      name: 'router',
      hook: 'type filter hook input priority filter; policy accept;',
      rules: [`iifname "${link}" ct state new meta l4proto != ${ICMP} drop`],
    },
  ];
}

/** What the rules of one family are made of. */
interface Words {
  readonly ip: 'ip' | 'ip6';
  readonly pools: string;
  readonly inward: string;
  readonly outward: string;
}

function wordsOf(
  family: 4 | 6,
  pairs: readonly { readonly inside: Prefix; readonly outside: Prefix }[],
): Words {
  const list = (of: (pair: (typeof pairs)[number]) => string) => `{ ${pairs.map(of).join(', ')} }`;
  return {
    ip: family === 4 ? 'ip' : 'ip6',
    pools: list(({ inside }) => inside),
    inward: list(({ inside, outside }) => `${outside} : ${inside}`),
    outward: list(({ inside, outside }) => `${inside} : ${outside}`),
  };
}

/** The name of an empty set, by which a table that was loaded is known again; with the number of rules, fewer of which mean that somebody took some out. */
export function translationName(wanted: Wanted): string {
  const all = chains(wanted);
  const digest = createHash('sha256').update(all.map(chainText).join('')).digest('hex').slice(0, 12);
  return `version_${digest}_${all.reduce((sum, { rules }) => sum + rules.length, 0)}`;
}

/** Whether a table with these sets and so many rules is one that this version loaded whole: its name. */
export function heldTranslation(sets: readonly string[], rules: number): string | undefined {
  return sets.find((name) => /^version_[0-9a-f]{12}_\d+$/.test(name) && name.endsWith(`_${rules}`));
}

/** For `nft -f` in the namespace: one transaction. */
export function translationText(wanted: Wanted): string {
  return `${DROP_TRANSLATION}table inet ${TABLE} {
	# Which translation is loaded. Always empty.
	set ${translationName(wanted)} {
		type mark
	}

${chains(wanted).map(chainText).join('\n')}}
`;
}

/** `add` before `delete`, because deleting what does not exist fails. */
export const DROP_TRANSLATION = `add table inet ${TABLE}\ndelete table inet ${TABLE}\n`;

function chainText({ name, hook, rules }: Chain): string {
  return `\tchain ${name} {\n${[hook, ...rules].map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}
