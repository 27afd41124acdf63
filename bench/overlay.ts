/**
 * The overlay's data planes. `overlay`: the kernel's, against Docker's own overlay (Swarm) and a VXLAN link made by hand between two namespaces.
 * `overlay-vtep`: the one in user space against other tunnels in user space, without encryption where that can be switched off, and against
 * our own of the kernel. All at once on the same two hosts, measured in turns.
 *
 *   uplink ──┬── eth0 h1 ── a network namespace for each contender ── client
 *            └── eth0 h2 ── the same ────────────────────────────── server (iperf3)
 *
 * The others come from Debian (n2n, tinc, openvpn); one that is not installed is left out, and said. vtun 3.0.4 is not among them: here its
 * device was gone as soon as it was up.
 */
import { run, Running, tryRun, until } from '../tests/lab/command.ts';
import type { CnmHost, DockerHost } from '../tests/lab/docker-host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { alternate, type Figures, type Row, row } from './side-by-side.ts';

const SECONDS = 2;
const ROUNDS = 3;
/** What the kernel's VXLAN leaves of 1500: the same for all, so that none of them has its frames fragmented. */
const MTU = 1450;

/** A namespace on each host, as paths that this machine can open, and what the server is reached by. */
interface Ends {
  readonly client: string;
  readonly server: string;
  readonly address: string;
}

const at = (netns: string, ...argv: string[]): string[] => ['nsenter', `--net=${netns}`, '--', ...argv];

interface Report {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number };
  };
}

async function iperf({ client, address }: Ends, ...more: string[]): Promise<Report['end']> {
  const argv = at(client, 'iperf3', '--json', '--time', String(SECONDS), '--client', address, ...more);
  return (JSON.parse(await run(argv, { timeout: 60_000 })) as Report).end;
}

