// lab: timeout 900
/*
 * As crash-standalone.test.ts, of macvlan: the daemon killed at every point of a life of two networks and a sandbox.
 *
 *   this test, as cnm ── /run/cnm/cnm.sock ── cnmd ── n1 (on a carrier of its own), n2 (on eth1, with a shim of the host's) ── web (a sandbox of ours, in both)
 *
 * Of a macvlan link no end stays behind when it goes into a sandbox: what a crash leaves in there is found, too. VLANs are in
 * drivers/macvlan/sequences.test.ts, in memory: this kernel may have none.
 */
import t from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import { admin } from './crash-host.ts';
import { killedEverywhere, openWorld, type Step } from './crash-life.ts';

const network = (name: string, third: number, options: Readonly<Record<string, string>>) => (h: CnmHost) =>
  admin(h, 'POST', '/v1/networks', {
    name,
    driver: 'cnm-macvlan',
    subnets: [`10.${third}.0.0/24`, `fd00:${third}::/64`],
    ipv6: true,
    options,
  });
const SANDBOX = '/v1/sandboxes/web';

const LIFE: readonly Step[] = [
  { name: 'network create n1', ask: network('n1', 51, {}), done: 409 },
  { name: 'network create n2', ask: network('n2', 52, { parent: 'eth1', host_access: 'true' }), done: 409 },
  { name: 'sandbox create', ask: (h) => admin(h, 'POST', '/v1/sandboxes', { name: 'web' }), done: 409 },
  { name: 'join n1', ask: (h) => admin(h, 'POST', `${SANDBOX}/join`, { network: 'n1' }), done: 409 },
  { name: 'join n2', ask: (h) => admin(h, 'POST', `${SANDBOX}/join`, { network: 'n2' }), done: 409 },
  { name: 'leave n1', ask: (h) => admin(h, 'POST', `${SANDBOX}/leave`, { network: 'n1' }), done: 200 },
  { name: 'sandbox rm', ask: (h) => admin(h, 'DELETE', SANDBOX), done: 404, steps: 'several' },
  { name: 'network rm n2', ask: (h) => admin(h, 'DELETE', '/v1/networks/n2'), done: 404 },
  { name: 'network rm n1', ask: (h) => admin(h, 'DELETE', '/v1/networks/n1'), done: 404 },
];

/** A cable whose other end nobody has. */
const PREPARE = 'ip link add eth1 type veth peer eth1-far && ip link set eth1 up && ip link set eth1-far up';

t.test('macvlan: killed at every point and started again, all or nothing', async (t) => {
  const world = await openWorld(t, ['macvlan'], PREPARE);
  // A macvlan link is another matter where it goes in and out, and a network has a link and routes of the host's; not every point, for time.
  await killedEverywhere(
    t,
    world,
    LIFE,
    (name, at) =>
      (/^(join|leave) n1$/.test(name) && at % 2 === 0) ||
      (/^network (create|rm) n2$/.test(name) && at % 3 === 1),
  );
});
