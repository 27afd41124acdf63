// lab: timeout 900
/*
 * As crash-standalone.test.ts, of an overlay network with a way out of its own (egress=gateway): what its first container brings to the host
 * and its last one takes along.
 *
 *   this test, as cnm ── /run/cnm/cnm.sock ── cnmd ── out (up0 ── cnmu…) ── web (a sandbox of ours)
 *
 * FORWARD has the policy DROP and a chain DOCKER-USER, as dockerd leaves them.
 */
import t from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import { admin } from './crash-host.ts';
import { killedEverywhere, openWorld, type Step } from './crash-life.ts';

const NETWORK = {
  name: 'n1',
  driver: 'cnm-overlay',
  subnets: ['10.51.0.0/24'],
  options: { vni: '51', peers: '198.51.100.10,198.51.100.11', 'ip-range': 'any', egress: 'gateway' },
};
const SANDBOX = '/v1/sandboxes/web';
const post = (path: string, body: unknown) => (h: CnmHost) => admin(h, 'POST', path, body);

const LIFE: readonly Step[] = [
  { name: 'network create', ask: post('/v1/networks', NETWORK), done: 409 },
  { name: 'sandbox create', ask: post('/v1/sandboxes', { name: 'web' }), done: 409 },
  { name: 'join', ask: post(`${SANDBOX}/join`, { network: 'n1' }), done: 409 },
  { name: 'leave', ask: post(`${SANDBOX}/leave`, { network: 'n1' }), done: 200 },
  { name: 'sandbox rm', ask: (h) => admin(h, 'DELETE', SANDBOX), done: 404 },
  { name: 'network rm', ask: (h) => admin(h, 'DELETE', '/v1/networks/n1'), done: 404 },
];

const PREPARE = 'iptables -P FORWARD DROP && iptables -N DOCKER-USER && iptables -A FORWARD -j DOCKER-USER';

t.test('egress: killed at every point and started again, all or nothing', async (t) => {
  const world = await openWorld(t, ['overlay'], PREPARE);
  // Not every point, for time.
  const taken = (name: string, at: number) =>
    (name === 'join' && at % 6 === 1) || (name === 'leave' && at % 6 === 3);
  await killedEverywhere(t, world, LIFE, taken);
});
