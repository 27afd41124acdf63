/** What of the address space is taken on this host already, so that a subnet that we choose does not hide it. */
import { familyOf, parseIp } from '../address/ip.ts';
import { lengthOf, networkOf, type Prefix, prefixOf } from '../address/prefix.ts';
import type { Facts } from '../kernel/facts.ts';

/**
 * Shorter routes are default routes in disguise: a VPN that takes over everything installs 0.0.0.0/1 and 128.0.0.0/1
 * (moby issue 46615), and 2000::/3 is all of the internet. To heed them would leave no subnet to choose.
 */
const SHORTEST = 8;

/** @param resolvConf the text of resolv.conf(5), '' if there is none. */
export function hostPrefixes({ host }: Facts, resolvConf: string): readonly Prefix[] {
  const routes = host.routes.map(({ to }) => to).filter((prefix) => lengthOf(prefix) >= SHORTEST);
  const addresses = host.addresses.map(({ prefix }) => networkOf(prefix));
  return [...new Set([...routes, ...addresses, ...nameServers(resolvConf)])];
}

/** A name server in a chosen subnet would be unreachable from the very containers that ask it. */
function nameServers(resolvConf: string): readonly Prefix[] {
  return resolvConf.split('\n').flatMap((line) => {
    const [word, server = ''] = line.trim().split(/\s+/);
    // A link-local server has its interface behind a `%`.
    const address = word === 'nameserver' ? parseIp(server.replace(/%.*/, '')) : undefined;
    return address === undefined ? [] : [prefixOf(address, familyOf(address) === 6 ? 128 : 32)];
  });
}
