// lab: timeout 900
/*
 * As crash-points.test.ts, for what `cnm` asks for itself; and the daemon killed at every point of its own start.
 *
 *   this test, as cnm ── /run/cnm/cnm.sock ── cnmd ── n1, n2 ── web (a sandbox of ours, in both)
 */
import t, { type Test } from 'tap';
import { vethNamesOf } from '../../drivers/bridge/names.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import type { Reply } from '../lab/unix-http.ts';
import { admin, CrashDaemon, type Holdings, holdings } from './crash-host.ts';

interface World {
  readonly host: CnmHost;
  readonly daemon: CrashDaemon;
}

interface Step {
  readonly name: string;
  readonly ask: (host: CnmHost) => Promise<Reply>;
  /** What it answers when it was done already, but for a success. */
  readonly done: number;
  /** `sandbox rm` first leaves each network: what is found after a crash may be between two of them. */
  readonly steps?: 'several';
}

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

async function openWorld(t: Test): Promise<World> {
  const lab = await openLab(t);
  const host = await lab.bareHost();
  await host.killPlugin('SIGTERM');
  const daemon = new CrashDaemon(host);
  t.teardown(() => {
    if (!t.passing()) process.stderr.write(daemon.log.slice(-20_000));
  });
  await daemon.start();
  await daemon.stop();
  await daemon.start();
  return { host, daemon };
}

/** What the host holds, with names for the ids that were drawn: the same each time. */
async function named(host: CnmHost): Promise<Holdings> {
  const held = await holdings(host);
  const names = (
    await Promise.all(['networks', 'sandboxes', 'endpoints'].map((what) => idsOf(host, what)))
  ).flat();
  const translate = (line: string): string =>
    names
      .reduce((text, [drawn, name]) => text.replaceAll(drawn, name), line)
      .replace(/"mac":"[^"]*"/g, '"mac":"…"')
      .replace(/ at [\da-f:]{17}/g, '');
  const { kernel, records, answers, wrong } = held;
  return {
    kernel: kernel.map(translate).sort(),
    records: records.map(translate).sort(),
    answers: answers.map(translate).map(inOrder).sort(),
    wrong,
  };
}

/** A sandbox's endpoints are listed by their ids, which are drawn. */
function inOrder(line: string): string {
  const view = JSON.parse(line) as { endpoints?: unknown };
  if (Array.isArray(view.endpoints))
    view.endpoints.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return JSON.stringify(view);
}

async function idsOf(
  host: CnmHost,
  what: string,
): Promise<readonly (readonly [drawn: string, name: string])[]> {
  const list = (await admin(host, 'GET', `/v1/${what}`)).body as readonly NamedObject[];
  return list.flatMap(({ id, name, network }) => {
    const as = `<${what} ${name ?? ''} ${network?.name ?? ''}>`;
    const veth = vethNamesOf(id);
    return [
      [id, as],
      [veth.host, `${as}h`],
      [veth.container, `${as}c`],
      [id.slice(0, 12), as],
    ] as const;
  });
}

interface NamedObject {
  readonly id: string;
  readonly name?: string;
  readonly network?: { readonly name?: string };
}

const same = (a: Holdings, b: Holdings): boolean => JSON.stringify(a) === JSON.stringify(b);

async function live(t: Test, host: CnmHost, from: number, to: number, where: string): Promise<void> {
  for (const { name, ask } of LIFE.slice(from, to)) {
    const reply = await ask(host);
    if (reply.status >= 300) t.fail(`${where}: then ${name} answers ${reply.status} ${reply.text}`);
  }
}

/** The life once, with nothing in its way: the points of each step, and what the host holds around it. */
async function undisturbed(t: Test, { host, daemon }: World) {
  const all = [];
  for (const { name, ask } of LIFE) {
    const before = await named(host);
    await daemon.arm();
    const reply = await ask(host);
    t.ok(reply.status < 300, `${name}: ${reply.text.slice(0, 100)}`);
    all.push({ points: await daemon.points(), before, after: await named(host) });
  }
  return all;
}

t.test(
  'cnm: killed at every point and started again, the same request again brings it to its end',
  async (t) => {
    const world = await openWorld(t);
    const { host, daemon } = world;
    const empty = await named(host);
    const all = await undisturbed(t, world);
    t.same(await named(host), empty, 'undisturbed, nothing is left');
    for (const [index, step] of LIFE.entries()) {
      // The second network is there for the sandbox to be in two; creating and removing it shows nothing new.
      if (/^network .* n2$/.test(step.name)) continue;
      const { points, before, after } = all[index] ?? { points: [], before: empty, after: empty };
      // All points of publishing are those of Docker's -p, in crash-points.test.ts.
      const taken = [...points.entries()].filter(([at]) => !step.name.endsWith('publish') || at % 2 === 0);
      for (const [at, point] of taken) {
        const where = `${step.name}, point ${at} of ${points.length} (${point.slice(0, 60)})`;
        await live(t, host, 0, index, where);
        await daemon.arm(at);
        await t.rejects(step.ask(host), `${where}: no answer`);
        await daemon.dead();
        await daemon.start();
        const held = await named(host);
        const isDone = same(held, after);
        if (!isDone && step.steps !== 'several') t.same(held, before, `${where}: all or nothing`);
        t.same(held.wrong, [], `${where}: kernel, store and leases agree`);
        const { status, text } = await step.ask(host);
        t.ok(
          isDone ? [200, 201, step.done].includes(status) : status < 300,
          `${where}: again: ${status} ${text.slice(0, 80)}`,
        );
        await live(t, host, index + 1, LIFE.length, where);
        t.same(await named(host), empty, `${where}: nothing is left`);
      }
    }
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
  const all = await undisturbed(t, world);
  for (const name of CUT_OFF) {
    const index = LIFE.findIndex((step) => step.name === name);
    const { points, before, after } = all[index] ?? { points: [], before: empty, after: empty };
    const middle = Math.floor(points.length / 2);
    // Until a start lives to its end, which has no further point.
    for (let at = 0, survived = false; !survived; at += 1) {
      const where = `${name} cut off at ${middle}, the start after it at ${at}`;
      await live(t, host, 0, index, where);
      await daemon.arm(middle);
      await t.rejects(live(t, host, index, index + 1, where), `${where}: no answer`);
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
