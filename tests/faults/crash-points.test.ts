// lab: timeout 1200
/*
 * The real daemon on a host without Docker is killed with SIGKILL at every point of every operation and started again.
 *
 *   this test, as dockerd ── /run/docker/plugins/*.sock ── cnmd ── the kernel of h1 ── c1 (a container's namespace)
 *              as Docker's API ── /run/docker.sock ───────────┘
 *
 * FORWARD has the policy DROP and a chain DOCKER-USER, as dockerd leaves them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { CrashDaemon, type Holdings, holdings } from './crash-host.ts';
import { CONTAINER, DockerDouble, dockerApi, type Operation, TALK } from './docker-talk.ts';

interface World {
  readonly host: CnmHost;
  readonly daemon: CrashDaemon;
  readonly docker: DockerDouble;
}

/** An operation undisturbed: its points, and what the host held before and after. */
interface Undisturbed {
  readonly points: readonly string[];
  readonly before: Holdings;
  readonly after: Holdings;
}

async function openWorld(t: Test): Promise<World> {
  const lab = await openLab(t);
  const host = await lab.bareHost();
  await host.killPlugin('SIGTERM');
  await host.sh(`
    ip netns add ${CONTAINER}
    for tables in iptables ip6tables; do
      $tables -P FORWARD DROP && $tables -N DOCKER-USER && $tables -A FORWARD -j DOCKER-USER
    done`);
  const docker = new DockerDouble(host);
  const api = await dockerApi(host, docker);
  const daemon = new CrashDaemon(host, { CNM_CRASH_PACE: 'quick' });
  t.teardown(() => {
    api.close();
    api.closeAllConnections();
    if (!t.passing()) process.stderr.write(daemon.log.slice(-20_000));
  });
  // A whole life ends in order: it leaves the compiled sources for the next.
  await daemon.start();
  await daemon.stop();
  await daemon.start();
  return { host, daemon, docker };
}

/** Docker's whole talk once, with nothing in its way. */
async function undisturbed(t: Test, { host, daemon, docker }: World): Promise<Undisturbed[]> {
  const all: Undisturbed[] = [];
  for (const one of TALK) {
    await docker.prepare(one);
    const before = await holdings(host);
    await daemon.arm();
    const reply = await docker.send(one);
    t.equal(reply.status, 200, `${one.name}: ${reply.text}`);
    all.push({ points: await daemon.points(), before, after: await holdings(host) });
    await docker.finish(one, reply);
  }
  return all;
}

/** Performs Docker's operations from `from` up to, and not with, `to`. */
async function proceed(
  t: Test,
  docker: DockerDouble,
  from: number,
  to: number,
  where: string,
): Promise<void> {
  for (const one of TALK.slice(from, to)) {
    const reply = await docker.perform(one);
    if (reply.status !== 200) t.fail(`${where}: then ${one.name} answers ${reply.status} ${reply.text}`);
  }
}

/** Until the reclaimer has seen what Docker forgot; then the difference from `wanted`. */
async function settled({ host, docker }: World, wanted: Holdings): Promise<Holdings> {
  const deadline = performance.now() + 30_000;
  docker.hasForgotten = true;
  for (;;) {
    const held = await holdings(host);
    docker.hasForgotten = !same(held, wanted) && performance.now() < deadline;
    if (!docker.hasForgotten) return held;
    await sleep(50);
  }
}

function same(a: Holdings, b: Holdings): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

t.test('Docker: killed at every point, started again, Docker goes on as it does', async (t) => {
  const world = await openWorld(t);
  const { host, daemon, docker } = world;
  const empty = await holdings(host);
  t.same(empty.wrong, []);
  const all = await undisturbed(t, world);
  t.same(await holdings(host), empty, 'undisturbed, nothing is left');
  const total = all.reduce((sum, { points }) => sum + points.length, 0);
  t.ok(total > 60, `there are ${total} points to die at`);

  for (const [index, one] of TALK.entries()) {
    const { points, before, after } = all[index] ?? { points: [], before: empty, after: empty };
    for (const [at, point] of points.entries()) {
      const where = `${one.name}, point ${at} of ${points.length} (${point.slice(0, 60)})`;
      await proceed(t, docker, 0, index, where);
      await docker.prepare(one);
      await daemon.arm(at);
      await t.rejects(docker.send(one), `${where}: no answer`);
      await daemon.dead();
      await daemon.start();

      const held = await holdings(host);
      const state = same(held, before) ? 'before' : same(held, after) ? 'after' : 'torn';
      if (state === 'torn') t.same(held, before, `${where}: all or nothing`);
      t.same(held.wrong, [], `${where}: kernel and store agree`);
      const retry = await docker.emptyRetry(one);
      t.ok(retry.status >= 400, `${where}: Docker's empty retry is refused`);

      const repeats = at % 2 === 1 && !one.method.startsWith('IpamDriver.Request');
      const goesOn = repeats ? await again(t, world, one, where) : await docker.giveUp(one);
      if (goesOn) await proceed(t, docker, index + 1, TALK.length, where);
      else if (index >= LAST_OF_NETWORK) await proceed(t, docker, FIRST_RELEASE, TALK.length, where);
      t.same(await settled(world, empty), empty, `${where}: nothing is left`);
    }
  }
});

/** Where only the container's start failed, the network still is there to be removed. */
const LAST_OF_NETWORK = TALK.findIndex(({ name }) => name === 'request address 4');
const FIRST_RELEASE = TALK.findIndex(({ name }) => name === 'release gateway 4');

/** The same request with its body, as when the connection could not be made at all, or when a person tries again. */
async function again(t: Test, { docker }: World, one: Operation, where: string): Promise<boolean> {
  const reply = await docker.send(one);
  t.equal(reply.status, 200, `${where}: the same request again succeeds: ${reply.text}`);
  await docker.finish(one, reply);
  return true;
}
