// lab: timeout 1200
/*
 * cnmd is killed at points of every operation of a real Engine and started again at once; Docker's own retry comes.
 *
 *   h1: dockerd 20.10 ── cnmd ── n1 (dual stack) ── c1, and whatever is being created and removed
 *                            └── n2 ── c2
 *
 * Points are spread evenly over each operation; CNM_FAULTS_ALL=1 takes every one.
 */
import t, { type Test } from 'tap';
import type { Output } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { admin, CrashDaemon, holdings, recordsOf } from './crash-host.ts';

const POINTS_OF_EACH = process.env['CNM_FAULTS_ALL'] === '1' ? Infinity : 7;

interface Operation {
  readonly name: string;
  /** What has to be there first. */
  prepare(h: DockerHost, serial: number): Promise<unknown>;
  command(serial: number): readonly string[];
  /** What a person does after, whether it succeeded or not. */
  cleanUp(h: DockerHost): Promise<unknown>;
}

const NETWORK = ['network', 'create', '-d', 'cnm-bridge', '--ipam-driver', 'cnm-ipam', '--ipv6'];
const subnets = (n: number) => ['--subnet', `10.20.${n}.0/24`, '--subnet', `fd00:20:${n}::/64`];
/** The next one gets the port, wherever this one was cut off. */
const RUN = ['run', '-d', '--name', 'extra', '--network', 'n1', '-p', '8080:80', IMAGE];
const nothing = () => Promise.resolve();

const OPERATIONS: readonly Operation[] = [
  {
    name: 'network create',
    prepare: nothing,
    command: (serial) => [...NETWORK, ...subnets(serial), 'net'],
    cleanUp: (h) => h.tryDocker('network', 'rm', 'net'),
  },
  {
    name: 'run',
    prepare: nothing,
    command: () => RUN,
    cleanUp: (h) => h.tryDocker('rm', '-f', 'extra'),
  },
  {
    name: 'rm -f',
    prepare: (h) => h.docker(...RUN),
    command: () => ['rm', '-f', 'extra'],
    cleanUp: (h) => h.tryDocker('rm', '-f', 'extra'),
  },
  {
    name: 'network connect',
    prepare: nothing,
    command: () => ['network', 'connect', 'n1', 'c2'],
    cleanUp: (h) => h.tryDocker('network', 'disconnect', 'n1', 'c2'),
  },
  {
    name: 'network disconnect',
    prepare: (h) => h.docker('network', 'connect', 'n1', 'c2'),
    command: () => ['network', 'disconnect', 'n1', 'c2'],
    cleanUp: (h) => h.tryDocker('network', 'disconnect', 'n1', 'c2'),
  },
  {
    name: 'network rm',
    // Each with subnets of its own: those of a network that Docker has forgotten are free again only when it is reclaimed.
    prepare: (h, serial) => h.docker(...NETWORK, ...subnets(serial), 'net'),
    command: () => ['network', 'rm', 'net'],
    cleanUp: (h) => h.tryDocker('network', 'rm', 'net'),
  },
];

t.test('Docker, our records and the kernel agree, wherever the daemon is killed', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  // Whatever it is asked, it answers when it has loaded its ruleset.
  await admin(h, 'GET', '/v1/networks');
  const empty = await holdings(h);
  await h.docker(...NETWORK, ...subnets(1), 'n1');
  await h.docker(...NETWORK, ...subnets(2), 'n2');
  await h.container('c1', 'n1');
  await h.container('c2', 'n2');
  await h.killPlugin('SIGTERM');
  const mortal = new CrashDaemon(h);
  t.teardown(() => {
    if (!t.passing()) process.stderr.write(mortal.log.slice(-10_000));
  });
  await mortal.start();
  await agree(t, h, 'at the start');
  let serial = 10;

  for (const operation of OPERATIONS) {
    await operation.prepare(h, (serial += 1));
    await mortal.arm();
    await h.docker(...operation.command(serial));
    const points = await mortal.points();
    await operation.cleanUp(h);
    for (const at of spread(points.length)) {
      const where = `${operation.name}, point ${at} of ${points.length} (${points[at]?.slice(0, 50) ?? ''})`;
      await operation.prepare(h, (serial += 1));
      await mortal.arm(at);
      const command = h.tryDocker(...operation.command(serial));
      await mortal.dead();
      await h.startPlugin();
      const output = await command;
      t.pass(`${where}: docker says ${said(output)}`);
      t.same(await doctor(h), [], `${where}: kernel and records agree`);
      await operation.cleanUp(h);
      t.ok(await h.containerPings('c1', '10.20.1.1'), `${where}: a container that was there is served`);
      await h.killPlugin('SIGTERM');
      await mortal.start();
    }
  }

  // With nothing under way, what Docker has forgotten can be reclaimed at once.
  await mortal.stop();
  await mortal.start({ CNM_CRASH_PACE: 'quick' });
  await t.resolves(agreed(h), 'what Docker has forgotten is reclaimed');
  await agree(t, h, 'after all');
  for (const name of ['c1', 'c2']) await h.docker('rm', '-f', name);
  for (const name of ['n1', 'n2']) await h.docker('network', 'rm', name);
  const { kernel, records, wrong } = await holdings(h);
  t.same(kernel, empty.kernel, 'nothing is left in the kernel');
  t.same(records, [], 'nor in the records');
  t.same(wrong, []);
});

