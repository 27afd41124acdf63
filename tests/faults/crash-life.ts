/**
 * A life of networks and sandboxes, as `cnm` asks for it, and the daemon killed at every point of it: what crash-standalone.test.ts and
 * crash-macvlan.test.ts have in common.
 */
import type { Test } from 'tap';
import { shortOf } from '../../cnm/short-name.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import type { Reply } from '../lab/unix-http.ts';
import { admin, CrashDaemon, type Holdings, holdings } from './crash-host.ts';

export interface World {
  readonly host: CnmHost;
  readonly daemon: CrashDaemon;
}

export interface Step {
  readonly name: string;
  readonly ask: (host: CnmHost) => Promise<Reply>;
  /** What it answers when it was done already, but for a success. */
  readonly done: number;
  /** `sandbox rm` first leaves each network: what is found after a crash may be between two of them. */
  readonly steps?: 'several';
}

/** `prepare`: what the host has beside the lab's own. */
export async function openWorld(
  t: Test,
  drivers: readonly string[] = ['bridge'],
  prepare = '',
): Promise<World> {
  const lab = await openLab(t);
  const host = await lab.bareHost({ drivers });
  await host.sh(prepare);
  await host.killPlugin('SIGTERM');
  const daemon = new CrashDaemon(host, {}, drivers);
  t.teardown(() => {
    if (!t.passing()) process.stderr.write(daemon.log.slice(-20_000));
  });
  await daemon.start();
  await daemon.stop();
  await daemon.start();
  return { host, daemon };
}

/** What the host holds, with names for the ids that were drawn: the same each time. */
export async function named(host: CnmHost): Promise<Holdings> {
  const held = await holdings(host);
  const names = (
    await Promise.all(['networks', 'sandboxes', 'endpoints'].map((what) => idsOf(host, what)))
  ).flat();
  const translate = (line: string): string =>
    names
      .reduce((text, [drawn, name]) => text.replaceAll(drawn, name), line)
      .replace(/"mac":"[^"]*"/g, '"mac":"…"')
      // Of the shim of a macvlan network, from its id.
      .replace(/169\.254\.(?!157\.)\d+\.\d+|fd9d:7b6a:6d2f:1:[\da-f:]+/g, '<shim>')
      // What hosts know the subnets of an overlay with a way out by, from its id.
      .replace(/\b2(?:4\d|5[0-4])\.\d+\.\d+\.\d+/g, '<outside>')
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
    return [
      [id, as],
      [shortOf(id), as],
      [id.slice(0, 12), as],
    ] as const;
  });
}

interface NamedObject {
  readonly id: string;
  readonly name?: string;
  readonly network?: { readonly name?: string };
}

export const same = (a: Holdings, b: Holdings): boolean => JSON.stringify(a) === JSON.stringify(b);

export async function live(t: Test, host: CnmHost, life: readonly Step[], where: string): Promise<void> {
  for (const { name, ask } of life) {
    const reply = await ask(host);
    if (reply.status >= 300) t.fail(`${where}: then ${name} answers ${reply.status} ${reply.text}`);
  }
}

/** The life once, with nothing in its way: the points of each step, and what the host holds around it. */
export async function undisturbed(t: Test, { host, daemon }: World, life: readonly Step[]) {
  const all = [];
  for (const { name, ask } of life) {
    const before = await named(host);
    await daemon.arm();
    const reply = await ask(host);
    t.ok(reply.status < 300, `${name}: ${reply.text.slice(0, 100)}`);
    all.push({ points: await daemon.points(), before, after: await named(host) });
  }
  return all;
}

/** Killed at every point that `isTaken`, and started again: the same request again brings it to its end, and at last nothing is left. */
export async function killedEverywhere(
  t: Test,
  world: World,
  life: readonly Step[],
  isTaken: (name: string, at: number) => boolean = () => true,
): Promise<void> {
  const { host, daemon } = world;
  const empty = await named(host);
  const all = await undisturbed(t, world, life);
  t.same(await named(host), empty, 'undisturbed, nothing is left');
  for (const [index, step] of life.entries()) {
    const { points, before, after } = all[index] ?? { points: [], before: empty, after: empty };
    for (const [at, point] of points.entries()) {
      if (!isTaken(step.name, at)) continue;
      const where = `${step.name}, point ${at} of ${points.length} (${point.slice(0, 60)})`;
      await live(t, host, life.slice(0, index), where);
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
      await live(t, host, life.slice(index + 1), where);
      t.same(await named(host), empty, `${where}: nothing is left`);
    }
  }
}
