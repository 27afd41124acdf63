/** A network's own namespace on this host: its segments, each with its tunnel and its endpoints. Pure. */
import type { PresenceView, SegmentView, TunnelView } from '../views.ts';
import { linkLine, type Paint } from './text.ts';
import { type Branch, drawBranches } from './tree.ts';

/** `members`: the branches of the endpoints on a bridge. */
export function presenceDrawing(
  { netns, exists, segments }: PresenceView,
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
  return [`  namespace ${netns}${exists ? '' : paint.red('  missing')}`, ...drawBranches(branches, '  ')];
}

function bridgeLine({ bridge, bridgeName }: SegmentView, paint: Paint): string {
  return bridge === undefined ? paint.red(`bridge ${bridgeName}  missing`) : `bridge ${linkLine(bridge)}`;
}

function tunnelLines({ name, link, settings, peers }: TunnelView, paint: Paint): readonly string[] {
  if (link === undefined) return [paint.red(`vxlan ${name}  missing`)];
  const to = peers.length === 0 ? 'no other host' : peers.join(', ');
  if (settings === undefined) return [`vxlan ${linkLine(link)}`];
  const { vni, port, local } = settings;
  return [`vxlan ${linkLine(link)}`, `vni ${vni}, udp ${port}, from ${local ?? 'any address'} to ${to}`];
}
