/** What sysfs says of physical devices, which netlink does not. */
import { existsSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { LinkFact, NetnsFacts } from './facts.ts';

const SYSFS = '/sys/class/net';

/** The links of the daemon's namespace, those that are physical with what they are. */
export function withNics(facts: NetnsFacts, sysfs = SYSFS): NetnsFacts {
  const links = [...facts.links.values()].map((link) => [link.name, withNic(link, sysfs)] as const);
  return { ...facts, links: new Map(links) };
}

function withNic(link: LinkFact, sysfs: string): LinkFact {
  if (link.kind !== undefined || link.name === 'lo') return link;
  const folder = join(sysfs, link.name);
  const driver = driverOf(folder);
  const wireless = existsSync(join(folder, 'phy80211')) || existsSync(join(folder, 'wireless'));
  if (driver === undefined && !wireless) return link;
  return { ...link, nic: { ...(driver !== undefined && { driver }), wireless } };
}

/** Undefined: no hardware behind it, or /sys is of another namespace. */
function driverOf(folder: string): string | undefined {
  try {
    return basename(readlinkSync(join(folder, 'device/driver')));
  } catch {
    return undefined;
  }
}
