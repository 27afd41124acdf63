/** The tunnels of this host, as its records have them. Pure. */
import type { Ip } from '../../../address/ip.ts';
import type { Mac } from '../../../address/mac.ts';
import type { Remote } from '../../../cnm/control.ts';
import type { EndpointRecord, NetworkRecord } from '../../../cnm/model.ts';
import type { FdbAdd, LinkAdd, NetnsPath, Plan, VtepRun } from '../../../kernel/step.ts';
import { bridgeMac } from '../names.ts';
import { parseOptions, SWARM } from '../options.ts';
import { type Segment, segmentsOf } from '../segments.ts';
import type { KeysSaid } from './keys.ts';

/** One segment of a network. What is of this host's kernel is absent while no endpoint is here. */
export interface Tunnel {
  readonly network: NetworkRecord;
  readonly vni: number;
  readonly port: number;
  /** As the user gave them, or the swarm's nodes that it is on now: this host may be one of them. */
  readonly hosts: readonly Ip[];
  readonly pools: readonly string[];
  /** This host's part of the pools; empty: `any`. */
  readonly ranges: readonly string[];
  readonly encrypted: boolean;
  /** What may be said of what it is encrypted with. */
  readonly keys?: KeysSaid;
  readonly here?: TunnelHere;
}

export interface TunnelHere {
  readonly netns: NetnsPath;
  /** The VXLAN link, or the TAP device of one in user space. */
  readonly link: string;
  readonly bridge: string;
  readonly local: Ip;
  /** The bridge's own. */
  readonly mac: Mac;
  readonly peers: readonly Ip[];
  readonly mtu: number;
  readonly userspace: boolean;
}

/** @param others the hosts that the cluster's records tell of, where the network's options tell of none */
export function tunnelsOf(network: NetworkRecord, others: readonly Remote[] = []): readonly Tunnel[] {
  const options = parseOptions(network);
  const told = others.flatMap((remote) => (remote.kind === 'host' ? [remote.at] : []));
  const ranges = options.ranges === 'any' ? [] : options.ranges;
  return segmentsOf(network, options).map((segment) => {
    const here = presenceOf(segment, network.presence ?? [], told);
    return {
      network,
      vni: segment.vni,
      port: options.port,
      hosts: options.peers === SWARM || options.peers.length === 0 ? nodesOf(here) : options.peers,
      pools: segment.subnets.map(({ pool }) => pool),
      ranges,
      encrypted: options.encrypted,
      ...(here && { here }),
    };
  });
}

function nodesOf(here: TunnelHere | undefined): readonly Ip[] {
  return here === undefined ? [] : [here.local, ...here.peers];
}

function presenceOf(
  { bridge, tunnel, vni }: Segment,
  plan: Plan,
  told: readonly Ip[],
): TunnelHere | undefined {
  const links = plan.filter((step): step is LinkAdd => step.do === 'link.add');
  const { netns, mtu } = links.find(({ name }) => name === bridge) ?? {};
  const link = links.find(({ name }) => name === tunnel)?.link;
  const run = plan.find((step): step is VtepRun => step.do === 'vtep.run' && step.link === tunnel);
  const local = link?.kind === 'vxlan' ? link.local : run?.local;
  if (netns === undefined || mtu === undefined || local === undefined) return undefined;
  const entries = plan.filter((step): step is FdbAdd => step.do === 'fdb.add' && step.link === tunnel);
  return {
    netns,
    link: tunnel,
    bridge,
    local,
    mac: bridgeMac(local, vni, bridge),
    peers: [...new Set([...(run?.peers ?? []), ...entries.map(({ dst }) => dst), ...told])],
    mtu,
    userspace: run !== undefined,
  };
}

/** The addresses of a network's endpoints here that lie in a tunnel's pools are not told apart: a MAC is one of the network. */
export function entriesOf(endpoints: readonly EndpointRecord[]): readonly (readonly [string, string])[] {
  return endpoints.flatMap(({ address, addressV6, mac }) =>
    [address, addressV6].flatMap((one) =>
      one === undefined ? [] : [[one.replace(/\/.*/, ''), mac] as const],
    ),
  );
}
