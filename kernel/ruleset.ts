/** Our nftables tables as a file for `nft -f`: the sets, the chains, and the elements that are to be in them. Pure. */
import { createHash } from 'node:crypto';
import { type Chain, CHAINS, TO_GATE } from './chains.ts';
import type { FieldType, SetType } from './element.ts';
import { SET_NAMES, SETS, TABLE } from './sets.ts';
import type { NftSetName } from './step.ts';

/** How many rules the tables have: fewer means that somebody flushed a chain and left the sets. */
export const RULE_COUNT = [...CHAINS, ...Object.values(TO_GATE)].reduce(
  (sum, { rules }) => sum + rules.length,
  0,
);

const BODY = [...SET_NAMES.map(setText), ...CHAINS.map(chainText)].join('\n');
const GATE_TABLES = Object.entries(TO_GATE).map(
  ([family, chain]) => `table ${family} ${TABLE} {\n${chainText(chain)}}\n`,
);

/**
 * The name of an empty set that tells which version of the chains is loaded: names and nothing else come through every
 * version of nft and of the kernel unchanged.
 */
export const VERSION_SET = `version_${createHash('sha256')
  .update(BODY + GATE_TABLES.join(''))
  .digest('hex')
  .slice(0, 12)}`;

/** Elements of our sets: fields joined with ' . ', as in Facts. */
export type Elements = ReadonlyMap<NftSetName, ReadonlyMap<string, string>>;

/**
 * A file for `nft -f`: one transaction that puts the tables with these elements in the place of those that are there, if
 * any. `add` before `delete`, because deleting what does not exist fails.
 */
export function rulesetText(elements: Elements = new Map()): string {
  return `${['inet', ...Object.keys(TO_GATE)].map(replaced).join('')}table inet ${TABLE} {
	# Which version of these chains is loaded. Always empty.
	set ${VERSION_SET} {
		type mark
	}

${BODY}}
${GATE_TABLES.join('')}${[...elements].map(([set, held]) => elementLine(set, held)).join('')}`;
}

function replaced(family: string): string {
  return `add table ${family} ${TABLE}\ndelete table ${family} ${TABLE}\n`;
}

/** One line for a whole set: nft takes ten thousand lines many times longer than one with ten thousand elements. */
function elementLine(set: NftSetName, held: ReadonlyMap<string, string>): string {
  const texts = [...held].flatMap(([key, data]) => elementText(SETS[set], key, data));
  return texts.length === 0 ? '' : `add element inet ${TABLE} ${set} { ${texts.join(', ')} }\n`;
}

/** Nothing for a name that nft's notation cannot hold: it is put back over netlink, which can. */
function elementText({ key: types, data: dataTypes }: SetType, key: string, data: string): readonly string[] {
  if (/["\\*]/.test(key + data)) return [];
  return [quoted(types, key) + (dataTypes === undefined ? '' : ` : ${quoted(dataTypes, data)}`)];
}

/** Interface names in quotes: they may look like keywords. */
function quoted(types: readonly FieldType[], text: string): string {
  return text
    .split(' . ')
    .map((field, i) => (types[i] === 'ifname' ? `"${field}"` : field))
    .join(' . ');
}

function setText(name: NftSetName): string {
  const { key, data, interval = false, counted = false } = SETS[name];
  const type = key.join(' . ') + (data === undefined ? '' : ` : ${data.join(' . ')}`);
  return `	${data === undefined ? 'set' : 'map'} ${name} {\n		type ${type}\n${interval ? '\t\tflags interval\n' : ''}${counted ? '\t\tcounter\n' : ''}	}\n`;
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
