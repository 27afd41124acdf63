/** That Docker, our records and the kernel say the same about what exists on a host. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { openReader } from '../../store/reader.ts';
import { PATIENCE } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { unixHttp } from '../lab/unix-http.ts';

interface Asserts {
  same(found: unknown, wanted: unknown, message: string): boolean;
}

/** What one of them says exists. Sorted lines. */
interface Existing {
  readonly networks: readonly string[];
  /** Id, network and addresses with prefix lengths. */
  readonly endpoints: readonly string[];
}

interface Inspected {
  readonly Id: string;
  readonly Driver: string;
  readonly IPAM: { readonly Driver: string };
  readonly Containers: Readonly<
    Record<string, { EndpointID: string; IPv4Address: string; IPv6Address: string }>
  >;
}

interface Said {
  readonly docker: Existing;
  readonly records: Existing;
  /** The marks that links bear: ids of networks, and ids of endpoints with their network's. */
  readonly kernel: Existing;
  /** Addresses of containers: leases of ours, and what Docker has of networks whose addresses are ours to give. */
  readonly leases: readonly string[];
  readonly leased: readonly string[];
  /** What `cnm doctor` finds. */
  readonly wrong: unknown;
}

/**
 * Waits for it up to `limit` milliseconds: what Docker forgot in a crash is reclaimed only when it is 15 s old and has been
 * missing for two looks (cnm/reclaim.ts), its addresses after a minute (ipam/reclaim.ts).
 */
export async function assertAgreement(
  t: Asserts,
  h: DockerHost,
  when: string,
  limit = 60_000,
): Promise<void> {
  const deadline = performance.now() + limit * PATIENCE;
  let found = await ask(h);
  while (!isDeepStrictEqual(bySubject(found), agreed(found)) && performance.now() < deadline) {
    await sleep(200);
    found = await ask(h);
  }
  t.same(bySubject(found), agreed(found), `Docker, records and kernel agree ${when}`);
}

function bySubject({ records, kernel, leases, wrong }: Said) {
  return { records, kernel, leases, wrong };
}

/** The same, as it is when all agree with Docker. */
function agreed({ docker, leased }: Said): ReturnType<typeof bySubject> {
  const marks = docker.endpoints.map((line) => line.split(' ').slice(0, 2).join(' '));
  return {
    records: docker,
    kernel: { networks: docker.networks, endpoints: marks },
    leases: leased,
    wrong: { healthy: true, differences: [], orphans: [], leaks: [], rulesetCurrent: true, notices: [] },
  };
}

async function ask(h: DockerHost): Promise<Said> {
  const networks = await inspected(h);
  const ours = networks.filter(({ IPAM }) => IPAM.Driver.startsWith('cnm-'));
  return {
    docker: {
      networks: networks.map(({ Id }) => Id).sort(),
      endpoints: networks.flatMap(endpointsListed).sort(),
    },
    leased: ours.flatMap(addressesListed).sort(),
    ...byRecords(h),
    kernel: await byMarks(h),
    wrong: (await unixHttp(h.outside(h.cnmd.adminSocket), 'GET', '/v1/drift')).body,
  };
}

async function inspected(h: DockerHost): Promise<readonly Inspected[]> {
  const list = (await h.api('GET', '/networks')).body as readonly Inspected[];
  const ours = list.filter(({ Driver }) => h.cnmd.drivers.some((name) => Driver === h.driver(name)));
  const replies = await Promise.all(ours.map(({ Id }) => h.api('GET', `/networks/${Id}`)));
  // One may have gone since the list.
  return replies.filter(({ status }) => status === 200).map(({ body }) => body as Inspected);
}

function endpointsListed({ Id, Containers }: Inspected): readonly string[] {
  return Object.values(Containers).map(({ EndpointID, IPv4Address, IPv6Address }) =>
    `${EndpointID} ${Id} ${IPv4Address} ${IPv6Address}`.trimEnd(),
  );
}

function addressesListed({ Containers }: Inspected): readonly string[] {
  return Object.values(Containers)
    .flatMap(({ IPv4Address, IPv6Address }) => [IPv4Address, IPv6Address])
    .filter((prefix) => prefix !== '')
    .map((prefix) => prefix.replace(/\/.*/, ''));
}

interface EndpointOnDisk {
  readonly id: string;
  readonly network: string;
  readonly address?: string;
  readonly addressV6?: string;
}

/** As they are on disk, beside the running daemon. */
function byRecords(h: DockerHost): Pick<Said, 'records' | 'leases'> {
  const reader = openReader(h.cnmd.stateFolder);
  try {
    const endpoints = reader.list('endpoint/').map(([, value]) => value as EndpointOnDisk);
    const leases = reader
      .list('ipam/lease/')
      .filter(([, value]) => (value as { purpose: string }).purpose === 'endpoint');
    return {
      records: {
        networks: reader
          .list('network/')
          .map(([key]) => key.replace('network/', ''))
          .sort(),
        endpoints: endpoints
          .map(({ id, network, address = '', addressV6 = '' }) =>
            `${id} ${network} ${address} ${addressV6}`.trimEnd(),
          )
          .sort(),
      },
      leases: leases.map(([key]) => key.replace(/^.*\//, '')).sort(),
    };
  } finally {
    reader.close();
  }
}

async function byMarks(h: DockerHost): Promise<Existing> {
  const links = JSON.parse(await h.net('ip', '-j', 'link', 'show')) as readonly { ifalias?: string }[];
  const marks = links.flatMap(({ ifalias = '' }) => (ifalias.startsWith('cnm ') ? [ifalias.split(' ')] : []));
  return {
    networks: marks.flatMap(([, network = '', endpoint]) => (endpoint === undefined ? [network] : [])).sort(),
    endpoints: marks
      .flatMap(([, network = '', endpoint]) => (endpoint === undefined ? [] : [`${endpoint} ${network}`]))
      .sort(),
  };
}
