/** A network's own namespace on this host: its segments, each with its tunnel and its endpoints. Pure. */
import type { PresenceView, SegmentView, TunnelView, UplinkView } from '../views.ts';
import { linkLine, type Paint } from './text.ts';
import { type Branch, drawBranches } from './tree.ts';

/** `members`: the branches of the endpoints on a bridge. */
export function presenceDrawing(
  { netns, exists, segments, uplink }: PresenceView,
  members: (bridge: string) => readonly Branch[],
  paint: Paint,
): readonly string[] {
  const branches = segments.map((segment) => ({
    lines: [bridgeLine(segment, paint)],
    children: [
      ...segment.tunnels.map((tunnel) => ({ lines: tunnelLines(tunnel, paint), children: [] })),
      ...members(segment.bridgeName),
    ],
  }));
  return [
    `  namespace ${netns}${exists ? '' : paint.red('  missing')}`,
    ...drawBranches([...branches, ...(uplink ? [uplinkBranch(uplink, paint)] : [])], '  '),
  ];
}

function uplinkBranch({ name, link, hostName, hostLink, pairs }: UplinkView, paint: Paint): Branch {
  const missing = paint.red('  missing');
  return {
    lines: [
      `uplink ${link === undefined ? name + missing : linkLine(link)}`,
      ...pairs.map(({ inside, outside }) => `${inside} is ${outside} on this host`),
    ],
    children: [
      { lines: [`host ${hostLink === undefined ? hostName + missing : linkLine(hostLink)}`], children: [] },
    ],
  };
}

function bridgeLine({ bridge, bridgeName }: SegmentView, paint: Paint): string {
  return bridge === undefined ? paint.red(`bridge ${bridgeName}  missing`) : `bridge ${linkLine(bridge)}`;
}

function tunnelLines(
  { name, link, settings, peers, userspace }: TunnelView,
  paint: Paint,
): readonly string[] {
  const kind = userspace === undefined ? 'vxlan' : 'tap';
  if (link === undefined) return [paint.red(`${kind} ${name}  missing`)];
  const to = peers.length === 0 ? 'no other host' : peers.join(', ');
  if (userspace !== undefined) {
    const { vni, port, local, counters } = userspace;
    const counted = counters && Object.entries(counters).map(([what, number]) => `${what} ${number}`);
    return [
      `tap ${linkLine(link)}`,
      `vni ${vni}, udp ${port}, in user space, from ${local} to ${to}`,
      counted === undefined
        ? paint.red('its tunnel endpoint does not run')
        : `datagrams: ${counted.join(', ')}`,
    ];
  }
  if (settings === undefined) return [`vxlan ${linkLine(link)}`];
  const { vni, port, local } = settings;
  return [`vxlan ${linkLine(link)}`, `vni ${vni}, udp ${port}, from ${local ?? 'any address'} to ${to}`];
}
