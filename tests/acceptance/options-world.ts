/** The world of bridge-options.test.ts, which draws it: one network for every option, and who lives on them. */
import type { Running } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { type Expected, inContainer, onHost, type Place, serve } from './asking.ts';
import { type Attached, attached } from './observe.ts';

export const BRIDGE = 'com.docker.network.bridge';
export const SOURCE4 = '198.51.100.77';
export const SOURCE6 = '2001:db8:1::77';

/** Options, and containers with the ports that they publish. */
export const NETWORKS: Readonly<
  Record<string, { n: number; options: readonly string[]; containers: string[][] }>
> = {
  nat: { n: 1, options: [], containers: [['a1', '--publish=8081:80'], ['a2']] },
  source: {
    n: 2,
    options: [`com.docker.network.host_ipv4=${SOURCE4}`, `com.docker.network.host_ipv6=${SOURCE6}`],
    containers: [['b1']],
  },
  noicc: {
    n: 3,
    options: [`${BRIDGE}.enable_icc=false`],
    containers: [['c1', '--publish=8083:80'], ['c2']],
  },
  plain: { n: 4, options: [`${BRIDGE}.enable_ip_masquerade=false`], containers: [['d1']] },
  routed: {
    n: 5,
    options: [`${BRIDGE}.gateway_mode_ipv4=routed`, `${BRIDGE}.gateway_mode_ipv6=routed`],
    containers: [['e1', '--publish=8085:80']],
  },
  open: {
    n: 6,
    options: [`${BRIDGE}.gateway_mode_ipv4=nat-unprotected`, `${BRIDGE}.gateway_mode_ipv6=nat-unprotected`],
    containers: [['f1', '--publish=8086:80']],
  },
  mixed: {
    n: 7,
    options: [`${BRIDGE}.gateway_mode_ipv4=nat`, `${BRIDGE}.gateway_mode_ipv6=routed`],
    containers: [['g1', '--publish=8087:80']],
  },
  isolated: {
    n: 8,
    options: [`${BRIDGE}.gateway_mode_ipv4=isolated`, `${BRIDGE}.gateway_mode_ipv6=isolated`],
    containers: [['i1'], ['i2']],
  },
  bound: {
    n: 9,
    options: [`${BRIDGE}.host_binding_ipv4=192.0.2.1`],
    containers: [['j1', '--publish=8089:80']],
  },
  trusting: {
    n: 10,
    options: [`${BRIDGE}.trusted_host_interfaces=eth1`],
    containers: [['k1', '--publish=8090:80']],
  },
  theirs: {
    n: 11,
    options: [
      `${BRIDGE}.name=lan`,
      `${BRIDGE}.inhibit_ipv4=true`,
      'com.docker.network.container_iface_prefix=port',
    ],
    containers: [['l1']],
  },
};

export function create(h: DockerHost, name: string): Promise<string> {
  const { n, options = [] } = NETWORKS[name] ?? { n: 0 };
  const own = name === 'isolated' ? ['--internal'] : [];
  if (name === 'theirs')
    own.push('--aux-address=DefaultGatewayIPv4=10.11.0.9', '--aux-address=DefaultGatewayIPv6=fd00:11::9');
  const subnets = ['--subnet', `10.${n}.0.0/24`, '--ipv6', '--subnet', `fd00:${n}::/64`];
  const given = options.flatMap((option) => ['--opt', option]);
  return h.docker('network', 'create', '--driver', 'cnm-bridge', ...subnets, ...own, ...given, name);
}

/** IPv4 and IPv6. */
export type Pair = readonly [v4: string, v6: string];

/** The world of the tests, as it stands when all networks and containers are there. */
export interface World {
  readonly h: DockerHost;
  readonly r: Host;
  readonly q: Host;
  readonly servers: readonly Running[];
  readonly place: (container: string) => Place;
  readonly address: (container: string) => Attached;
  /** Its servers on a port. */
  readonly at: (container: string, port: number) => Pair;
}

