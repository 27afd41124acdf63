/** The values of drivers' options, as text from the command line. Each refuses what it cannot use, naming option, value and what would be right. */
import { familyOf, parseIp, type Ip } from '../address/ip.ts';
import { CnmError } from './errors.ts';

/** The words that Go's strconv.ParseBool takes, because Docker's own driver uses it. */
export function booleanValue(name: string, text: string | undefined, otherwise: boolean): boolean {
  if (text === undefined) return otherwise;
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw invalidValue(name, text, 'true or false');
}

export function choiceValue<Choice extends string>(
  name: string,
  text: string | undefined,
  choices: readonly Choice[],
  otherwise: Choice,
): Choice {
  if (text === undefined || text === '') return otherwise;
  const chosen = choices.find((choice) => choice === text);
  if (chosen !== undefined) return chosen;
  throw invalidValue(name, text, `one of ${choices.join(', ')}`);
}

export function addressValue(name: string, text: string | undefined, family?: 4 | 6): Ip | undefined {
  if (text === undefined || text === '') return undefined;
  const address = parseIp(text);
  if (address !== undefined && (family === undefined || familyOf(address) === family)) return address;
  throw invalidValue(name, text, `an ${family === undefined ? 'IP' : `IPv${family}`} address`);
}

/** 68 is the least that IPv4 allows (RFC 791 section 3.2), 65535 the most that a veth takes (drivers/net/veth.c, ETH_MAX_MTU). */
export function mtuValue(name: string, text: string | undefined): number | undefined {
  if (text === undefined || text === '' || text === '0') return undefined;
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (value >= 68 && value <= 65535) return value;
  throw invalidValue(name, text, 'an MTU in bytes, from 68 to 65535');
}

/**
 * What the kernel accepts as a name (net/core/dev.c, dev_valid_name: 1 to 15 bytes, no `/`, `:` or white space, not `.`
 * or `..`; net/ipv4/devinet.c, sysctl_dev_name_is_allowed: not `all` or `default`), narrowed to what nft and iptables
 * take unquoted and not for an option; `%` would make the kernel choose a number.
 */
export function interfaceValue(name: string, text: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(text) && text !== 'all' && text !== 'default') return text;
  throw invalidValue(
    name,
    text,
    'an interface name: 1 to 15 letters, digits, "_", "." or "-", no "." or "-" first, and not "all" or "default"',
  );
}

/** Room for the number that Docker appends, and never a digit last: `eth1` and number 0 would read as eth10. */
export function interfacePrefixValue(name: string, text: string | undefined): string {
  if (text === undefined || text === '') return 'eth';
  if (/^[A-Za-z][A-Za-z0-9_.-]{0,10}$/.test(text) && !/\d$/.test(text)) return text;
  throw invalidValue(
    name,
    text,
    'the beginning of an interface name: up to 11 letters, digits, "_", "." or "-", a letter first and no digit last',
  );
}

/**
 * What the name of a container's interface begins with. dockerd appends the lowest number that is free, to a plugin's prefix: a name that
 * ends in 0 is one that it can be asked for.
 */
export function interfaceNameValue(name: string, text: string): string {
  const prefix = /^([A-Za-z](?:[A-Za-z0-9_.-]{0,9}[A-Za-z_.-])?)0$/.exec(text)?.[1];
  if (prefix !== undefined) return prefix;
  throw invalidValue(
    name,
    text,
    'a name of up to 12 characters that ends in 0, as lan0: for a plugin Docker itself appends the number, the lowest that is free',
  );
}

export function invalidValue(name: string, value: string, right: string): CnmError {
  const label = name.endsWith('.mtu') ? `${name} (mtu)` : name;
  return new CnmError('option-invalid', `${label} cannot be ${quote(value)}: it must be ${right}`);
}

/** JSON's quoting makes control characters visible and keeps a terminal safe. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Known to Docker itself for every driver, and acted on by dockerd: accepted here, not ours to judge. */
const DOCKERS_OWN = new Set([
  'com.docker.network.advertise_addr_nmsgs',
  'com.docker.network.advertise_addr_ms',
  'com.docker.network.enable_ipv4',
  'com.docker.network.enable_ipv6',
]);

/** A mistyped option that is silently ignored is found at 3 a.m.; so an unknown one is refused. */
export function assertKnown(
  driver: string,
  options: Readonly<Record<string, string>>,
  ours: readonly string[],
): void {
  const unknown = Object.keys(options).find((name) => !ours.includes(name) && !DOCKERS_OWN.has(name));
  if (unknown === undefined) return;
  throw new CnmError(
    'option-invalid',
    `${driver} does not know the option ${quote(unknown)}; it knows ${ours.join(', ')}`,
  );
}
