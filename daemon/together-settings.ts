/** The settings by which hosts have networks together: the etcd, how hosts reach each other, and what encrypts between them. Pure. */
import { type Ip, parseIp } from '../address/ip.ts';
import { isMulticast } from '../address/prefix.ts';
import { absolutePath, ConfigurationError, oneOf, seconds, type Setting, type Value } from './setting.ts';

export interface TogetherSettings {
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
}

/** Files in PEM. Without `ca` the certificates that Node trusts hold. */
export interface ClusterTls {
  readonly ca?: string;
  /** What this host shows, where etcd asks for it (`--client-cert-auth`). */
  readonly own?: { readonly cert: string; readonly key: string };
}

const SPACES = ['cnm-local', 'cnm-global'] as const;

export const CLUSTER: readonly Setting[] = [
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

export const OVERLAY: readonly Setting[] = [
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
];

/** etcd gives none shorter than one and a half of its election timeout, by default; and a daemon on a busy machine may be late. */
const LEASE_LEAST_S = 3;

/** Keys of two periods ahead must be everywhere, whatever clocks say. */
const REKEY_LEAST_S = 10;

/** @param managed inside a managed plugin @throws ConfigurationError */
export function parseTogether(value: (flag: string) => Value, managed: boolean): TogetherSettings {
  const cluster = etcdMembers(value('cluster'));
  const clusterTls = tlsOf(value);
  const advertise = advertised(value('advertise'));
  const overlayKeys = value('overlay-keys');
  return {
    ...(cluster !== undefined && { cluster }),
    ...(clusterTls !== undefined && { clusterTls }),
    clusterLease: seconds(value('cluster-lease'), LEASE_LEAST_S),
    defaultSpace: oneOf(value('default-space'), SPACES),
    ...(advertise !== undefined && { advertise }),
    ...(overlayKeys.text !== '' && { overlayKeys: absolutePath(overlayKeys) }),
    overlayRekey: seconds(value('overlay-rekey'), REKEY_LEAST_S) * 1000,
    scope: scopeOf(value('scope'), managed),
  };
}

/** Swarm takes managed plugins alone (libnetwork.md §3.1); without Swarm, Engines up to 23 take no network of global scope. */
function scopeOf(value: Value, managed: boolean): TogetherSettings['scope'] {
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