export async function wire(lab: Lab, h: Host, r: Host, q: Host): Promise<void> {
  await lab.link(
    { host: h, link: 'eth1', addresses: ['192.0.2.1/24', '2001:db8:2::1/64'] },
    { host: q, link: 'eth1', addresses: ['192.0.2.2/24', '2001:db8:2::2/64'] },
  );
  await lab.link(
    { host: h, link: 'eth2' },
    { host: q, link: 'eth2', addresses: ['10.11.0.9/24', 'fd00:11::9/64'] },
  );
  // A deprecated address and a secondary one: the kernel chooses neither by itself.
  await h.sh(`
    ip link set eth0 mtu 9000
    ip address add ${SOURCE4}/24 dev eth0
    ip address add ${SOURCE6}/128 dev eth0 nodad preferred_lft 0
    ip link add lan type bridge
    ip address add 10.11.0.77/24 dev lan
    ip link set eth2 master lan && ip link set lan up
    ip link add foreign type bridge
    for port in f0 f1; do ip link add $port type veth peer $port.far && ip link set $port master foreign; done
    bridge link set dev f0 isolated on
    sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1
    sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`);
  await r.sh(`
    ip route add 10.0.0.0/8 via ${h.address} && ip route add 192.0.2.0/24 via ${h.address}
    ip route add fd00::/16 via ${h.address6} && ip route add 2001:db8:2::/64 via ${h.address6}`);
  await q.sh('ip route add default via 192.0.2.1 && ip route add default via 2001:db8:2::1');
}

/** What no network of ours may touch: br_netfilter's switches, and the ports of another's bridge. */
export function strangers(h: DockerHost): Promise<string> {
  return h.sh(
    "sysctl -a 2>/dev/null | grep '^net.bridge'; bridge -d link show dev f0; bridge -d link show dev f1",
  );
}

export async function populate(h: DockerHost, r: Host, q: Host): Promise<World> {
  const all = Object.entries(NETWORKS).flatMap(([network, { containers }]) =>
    containers.map(([name = '', ...options]) => ({ network, name, options })),
  );
  await Promise.all(all.map(({ network, name, options }) => h.container(name, network, ...options)));
  const places = await Promise.all(all.map(({ name }) => inContainer(h, name)));
  const addresses = await Promise.all(all.map(({ name, network }) => attached(h, name, network)));
  const servers = [
    ...places.map((place) => serve(h, place, 'tcp:80', 'tcp:81')),
    ...[r, q].map((host) => serve(host, onHost(host), 'tcp:80')),
  ];
  const at = new Map(
    all.map(({ name }, index) => [name, { place: places[index], address: addresses[index] }]),
  );
  return {
    h,
    r,
    q,
    servers: await Promise.all(servers),
    place: (name) => at.get(name)?.place ?? missing(name),
    at: (name, port) => {
      const { v4, v6 } = at.get(name)?.address ?? missing(name);
      return [`tcp:${v4}:${port}`, `tcp:[${v6}]:${port}`];
    },
    address: (name) => at.get(name)?.address ?? missing(name),
  };
}

function missing(name: string): never {
  throw new Error(`there is no container ${name}`);
}

/** The same question in both families, and what is to be answered in each. */
export function both(from: Place, servers: Pair, answers: Pair | string): Expected {
  const [v4, v6] = typeof answers === 'string' ? [answers, answers] : answers;
  return [
    [from, servers[0], v4],
    [from, servers[1], v6],
  ];
}

/** `name` and the client that it sees. */
export const saw = (name: string, client: Attached | Host): Pair =>
  'v4' in client
    ? [`${name} ${client.v4}`, `${name} ${client.v6}`]
    : [`${name} ${client.address}`, `${name} ${client.address6}`];

export const onPort = (host: Host, port: number): Pair => [
  `tcp:${host.address}:${port}`,
  `tcp:[${host.address6}]:${port}`,
];

export const echo = ({ v4, v6 }: Attached): Pair => [`ping:${v4}`, `ping:${v6}`];