/** Gbit/s of one TCP stream, thousand datagrams of 64 bytes a second that arrive, and microseconds of a round trip. */
async function measure(ends: Ends): Promise<Record<string, number>> {
  const tcp = await iperf(ends);
  const {
    packets,
    lost_packets: lost,
    seconds,
  } = (await iperf(ends, '--udp', '--bitrate', '0', '--length', '64')).sum;
  const ping = await run(at(ends.client, 'ping', '-q', '-i', '0.002', '-c', '300', ends.address));
  return {
    tcp: (tcp.sum_received?.bits_per_second ?? 0) / 1e9,
    packets: (packets - lost) / seconds / 1000,
    latency: Number(/= [\d.]+\/([\d.]+)\//.exec(ping)?.[1]) * 1000,
  };
}

async function serve({ client, server, address }: Ends, name: string): Promise<Running> {
  await until(`${name} to pass packets`, 20_000, async () =>
    (await tryRun(at(client, 'ping', '-c1', '-W1', address))).code === 0 ? true : undefined,
  );
  const running = new Running(at(server, 'iperf3', '--server', '--forceflush', '--bind', address));
  await until('iperf3 to listen', 10_000, () => running.stdout.includes('Server listening') || undefined);
  return running;
}

type Contenders = Readonly<Record<string, Ends>>;

async function compare(
  contenders: Contenders,
): Promise<Readonly<Record<string, Readonly<Record<string, Figures>>>>> {
  const turns: Record<string, () => Promise<Record<string, number>>> = {};
  const servers: Running[] = [];
  for (const [name, ends] of Object.entries(contenders)) {
    try {
      servers.push(await serve(ends, name));
      turns[name] = () => measure(ends);
    } catch (error) {
      if (name === 'ours') throw error;
      process.stderr.write(`${name} does not work here, and is left out: ${String(error)}\n`);
    }
  }
  try {
    return await alternate(turns, ROUNDS, 1);
  } finally {
    await Promise.all(servers.map((server) => server.kill('SIGTERM')));
  }
}

/** Against each of the others, with the share of its rate that is aimed at. */
function rows(
  what: string,
  figures: Awaited<ReturnType<typeof compare>>,
  against: Readonly<Record<string, number | undefined>>,
): readonly Row[] {
  return Object.entries(against).flatMap(([other, aim]) => {
    const one = (words: string, field: string, unit: string) =>
      row(
        `${what}, ${words}, against ${other}`,
        figures['ours']?.[field],
        figures[other]?.[field],
        unit,
        aim === undefined ? '' : `≥ ${aim}`,
      );
    return [
      one('TCP', 'tcp', 'Gbit/s'),
      one('datagrams of 64 bytes', 'packets', 'k/s'),
      row(
        `${what}, round trip, against ${other}`,
        figures['ours']?.['latency'],
        figures[other]?.['latency'],
        'µs',
        aim === 1 ? '≤ 1' : '',
      ),
    ];
  });
}

/** A namespace of a host's, by its path seen from this machine. */
async function namespace(h: Host, name: string): Promise<string> {
  await h.sh(`ip netns add ${name} && ip -n ${name} link set lo up`);
  return h.outside(`/run/netns/${name}`);
}

/** Takes a link of the host's into a namespace, with an address. */
async function into(h: Host, netns: string, link: string, address: string): Promise<string> {
  const path = await namespace(h, netns);
  await h.sh(
    `ip link set ${link} netns ${netns} mtu ${MTU} up && ip -n ${netns} address add ${address}/24 dev ${link}`,
  );
  return path;
}

async function bare(hosts: readonly [Host, Host]): Promise<Ends> {
  const [client, server] = await Promise.all(
    hosts.map(async (h, n) => {
      const remote = hosts[1 - n]?.address ?? '';
      await h.sh(`ip link add bare type vxlan id 99 local ${h.address} remote ${remote} dstport 4791`);
      return into(h, 'bare', 'bare', `10.99.0.${n + 1}`);
    }),
  );
  return { client: client ?? '', server: server ?? '', address: '10.99.0.2' };
}

async function containers(hosts: readonly [DockerHost, DockerHost], network: string): Promise<Ends> {
  const [h1, h2] = hosts;
  for (const h of hosts) await h.container(network, network);
  const format = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
  const address = await h2.docker('inspect', '--format', format, network);
  return { client: await h1.sandbox(network), server: await h2.sandbox(network), address };
}

export async function overlayBench(lab: Lab): Promise<readonly Row[]> {
  const options = { plugin: 'sockets', drivers: ['overlay'] } as const;
  const hosts = [await lab.dockerHost(options), await lab.dockerHost(options)] as const;
  const [h1, h2] = hosts;
  const peers = hosts.map(({ address }) => address).join(',');
  await h1.docker('swarm', 'init', '--advertise-addr', h1.address);
  const token = await h1.docker('swarm', 'join-token', '--quiet', 'worker');
  await h2.docker('swarm', 'join', '--token', token, '--advertise-addr', h2.address, `${h1.address}:2377`);
  await h1.docker('network', 'create', '-d', 'overlay', '--attachable', '--subnet', '10.97.0.0/24', 'docker');
  for (const [n, h] of hosts.entries()) {
    const range = `10.98.0.${64 * (n + 1)}/26`;
    const o = [`vni=98`, `peers=${peers}`, `ip-range=${range}`].flatMap((one) => ['-o', one]);
    const pool = ['--subnet', '10.98.0.0/24', '--ip-range', range];
    await h.docker('network', 'create', '-d', 'cnm-overlay', ...pool, ...o, 'ours');
  }
  const figures = await compare({
    ours: await containers(hosts, 'ours'),
    docker: await containers(hosts, 'docker'),
    bare: await bare(hosts),
  });
  return rows('Overlay, kernel', figures, { docker: 1, bare: 0.97 });
}

/** A sandbox of ours on each host, on a network of its own. */
async function sandboxes(
  hosts: readonly [CnmHost, CnmHost],
  name: string,
  vni: number,
  ...o: string[]
): Promise<Ends> {
  const peers = hosts.map(({ address }) => address).join(',');
  const given = [`vni=${vni}`, `peers=${peers}`, 'ip-range=any', ...o].flatMap((one) => ['-o', one]);
  const paths: string[] = [];
  for (const [n, h] of hosts.entries()) {
    await h.cnm('network', 'create', '-d', 'cnm-overlay', '--subnet', `10.${vni}.0.0/24`, ...given, name);
    await h.cnm('sandbox', 'create', name);
    await h.cnm('sandbox', 'join', name, '--network', name, '--ip', `10.${vni}.0.1${n}`);
    const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', name, '--json')) as { path: string }[];
    paths.push(h.outside(view?.path ?? ''));
  }
  return { client: paths[0] ?? '', server: paths[1] ?? '', address: `10.${vni}.0.11` };
}

/** How each of the others is started on a host; it makes a TAP device of its name. */
interface Tunnel {
  readonly program: string;
  readonly start: (h: Host, other: Host, first: boolean) => Promise<void>;
}

const TUNNELS: Readonly<Record<string, Tunnel>> = {
  n2n: {
    program: 'edge',
    start: async (h, other, first) => {
      if (first) h.spawn(['supernode', '-l', '7654']);
      const supernode = first ? h.address : other.address;
      const local = `10.0.0.${first ? 1 : 2}`;
      // It does not start without a key, and then encrypts (Twofish).
      const net = ['-d', 'n2n', '-a', local, '-c', 'bench', '-k', 'bench', '-r', '-M', String(MTU)];
      h.spawn(['edge', ...net, '-l', `${supernode}:7654`]);
      await Promise.resolve();
    },
  },
  tinc: {
    program: 'tincd',
    start: async (h, other, first) => {
      const dir = '/run/tinc';
      const [own, peer] = first ? ['one', 'two'] : ['two', 'one'];
      const hostFile = (name: string, address: string) =>
        `printf 'Address = ${address}\\nCipher = none\\nDigest = none\\n' > ${dir}/hosts/${name}`;
      await h.sh(`
        mkdir -p ${dir}/hosts
        printf 'Name = ${own}\\nMode = switch\\nInterface = tinc\\nDeviceType = tap\\nConnectTo = ${peer}\\n' > ${dir}/tinc.conf
        ${hostFile('one', first ? h.address : other.address)}
        ${hostFile('two', first ? other.address : h.address)}
        yes '' | tincd --config=${dir} --generate-keys=2048 > /dev/null 2>&1`);
      const key = await h.sh(`sed -n '/BEGIN/,/END/p' ${dir}/hosts/${own}`);
      await h.sh(`cat > ${dir}/key.pub`, { input: key });
      // The other one's public key, when it has one: whoever comes second brings both together.
      const theirs = await other.trySh(`cat ${dir}/key.pub`);
      if (theirs.code !== 0) return;
      await h.sh(`cat >> ${dir}/hosts/${peer}`, { input: theirs.stdout });
      await other.sh(`cat >> ${dir}/hosts/${own}`, { input: key });
      for (const one of [h, other])
        one.spawn(['tincd', `--config=${dir}`, '--no-detach', '--pidfile=/run/tinc.pid']);
    },
  },
  openvpn: {
    program: 'openvpn',
    start: async (h, other) => {
      const off = ['--cipher', 'none', '--auth', 'none', '--verb', '1'];
      h.spawn([
        'openvpn',
        '--dev',
        'openvpn',
        '--dev-type',
        'tap',
        '--remote',
        other.address,
        '--port',
        '1195',
        ...off,
      ]);
      await Promise.resolve();
    },
  },
};

async function tunnel(
  name: string,
  { start }: Tunnel,
  hosts: readonly [Host, Host],
  number: number,
): Promise<Ends> {
  const [h1, h2] = hosts;
  await start(h1, h2, true);
  await start(h2, h1, false);
  for (const h of hosts)
    await until(`${name} to make its device on ${h.name}`, 20_000, async () =>
      (await h.tryNet('ip', 'link', 'show', name)).code === 0 ? true : undefined,
    );
  for (const [n, h] of hosts.entries()) {
    await h.net('ip', 'address', 'flush', 'dev', name);
    await h.net('ip', 'link', 'set', name, 'mtu', String(MTU), 'up');
    await h.net('ip', 'address', 'add', `10.${number}.0.${n + 1}/24`, 'dev', name);
  }
  const [client, server] = hosts.map(({ pid }) => `/proc/${pid}/ns/net`);
  return { client: client ?? '', server: server ?? '', address: `10.${number}.0.2` };
}

export async function overlayVtepBench(lab: Lab): Promise<readonly Row[]> {
  const hosts = [
    await lab.bareHost({ drivers: ['overlay'] }),
    await lab.bareHost({ drivers: ['overlay'] }),
  ] as const;
  const contenders: Record<string, Ends> = {
    ours: await sandboxes(hosts, 'ours', 81, 'vtep=userspace', 'port=4790'),
    'our own of the kernel': await sandboxes(hosts, 'kernel', 82),
  };
  const against: Record<string, number | undefined> = { 'our own of the kernel': undefined };
  for (const [n, [name, one]] of Object.entries(TUNNELS).entries()) {
    if ((await tryRun(['which', one.program])).code !== 0) {
      process.stderr.write(`${name} is not installed (${one.program}): left out\n`);
      continue;
    }
    contenders[name] = await tunnel(name, one, hosts, 90 + n);
    against[name] = 1;
  }
  return rows('Overlay, user space', await compare(contenders), against);
}