/** Evenly, the first and the last among them. */
function spread(count: number): readonly number[] {
  const taken = Math.min(count, POINTS_OF_EACH);
  return Array.from({ length: taken }, (_, index) =>
    taken === 1 ? 0 : Math.round((index * (count - 1)) / (taken - 1)),
  );
}

function said({ code, stdout, stderr }: Output): string {
  return `${code}: ${(stderr || stdout).trim().split('\n')[0]?.slice(0, 150) ?? ''}`;
}

async function doctor(h: DockerHost): Promise<unknown> {
  const { body } = await admin(h, 'GET', '/v1/drift');
  const { differences, orphans, leaks } = body as Record<string, readonly unknown[]>;
  return [differences, orphans, leaks].flat();
}

/** What exists, as one of the three says it: ids of networks, and of endpoints with their addresses. */
interface Existing {
  readonly networks: readonly string[];
  readonly endpoints: readonly string[];
  readonly leases: readonly string[];
}

async function agree(t: Test, h: DockerHost, when: string): Promise<void> {
  const docker = await byDocker(h);
  t.same(byRecords(h), docker, `${when}: our records say what Docker says`);
  const { networks, endpoints } = await byKernel(h);
  t.same(networks, docker.networks, `${when}: a bridge for each network`);
  const ids = docker.endpoints.map((line) => line.split(' ')[0]);
  t.same(endpoints, ids, `${when}: a veth pair for each endpoint`);
  t.same(await doctor(h), [], `${when}: the doctor finds nothing`);
}

/** @throws when records and Docker still differ after a while */
async function agreed(h: DockerHost): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (JSON.stringify(byRecords(h)) !== JSON.stringify(await byDocker(h)))
    if (performance.now() > deadline) throw new Error('records and Docker still differ after a minute');
}

interface Inspected {
  readonly Id: string;
  readonly Driver: string;
  readonly IPAM: { readonly Config: readonly { readonly Subnet: string }[] };
  readonly Containers: Readonly<
    Record<string, { EndpointID: string; IPv4Address: string; IPv6Address: string }>
  >;
}

async function byDocker(h: DockerHost): Promise<Existing> {
  const list = (await h.api('GET', '/networks')).body as readonly Inspected[];
  const ours = list.filter(({ Driver }) => Driver === 'cnm-bridge');
  const all = await Promise.all(ours.map(({ Id }) => h.api('GET', `/networks/${Id}`)));
  const inspected = all.map(({ body }) => body as Inspected);
  const attached = inspected.flatMap(({ Containers }) => Object.values(Containers));
  return {
    networks: inspected.map(({ Id }) => Id).sort(),
    endpoints: attached.map((one) => `${one.EndpointID} ${one.IPv4Address} ${one.IPv6Address}`).sort(),
    leases: attached
      .flatMap((one) => [one.IPv4Address, one.IPv6Address])
      .map(bare)
      .sort(),
  };
}

const bare = (prefix: string): string => prefix.replace(/\/\d+$/, '');

function byRecords(h: DockerHost): Existing {
  const entries = recordsOf(h.cnmd.stateFolder);
  const under = (prefix: string) => entries.filter(([key]) => key.startsWith(prefix));
  const endpoints = under('endpoint/').map(
    ([, value]) => value as { id: string; address: string; addressV6: string },
  );
  const leases = under('ipam/lease/').filter(
    ([, value]) => (value as { purpose: string }).purpose === 'endpoint',
  );
  return {
    networks: under('network/')
      .map(([key]) => key.replace('network/', ''))
      .sort(),
    endpoints: endpoints.map(({ id, address, addressV6 }) => `${id} ${address} ${addressV6}`).sort(),
    leases: leases.map(([key]) => key.replace(/^.*\//, '')).sort(),
  };
}

/** By the marks that the links bear. */
async function byKernel(h: DockerHost): Promise<Omit<Existing, 'leases'>> {
  const links = JSON.parse(await h.net('ip', '-j', 'link', 'show')) as readonly {
    readonly ifalias?: string;
  }[];
  const marks = links.flatMap(({ ifalias }) =>
    ifalias?.startsWith('cnm ') === true ? [ifalias.split(' ')] : [],
  );
  const ids = (length: number) =>
    marks.filter((mark) => mark.length === length).map((mark) => mark.at(-1) ?? '');
  return { networks: ids(2).sort(), endpoints: ids(3).sort() };
}
