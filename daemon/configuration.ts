/** What `cnmd` can be told: flags, environment variables of the same name, and what is right for each. Pure. */
import { parseArgs } from 'node:util';
import { type Ip, parseIp } from '../address/ip.ts';
import { hasHostBits, lengthOf, networkOf, parsePrefix, type Prefix, sizeOf } from '../address/prefix.ts';
import { absolutePath, ConfigurationError, oneOf, seconds, type Setting, type Value } from './setting.ts';
import { CLUSTER, OVERLAY, parseTogether, type TogetherSettings } from './together-settings.ts';

export { ConfigurationError } from './setting.ts';
export type { ClusterTls } from './together-settings.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface Configuration extends TogetherSettings {
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
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** What the command line asks for. */
export type Request =
  { readonly do: 'run'; readonly configuration: Configuration } | { readonly do: 'help' | 'version' };

const DNS: readonly Setting[] = [
  {
    flag: 'dns-listen',
    value: 'LIST',
    default: '',
    help: 'where this host may ask for the names of all networks: ADDRESS or ADDRESS#PORT, comma-separated',
  },
  {
    flag: 'resolv-conf',
    value: 'PATH',
    default: '/etc/resolv.conf',
    help: 'names the servers that other names are asked of; followed as it changes',
  },
  {
    flag: 'dns-serve-stale',
    value: 'SECONDS',
    default: '0',
    help: 'how long answers of other servers are still given after their end while those servers fail (RFC 8767)',
  },
];

const settings = (available: readonly string[]): readonly Setting[] => [
  {
    flag: 'drivers',
    value: 'LIST',
    default: available.join(','),
    help: `network drivers to serve, comma-separated: ${available.join(', ')}`,
  },
  {
    flag: 'plugin-dir',
    value: 'DIR',
    default: '/run/docker/plugins',
    help: 'where Docker looks for plugin sockets',
  },
  {
    flag: 'state-dir',
    value: 'DIR',
    default: '/var/lib/cnm',
    help: 'networks, endpoints and leases; must outlive a reboot',
  },
  {
    flag: 'run-dir',
    value: 'DIR',
    default: '/run/cnm',
    help: 'network namespaces of standalone sandboxes; must not outlive a reboot',
  },
  {
    flag: 'admin-socket',
    value: 'PATH',
    default: '/run/cnm/cnm.sock',
    help: 'where the cnm command reaches this daemon; only root may open it',
  },
  {
    flag: 'docker-socket',
    value: 'PATH',
    default: '/run/docker.sock',
    help: "Docker's API, asked now and then for names and for what Docker has forgotten; it need not exist",
  },
  {
    flag: 'default-address-pools',
    value: 'LIST',
    default: '',
    help: "base=10.64.0.0/12,size=24;base=fd00:1::/48,size=64: where cnm-ipam takes subnets from, as dockerd's --default-address-pool",
  },
  {
    flag: 'address-rest',
    value: 'SECONDS',
    default: '60',
    help: 'how long an address that was freed rests; one that was never used comes first anyway',
  },
  ...DNS,
  ...CLUSTER,
  ...OVERLAY,
  { flag: 'log-level', value: 'LEVEL', default: 'info', help: LOG_LEVELS.join(', ') },
  { flag: 'log-format', value: 'FORMAT', default: 'text', help: 'text for people, json for programs' },
];

export function usage(available: readonly string[]): string {
  const lines = settings(available).map(({ flag, value, help, default: fallback }) => {
    const left = `  --${flag} ${value}`.padEnd(25);
    return `${left} ${help}${fallback === '' ? '' : `\n${' '.repeat(26)}(default ${fallback})`}`;
  });
  return [
    'Usage: cnmd [settings]',
    '',
    'Serves the Container Network Model to Docker (as plugins) and to the cnm command.',
    '',
    ...lines,
    '  --version                print the version',
    '  --help                   print this',
    '',
    'Each setting may also be an environment variable: CNM_ and the name of the flag, CNM_LOG_LEVEL for --log-level.',
    'Inside a managed plugin, where DRIVER names the one driver to serve, they are written without CNM_: LOG_LEVEL.',
    '',
  ].join('\n');
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
      ...parseTogether(value, managed),
      logLevel: oneOf(value('log-level'), LOG_LEVELS),
      logFormat: oneOf(value('log-format'), LOG_FORMATS),
    },
  };
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
    const [first] = (error instanceof Error ? error.message : String(error)).split('. ');
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
