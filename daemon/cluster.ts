/** This host's way to the cluster that it is told of. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { rootCertificates } from 'node:tls';
import type { EtcdTls } from '../store/etcd-members.ts';
import { type ClusterTls, type Configuration, ConfigurationError } from './configuration.ts';
import type { ClusterMembership } from '../ipam/index.ts';

/**
 * Nothing is sent yet. undefined where there is no cluster.
 * @throws ConfigurationError for files that cannot be used.
 */
export async function joinCluster({
  cluster: members,
  clusterTls,
  clusterLease,
  advertise,
}: Configuration): Promise<ClusterMembership | undefined> {
  if (members === undefined) return undefined;
  const tls = clusterTls === undefined ? {} : { tls: readEtcdTls(clusterTls) };
  // Loaded only where there is a cluster, for gRPC takes time and memory.
  const { openEtcd } = await import('../store/etcd.ts');
  // A container that starts waits for it: dockerd gives a plugin's call some 15 s in all.
  const store = openEtcd({ members, deadline: 3000, ...tls });
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const pace = { ttl: clusterLease };
  return { store, name: hostname(), boot, pace, ...(advertise !== undefined && { advertise }) };
}

/**
 * Read once: what is renewed takes effect with the daemon's next start.
 * @throws ConfigurationError naming the flag, the file and what is wrong with it.
 */
function readEtcdTls({ ca, own }: ClusterTls): EtcdTls {
  const trusted =
    ca === undefined ? Buffer.from(rootCertificates.join('\n')) : certificate('--cluster-ca', ca);
  if (own === undefined) return { ca: trusted };
  const cert = certificate('--cluster-cert', own.cert);
  const key = read('--cluster-key', own.key, (pem) => createPrivateKey(pem));
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
    throw new ConfigurationError(`--cluster-key: '${own.key}' is not the key of ${own.cert}.`);
  return { ca: trusted, own: { cert, key } };
}

function certificate(flag: string, path: string): Buffer {
  return read(flag, path, (pem) => new X509Certificate(pem));
}

function read(flag: string, path: string, check: (pem: Buffer) => unknown): Buffer {
  try {
    const pem = readFileSync(path);
    check(pem);
    return pem;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigurationError(`${flag}: '${path}' cannot be used: ${why}.`, { cause: error });
  }
}
