/** Hosts of overlay networks: two on one segment, and a third behind a router. */
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';

const DRIVERS = { drivers: ['bridge', 'overlay'] };

export interface RoutedHosts {
  readonly h1: CnmHost;
  readonly h2: CnmHost;
  /** Behind the router. */
  readonly h3: CnmHost;
  readonly router: Host;
}

export async function openRoutedHosts(lab: Lab): Promise<RoutedHosts> {
  const [h1, h2, h3, router] = await Promise.all([
    lab.bareHost(DRIVERS),
    lab.bareHost(DRIVERS),
    lab.bareHost({ ...DRIVERS, uplink: false }),
    lab.peer(),
  ]);
  h3.address = '192.0.2.3';
  await lab.segment(
    { host: router, link: 'lan', addresses: ['192.0.2.1/24'] },
    { host: h3, link: 'eth0', addresses: ['192.0.2.3/24'] },
  );
  await router.net('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await h3.net('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
  for (const h of [h1, h2]) await h.net('ip', 'route', 'add', '192.0.2.0/24', 'via', router.address);
  return { h1, h2, h3, router };
}
