/** What the hosts of a cluster have to agree on for an overlay network, and the entries that one of them holds for another. Pure. */
import { familyOf } from '../../address/ip.ts';
import { addressOf } from '../../address/prefix.ts';
import type { Place, Remote, RemoteEndpoint, RemoteHost, Terms } from '../../cnm/control.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkSpec, NetworkWithPresence } from '../../cnm/model.ts';
import type { LinkAdd, NetnsPath, Plan, Step } from '../../kernel/step.ts';
import { netnsNameOf } from './names.ts';
import { givenOptions, OPTION, parseOptions, SWARM } from './options.ts';
import { ANY_MAC } from './plan.ts';
import { type Segment, segmentOf, segmentsOf, subnetsOf } from './segments.ts';

/** Undefined: its options list its hosts. A swarm has one network under one id, which Docker gives all its nodes. */
export function termsOf(network: NetworkSpec): Terms | undefined {
  const { given, name, port, encrypted } = givenOptions(network.options);
  if (given.peers !== undefined && given.peers !== SWARM) return undefined;
  const { ipv4, ipv6 } = subnetsOf(network);
  const subnets = [...ipv4, ...ipv6].map(({ pool }) => pool);
  const pools = subnets.join(', ');
  return {
    name: given.peers === SWARM ? network.id : (name ?? pools),
    equal: {
      subnets: pools,
      port: String(port),
      internal: network.internal ? 'yes' : 'no',
      ...(encrypted && { encrypted: 'yes' }),
    },
    subnets,
    numbers: {
      count: Math.max(ipv4.length, ipv6.length),
      ...(given.vnis !== undefined && { given: given.vnis }),
    },
  };
}

/** Each host has an address of its own, and its own part of the subnets where they are parted. */
export function ownOptions({ options }: Pick<NetworkSpec, 'options'>): readonly string[] {
  return [OPTION.advertise, ...(options[OPTION.ranges] === 'any' ? [] : [OPTION.ranges])].filter(
    (name) => name in options,
  );
}

export function placeOf({ presence = [], id }: NetworkWithPresence): Place {
  for (const step of presence) {
    const local = localOf(step);
    const mtu = presence.find((one): one is LinkAdd => one.do === 'link.add' && one.mtu !== undefined)?.mtu;
    if (local !== undefined)
      return {
        at: local,
        details: { vtep: step.do === 'vtep.run' ? 'userspace' : 'kernel', mtu: String(mtu ?? '') },
      };
  }
  throw new Error(`network ${id} has no tunnel`);
}

function localOf(step: Step): Place['at'] | undefined {
  if (step.do === 'vtep.run') return step.local;
  return step.do === 'link.add' && step.link.kind === 'vxlan' ? step.link.local : undefined;
}

/**
 * A host: what everybody is to have goes there, too. An endpoint: the tunnel knows its host, the bridge its port, and the bridge's neighbours
 * its MAC, so that the bridge answers who asks for it (`suppress`) and routes to it without asking. Nothing for what cannot be reached.
 */
export function remotePlan(network: NetworkWithPresence, remote: Remote): Plan {
  const here = placeOf(network).at;
  if (familyOf(remote.at) !== familyOf(here)) return [];
  // This machine under an id that it had before, or a copied address: what it floods would come back to it.
  if (remote.kind === 'host' && remote.at === here) return [];
  const netns = network.presence?.find((step) => step.do === 'netns.add')?.path ?? netnsNameOf(network.id);
  const segments = segmentsOf(network, parseOptions(network));
  return remote.kind === 'host' ? hostPlan(segments, remote, netns) : endpointPlan(segments, remote, netns);
}

function hostPlan(segments: readonly Segment[], { at }: RemoteHost, netns: NetnsPath): Plan {
  return segments.map(({ tunnel }) => ({ do: 'fdb.add', netns, link: tunnel, mac: ANY_MAC, dst: at }));
}

function endpointPlan(segments: readonly Segment[], remote: RemoteEndpoint, netns: NetnsPath): Plan {
  const segment = segmentIn(segments, remote);
  if (segment === undefined) return [];
  const { tunnel, bridge, subnets } = segment;
  const { mac, at, addresses } = remote;
  const gateways = subnets.flatMap(({ gateway }) => (gateway === undefined ? [] : [addressOf(gateway)]));
  return [
    { do: 'fdb.add', netns, link: tunnel, mac, dst: at },
    { do: 'fdb.port', netns, link: tunnel, mac },
    ...addresses
      .map(addressOf)
      // Of its own address a host needs nobody to tell.
      .filter((address) => !gateways.includes(address))
      .map((address): Step => ({ do: 'neigh.add', netns, link: bridge, address, mac })),
  ];
}

/** Undefined for an address that is on no segment: a record of another version, or of a stranger. */
function segmentIn(segments: readonly Segment[], { addresses }: RemoteEndpoint): Segment | undefined {
  const [address, addressV6] = [4, 6].map((family) =>
    addresses.find((one) => familyOf(addressOf(one)) === family),
  );
  try {
    return segmentOf(segments, { ...(address && { address }), ...(addressV6 && { addressV6 }) });
  } catch (error) {
    if (error instanceof CnmError) return undefined;
    throw error;
  }
}
