/** What `cnmd` is told: flags, environment variables of the same name, and what is right for each. Pure. */
import { parseArgs } from 'node:util';
import { type Ip, parseIp } from '../address/ip.ts';
import {
  hasHostBits,
  isMulticast,
  lengthOf,
  networkOf,
  parsePrefix,
  type Prefix,
  sizeOf,
} from '../address/prefix.ts';
import { messageOf } from '../cnm/errors.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel, settings, SPACES } from './settings.ts';

export interface Configuration {
  /** Names as users type them in `--drivers`, without `cnm-`: at least one, none twice. */
  readonly drivers: readonly string[];
  /**
   * `service`: one socket for each driver and one for IPAM, named as Docker looks for them.
   * `managed`: inside a managed plugin, where Docker wants one socket that speaks both protocols.
   */
  readonly form: 'service' | 'managed';
  readonly pluginDir: string;
  readonly stateDir: string;
  /** Where the namespaces of our own sandboxes are bound. */
  readonly runDir: string;
  readonly adminSocket: string;
  readonly dockerSocket: string;
  /** Subnets of length `size` are cut out of `base` for networks whose user names none; empty = the IPAM's own. */
  readonly defaultPools: readonly { readonly base: Prefix; readonly size: number }[];
  /** Milliseconds for which a freed address rests. */
  readonly addressRest: number;
  readonly resolvConf: string;
  /** Milliseconds for which expired answers of other servers are still given where there are no newer ones; 0 = never. */
  readonly dnsServeStale: number;
  /** Where the host itself asks for names of all networks. */
  readonly dnsListen: readonly { readonly address: Ip; readonly port: number }[];
  /** Members of the cluster's etcd, each as `host:port`. Absent: this host is on its own. */
  readonly cluster?: readonly string[];
  /** How those are reached; absent: in the clear. */
  readonly clusterTls?: ClusterTls;
  /** Seconds after which this host, when nothing is heard of it, counts as away there. */
  readonly clusterLease: number;
  /** Of networks that say nothing of it. */
  readonly defaultSpace: (typeof SPACES)[number];
  /** By which address other hosts reach this one; absent = each overlay network finds out. */
  readonly advertise?: Ip;
  /** With the secrets of encrypted networks; absent: there can be none. */
  readonly overlayKeys?: string;
  /** Milliseconds for which a key of theirs is sent with. */
  readonly overlayRekey: number;
  /** Of networks whose driver can have either: made by each host, or by Docker Swarm on its nodes. */
  readonly scope: 'local' | 'global';
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** Files in PEM. Without `ca` the certificates that Node trusts hold. */
export interface ClusterTls {
  readonly ca?: string;
  /** What this host shows, where etcd asks for it (`--client-cert-auth`). */
  readonly own?: { readonly cert: string; readonly key: string };
}

/** What the command line asks for. */
export type Request =
  { readonly do: 'run'; readonly configuration: Configuration } | { readonly do: 'help' | 'version' };

/** A setting that cannot be used. `message` is a sentence that names the flag and what would be right. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

/**
 * @param available the drivers that this version has, without `cnm-`
 * @throws ConfigurationError naming the first setting that cannot be used
 */
export function parseConfiguration(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  available: readonly string[],
): Request {
  const flags = parseFlags(argv, available);
  if (flags['help'] === true) return { do: 'help' };
  if (flags['version'] === true) return { do: 'version' };

  const managed = (env['DRIVER'] ?? '') !== '';
  if (managed && flags['drivers'] !== undefined)
    throw new ConfigurationError(
      'Both --drivers and DRIVER are set. DRIVER names the one driver of a managed plugin: unset it to run as a service.',
    );
  const prefix = managed ? '' : 'CNM_';
  const value = (flag: string): Value => {
    const variable = prefix + flag.replaceAll('-', '_').toUpperCase();
    const given = flags[flag];
    if (typeof given === 'string') return { from: `--${flag}`, text: given };
    const set = env[variable];
    if (set !== undefined && set !== '') return { from: variable, text: set };
    const setting = settings(available).find((known) => known.flag === flag);
    return { from: `--${flag}`, text: setting?.default ?? '' };
  };

  const cluster = etcdMembers(value('cluster'));
  const clusterTls = tlsOf(value);
  const advertise = advertised(value('advertise'));
  const overlayKeys = value('overlay-keys');
  return {
    do: 'run',
    configuration: {
      drivers: driverNames(
        managed ? { from: 'DRIVER', text: env['DRIVER'] ?? '' } : value('drivers'),
        available,
        managed,
      ),
      form: managed ? 'managed' : 'service',
      pluginDir: absolutePath(value('plugin-dir')),
      stateDir: absolutePath(value('state-dir')),
      runDir: absolutePath(value('run-dir')),
      adminSocket: socketPath(value('admin-socket')),
      dockerSocket: socketPath(value('docker-socket')),
      defaultPools: addressPools(value('default-address-pools')),
      addressRest: seconds(value('address-rest')) * 1000,
      resolvConf: absolutePath(value('resolv-conf')),
      dnsServeStale: seconds(value('dns-serve-stale')) * 1000,
      dnsListen: dnsAddresses(value('dns-listen')),
      ...(cluster !== undefined && { cluster }),
      ...(clusterTls !== undefined && { clusterTls }),
      clusterLease: seconds(value('cluster-lease'), LEASE_LEAST_S),
      defaultSpace: oneOf(value('default-space'), SPACES),
      ...(advertise !== undefined && { advertise }),
      ...(overlayKeys.text !== '' && { overlayKeys: absolutePath(overlayKeys) }),
      overlayRekey: seconds(value('overlay-rekey'), REKEY_LEAST_S) * 1000,
      scope: scopeOf(value('scope'), managed),
      logLevel: oneOf(value('log-level'), LOG_LEVELS),
      logFormat: oneOf(value('log-format'), LOG_FORMATS),
    },
  };
}

/** A setting's text and where it came from, for the error message. */
interface Value {
  readonly from: string;
  readonly text: string;
}

function parseFlags(argv: readonly string[], available: readonly string[]) {
  const strings = settings(available).map(({ flag }) => [flag, { type: 'string' }] as const);
  const options = Object.fromEntries<{ type: 'string' | 'boolean'; short?: string }>([
    ...strings,
    ['help', { type: 'boolean', short: 'h' }],
    ['version', { type: 'boolean' }],
  ]);
  try {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    // parseArgs says what is wrong in its first sentence; the rest is advice about `--` that does not fit here.
    const [first] = messageOf(error).split('. ');
    throw new ConfigurationError(`${first ?? ''}. cnmd --help lists the settings.`, { cause: error });
  }
}

function driverNames({ from, text }: Value, available: readonly string[], one: boolean) {
  const names = text.split(',').map((name) => name.trim().replace(/^cnm-/, ''));
  const choice = `one of ${available.join(', ')}`;
  for (const [position, name] of names.entries()) {
    if (!available.includes(name))
      throw new ConfigurationError(`${from}: there is no driver '${name}'; it must be ${choice}.`);
    if (names.indexOf(name) !== position)
      throw new ConfigurationError(`${from}: '${name}' is named twice; name each driver once.`);
  }
  if (one && names.length > 1)
    throw new ConfigurationError(
      `${from}: '${text}' names ${names.length} drivers; a managed plugin serves ${choice}. Install it again under another alias for another driver.`,
    );
  return names;
}

function absolutePath({ from, text }: Value): string {
  if (!text.startsWith('/') || text.includes('\0'))
    throw new ConfigurationError(`${from}: '${text}' is not an absolute path; it must begin with '/'.`);
  return text.length > 1 ? text.replace(/\/+$/, '') : text;
}

/** `#` before the port, as dnsmasq and unbound have it: `:` belongs to IPv6. */
function dnsAddresses({ from, text }: Value) {
  return text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
    .map((one) => {
      const [, written = '', number = '53'] = /^([^#]+)(?:#(\d{1,5}))?$/.exec(one) ?? [];
      const [address, port] = [parseIp(written), Number(number)];
      if (address === undefined || port < 1 || port > 65535)
        throw new ConfigurationError(
          `${from}: '${one}' is no address to listen on; it must be like 127.0.0.1, 127.0.0.54#53 or ::1#5353.`,
        );
      return { address, port };
    });
}

/** sun_path of sockaddr_un holds 108 bytes with the closing NUL (unix(7)); a longer one would fail at listen with EINVAL. */
function socketPath(value: Value): string {
  const path = absolutePath(value);
  if (Buffer.byteLength(path) > 107)
    throw new ConfigurationError(
      `${value.from}: '${path}' is ${Buffer.byteLength(path)} bytes long; the path of a socket may have at most 107.`,
    );
  return path;
}

function addressPools({ from, text }: Value): Configuration['defaultPools'] {
  if (text === '') return [];
  return text.split(';').map((part) => {
    const { base: written = '', size: length = '' } = Object.fromEntries(
      part.split(',').map((word) => word.trim().split('=')),
    ) as Readonly<Record<string, string>>;
    const base = parsePrefix(written);
    if (base === undefined || !/^\d{1,3}$/.test(length))
      throw new ConfigurationError(`${from}: '${part.trim()}' must be as base=10.64.0.0/12,size=24.`);
    if (hasHostBits(base))
      throw new ConfigurationError(
        `${from}: base=${base} has host bits set; the subnet is ${networkOf(base)}.`,
      );
    const longest = lengthOf(base) + Math.log2(Number(sizeOf(base)));
    if (Number(length) < lengthOf(base) || Number(length) > longest)
      throw new ConfigurationError(
        `${from}: no subnets of size=${length} fit into ${base}; size is a prefix length from ${lengthOf(base)} to ${longest}.`,
      );
    return { base, size: Number(length) };
  });
}

/** A week is enough for any client to have forgotten an address. */
const REST_MAX_S = 7 * 24 * 3600;

/** Keys of two periods ahead must be everywhere, whatever clocks say. */
const REKEY_LEAST_S = 10;

/** etcd gives none shorter than one and a half of its election timeout, by default; and a daemon on a busy machine may be late. */
const LEASE_LEAST_S = 3;

function seconds({ from, text }: Value, least = 0): number {
  const number = /^\d{1,6}$/.test(text) ? Number(text) : -1;
  if (number >= least && number <= REST_MAX_S) return number;
  throw new ConfigurationError(
    `${from}: '${text}' must be a whole number of seconds from ${least} to ${REST_MAX_S}.`,
  );
}

function oneOf<T extends string>({ from, text }: Value, choices: readonly T[]): T {
  const choice = choices.find((known) => known === text);
  if (choice === undefined)
    throw new ConfigurationError(`${from}: '${text}' is unknown; it must be one of ${choices.join(', ')}.`);
  return choice;
}

/** Swarm takes managed plugins alone (libnetwork.md §3.1); without Swarm, Engines up to 23 take no network of global scope. */
function scopeOf(value: Value, managed: boolean): Configuration['scope'] {
  if (value.text === '') return managed ? 'global' : 'local';
  return oneOf(value, ['local', 'global']);
}

function advertised({ from, text }: Value): Ip | undefined {
  if (text === '') return undefined;
  const address = parseIp(text);
  if (address === undefined || /^(?:0\.|127\.|::1?$)/.test(address) || isMulticast(address))
    throw new ConfigurationError(
      `${from}: '${text}' must be an address of this host that other hosts reach, as 192.0.2.1 or 2001:db8::1.`,
    );
  return address;
}

const ETCD_PORT = 2379;

/** `etcd://` or `etcds://` and hosts, each with its port or etcd's own; an IPv6 address is in brackets, as in any URL. */
function etcdMembers({ from, text }: Value): readonly string[] | undefined {
  if (text === '') return undefined;
  const right = 'it must be as etcd://10.0.0.1:2379,10.0.0.2:2379';
  const { members } = CLUSTER_URL.exec(text)?.groups ?? {};
  if (members === undefined) throw new ConfigurationError(`${from}: '${text}' is no etcd; ${right}.`);
  return members.split(',').map((member) => {
    const { host, port = String(ETCD_PORT) } = MEMBER.exec(member)?.groups ?? {};
    if (host === undefined || Number(port) < 1 || Number(port) > 65535)
      throw new ConfigurationError(`${from}: '${member}' is not a host, or host:port; ${right}.`);
    return `${host}:${port}`;
  });
}

const CLUSTER_URL = /^etcd(?<tls>s?):\/\/(?<members>.*)$/;

/** What could only be a mistake is refused: a certificate that nobody would look at, half a pair. */
function tlsOf(value: (flag: string) => Value): ClusterTls | undefined {
  const [ca, cert, key] = [value('cluster-ca'), value('cluster-cert'), value('cluster-key')];
  const given = [ca, cert, key].find(({ text }) => text !== '');
  if (CLUSTER_URL.exec(value('cluster').text)?.groups?.['tls'] !== 's') {
    if (given === undefined) return undefined;
    throw new ConfigurationError(`${given.from}: it is for --cluster etcds://…, which TLS is spoken with.`);
  }
  if ((cert.text === '') !== (key.text === ''))
    throw new ConfigurationError(
      `${given?.from ?? ''}: --cluster-cert and --cluster-key must be given both.`,
    );
  return {
    ...(ca.text !== '' && { ca: absolutePath(ca) }),
    ...(cert.text !== '' && { own: { cert: absolutePath(cert), key: absolutePath(key) } }),
  };
}

const MEMBER =
  /^(?<host>[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::(?<port>\d{1,5}))?$/;
