/** The settings of `cnmd` by their flags, as `--help` has them. Pure. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export const SPACES = ['cnm-local', 'cnm-global'] as const;

export interface Setting {
  readonly flag: string;
  readonly value: string;
  readonly default: string;
  readonly help: string;
}

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

const CLUSTER: readonly Setting[] = [
  {
    flag: 'cluster',
    value: 'URL',
    default: '',
    help: 'etcd://host:2379[,host…], or etcds:// for TLS: members of the etcd in which hosts share the address space cnm-global; none: each host has its own',
  },
  {
    flag: 'cluster-ca',
    value: 'PATH',
    default: '',
    help: "certificates (PEM) that etcd's must be signed by, with etcds://; none: those that Node trusts",
  },
  {
    flag: 'cluster-cert',
    value: 'PATH',
    default: '',
    help: 'certificate (PEM) that this host shows to etcd, with --cluster-key',
  },
  {
    flag: 'default-space',
    value: 'SPACE',
    default: 'cnm-local',
    help: 'where cnm-ipam takes subnets from for networks that say nothing of it: cnm-local, or cnm-global, which the cluster shares',
  },
  { flag: 'cluster-key', value: 'PATH', default: '', help: 'its key (PEM), readable for root alone' },
  {
    flag: 'cluster-lease',
    value: 'SECONDS',
    default: '15',
    help: 'after so long without a word from this host the others take it for away, and forget it when its machine does not answer either',
  },
];

export const settings = (available: readonly string[]): readonly Setting[] => [
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
  {
    flag: 'advertise',
    value: 'ADDRESS',
    default: '',
    help: 'address of this host by which the other hosts of overlay networks reach it; found out where it is not given',
  },
  {
    flag: 'overlay-keys',
    value: 'FILE',
    default: '',
    help: 'the secrets of encrypted overlay networks, one a line, the same on all their hosts; the first is sent with, all are received',
  },
  {
    flag: 'overlay-rekey',
    value: 'SECONDS',
    default: '3600',
    help: 'how long encrypted overlay networks send with one key; the same on all their hosts',
  },
  {
    flag: 'scope',
    value: 'SCOPE',
    default: '',
    help: 'local: each host makes its networks itself; global: Docker Swarm makes them on its nodes, where the driver can (overlay). Without it: global for a managed plugin, local for a service',
  },
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
