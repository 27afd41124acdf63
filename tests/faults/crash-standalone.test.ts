// lab: timeout 1800
/*
 * As crash-points.test.ts, for what `cnm` asks for itself; and the daemon killed at every point of its own start.
 *
 *   this test, as cnm ── /run/cnm/cnm.sock ── cnmd ── n1, n2 ── web (a sandbox of ours, in both)
 */
import t from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Reply } from '../lab/unix-http.ts';
import { admin } from './crash-host.ts';
import { killedEverywhere, live, named, openWorld, same, type Step, undisturbed } from './crash-life.ts';

const network = (name: string, third: number) => ({
  name,
  subnets: [`10.${third}.0.0/24`, `fd00:${third}::/64`],
  ipv6: true,
});
const SANDBOX = '/v1/sandboxes/web';
/** One, so that there are few points to die at. */
const PORTS = ['127.0.0.1:5353:53/udp'];

/** What becomes of the ports of the sandbox on n1. */
async function ports(h: CnmHost, verb: 'publish' | 'unpublish', body?: unknown): Promise<Reply> {
  const reply = await admin(h, 'GET', '/v1/endpoints?network=n1');
  const [one] = reply.body as readonly { readonly id: string }[];
  return one === undefined ? reply : admin(h, 'POST', `/v1/endpoints/${one.id}/${verb}`, body);
}

const LIFE: readonly Step[] = [
  { name: 'network create n1', ask: (h) => admin(h, 'POST', '/v1/networks', network('n1', 51)), done: 409 },
  { name: 'network create n2', ask: (h) => admin(h, 'POST', '/v1/networks', network('n2', 52)), done: 409 },
  { name: 'sandbox create', ask: (h) => admin(h, 'POST', '/v1/sandboxes', { name: 'web' }), done: 409 },
  { name: 'join n1', ask: (h) => admin(h, 'POST', `${SANDBOX}/join`, { network: 'n1' }), done: 409 },
  { name: 'join n2', ask: (h) => admin(h, 'POST', `${SANDBOX}/join`, { network: 'n2' }), done: 409 },
  { name: 'publish', ask: (h) => ports(h, 'publish', { ports: PORTS }), done: 200 },
  { name: 'unpublish', ask: (h) => ports(h, 'unpublish'), done: 200 },
  { name: 'leave n1', ask: (h) => admin(h, 'POST', `${SANDBOX}/leave`, { network: 'n1' }), done: 200 },
  { name: 'sandbox rm', ask: (h) => admin(h, 'DELETE', SANDBOX), done: 404, steps: 'several' },
  { name: 'network rm n2', ask: (h) => admin(h, 'DELETE', '/v1/networks/n2'), done: 404 },
  { name: 'network rm n1', ask: (h) => admin(h, 'DELETE', '/v1/networks/n1'), done: 404 },
];

t.test(
  'cnm: killed at every point and started again, the same request again brings it to its end',
  async (t) => {
    await killedEverywhere(t, await openWorld(t), LIFE, (name, at) => {
      // The second network is there for the sandbox to be in two; creating and removing it shows nothing new.
      if (/^network .* n2$/.test(name)) return false;
      // All points of publishing are those of Docker's -p, in crash-points.test.ts.
      return !name.endsWith('publish') || at % 2 === 0;
    });
  },
);

/** From here on everything is taken away. */
const FIRST_LEAVE = LIFE.findIndex(({ name }) => name === 'leave n1');

/** In the middle of something that the next start has to undo, or to finish. */
const CUT_OFF = ['network create n1', 'join n2', 'leave n1', 'network rm n1'];

t.test('killed again at every point of the start that puts a crash right', async (t) => {
  const world = await openWorld(t);
  const { host, daemon } = world;
  const empty = await named(host);
  const all = await undisturbed(t, world, LIFE);
  for (const name of CUT_OFF) {
    const index = LIFE.findIndex((step) => step.name === name);
    const { points, before, after } = all[index] ?? { points: [], before: empty, after: empty };
    const middle = Math.floor(points.length / 2);
    // Until a start lives to its end, which has no further point.
    for (let at = 0, survived = false; !survived; at += 1) {
      const where = `${name} cut off at ${middle}, the start after it at ${at}`;
      await live(t, host, LIFE.slice(0, index), where);
      await daemon.arm(middle);
      await t.rejects(live(t, host, LIFE.slice(index, index + 1), where), `${where}: no answer`);
      await daemon.dead();
      survived = await daemon.start({ CNM_CRASH_AT: String(at) }).then(
        () => true,
        () => false,
      );
      if (survived) t.ok(at > 1, `${name}: its start has ${at} points`);
      else await daemon.start();
      const held = await named(host);
      if (!same(held, after)) t.same(held, before, `${where}: all or nothing`);
      t.same(held.wrong, [], `${where}: kernel, store and leases agree`);
      for (const { ask } of LIFE.slice(FIRST_LEAVE)) await ask(host);
      t.same(await named(host), empty, `${where}: nothing is left`);
    }
  }
});
