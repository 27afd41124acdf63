/** The options of `docker network create -d cnm-bridge -o …`, under Docker's own names (libnetwork.md §1.1). */
import { CnmError } from '../../cnm/errors.ts';

export interface BridgeOptions {
  /** Bytes; undefined = the kernel's default, 1500. */
  readonly mtu: number | undefined;
  /** The bridge that the user named; undefined = one of ours, named after the network. */
  readonly bridgeName: string | undefined;
  readonly masquerade: boolean;
  readonly ifacePrefix: string;
}

const MTU = 'com.docker.network.driver.mtu';
const BRIDGE_NAME = 'com.docker.network.bridge.name';
const MASQUERADE = 'com.docker.network.bridge.enable_ip_masquerade';
const IFACE_PREFIX = 'com.docker.network.container_iface_prefix';

/** Known to Docker itself for every driver, and acted on by dockerd: accepted here, not ours to judge. */
const DOCKERS_OWN = new Set([
  'com.docker.network.advertise_addr_nmsgs',
  'com.docker.network.advertise_addr_ms',
  'com.docker.network.enable_ipv4',
  'com.docker.network.enable_ipv6',
]);

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function parseOptions(options: Readonly<Record<string, string>>): BridgeOptions {
  for (const name of Object.keys(options)) assertKnown(name);
  return {
    mtu: mtu(options[MTU]),
    bridgeName: bridgeName(options[BRIDGE_NAME]),
    masquerade: boolean(MASQUERADE, options[MASQUERADE], true),
    ifacePrefix: ifacePrefix(options[IFACE_PREFIX]),
  };
}

/** A mistyped option that is silently ignored is found at 3 a.m.; so an unknown one is refused. */
function assertKnown(name: string): void {
  const ours = [MTU, BRIDGE_NAME, MASQUERADE, IFACE_PREFIX];
  if (ours.includes(name) || DOCKERS_OWN.has(name)) return;
  throw new CnmError(
    'option-invalid',
    `cnm-bridge does not know the option ${quote(name)}; it knows ${ours.join(', ')}`,
  );
}

/** 68 is the least that IPv4 allows (RFC 791 section 3.2), 65535 the most that a veth takes (drivers/net/veth.c, ETH_MAX_MTU). */
function mtu(text: string | undefined): number | undefined {
  if (text === undefined || text === '' || text === '0') return undefined;
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (value >= 68 && value <= 65535) return value;
  throw invalid(MTU, text, 'an MTU in bytes, from 68 to 65535');
}

/**
 * What the kernel accepts as a name (net/core/dev.c, dev_valid_name: 1 to 15 bytes, no `/`, `:` or white space, not `.`
 * or `..`; net/ipv4/devinet.c, sysctl_dev_name_is_allowed: not `all` or `default`), narrowed to what nft and iptables
 * take unquoted and not for an option; `%` would make the kernel choose a number.
 */
function bridgeName(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(text) && text !== 'all' && text !== 'default') return text;
  throw invalid(
    BRIDGE_NAME,
    text,
    'an interface name: 1 to 15 letters, digits, "_", "." or "-", no "." or "-" first, and not "all" or "default"',
  );
}

/** Room for the number that Docker appends, and never a digit last: `eth1` and number 0 would read as eth10. */
function ifacePrefix(text: string | undefined): string {
  if (text === undefined || text === '') return 'eth';
  if (/^[A-Za-z][A-Za-z0-9_.-]{0,10}$/.test(text) && !/\d$/.test(text)) return text;
  throw invalid(
    IFACE_PREFIX,
    text,
    'the beginning of an interface name: up to 11 letters, digits, "_", "." or "-", a letter first and no digit last',
  );
}

/** The words that Go's strconv.ParseBool takes, because Docker's own driver uses it. */
function boolean(name: string, text: string | undefined, otherwise: boolean): boolean {
  if (text === undefined) return otherwise;
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw invalid(name, text, 'true or false');
}

function invalid(name: string, value: string, right: string): CnmError {
  const label = name === MTU ? `${name} (mtu)` : name;
  return new CnmError('option-invalid', `${label} cannot be ${quote(value)}: it must be ${right}`);
}

/** JSON's quoting makes control characters visible and keeps a terminal safe. */
function quote(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
