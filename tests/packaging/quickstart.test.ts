/*
 * `npm run quickstart` as a newcomer types it, on a machine with a Docker Engine and on one without.
 *
 *   world ── uplink ── h1 (dockerd 20.10, no plugin)
 *                 └─── h2 (nothing)
 */
// lab: alone
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Output, until } from '../lab/command.ts';
import type { Host } from '../lab/host.ts';
import { REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';

/** The machine's own npm and Node start it, as on a machine of a newcomer. */
function quickstart(host: Host, before = ''): Promise<Output> {
  return host.trySh(`cd ${REPOSITORY} && ${before} npm run --silent quickstart`, { timeout: 120_000 });
}

/** Everything that it could leave. */
async function left(host: Host, docker: boolean): Promise<string> {
  const objects =
    'docker ps -aq; docker network ls -q; docker plugin ls -q; docker images -q; docker volume ls -q';
  return host.sh(`
    ip -o link | cut -d: -f2; ip route; nft list tables | grep cnm
    ls /run/netns /run/cnm /var/lib/cnm /tmp 2>&1
    pgrep -fl 'main.[tj]s'
    ${docker ? objects : ''}
    true`);
}

/** What Docker is at when Ctrl-C comes, and for how many milliseconds: before it has begun, while it is at it. */
const STOPS = [
  ['docker plugin create', 0],
  ['docker plugin enable', 100],
  ['docker plugin enable', 250],
  ['docker run', 100],
] as const;

function assertShown(t: Test, { code, stdout, stderr }: Output): void {
  t.equal(code, 0, code === 0 ? 'it succeeds' : stderr + stdout);
  t.match(stdout, /3 packets transmitted, 3 (packets )?received/, 'a ping');
  t.match(stdout, /^ +Hello from a container network of yours$/m, 'a page');
  t.match(stdout, /bridge cnm[0-9a-f]{12} {2}up/, 'the drawing of the network');
  t.match(stdout, /To undo that:/, 'how to undo it');
  t.match(stdout, /Undoing it/, 'and that it undoes it');
  t.notMatch(stdout, /\t|\r|\u001b/, 'no colours where nobody sees them');
}

async function cases(t: Test, host: Host, docker: boolean): Promise<void> {
  const before = await left(host, docker);
  t.test('it shows a ping, a page and the network, and leaves nothing', async (t) => {
    const began = performance.now();
    assertShown(t, await quickstart(host));
    t.ok(performance.now() - began < 60_000, 'under a minute');
    t.equal(await left(host, docker), before);
  });
  t.test('stopped in the middle, it leaves nothing', async (t) => {
    const stops = docker
      ? STOPS.map(([command, milliseconds]) => stoppedAt(command, milliseconds))
      : [1, 2].map(stoppedAfter);
    for (const stop of stops) {
      const { code, stdout } = await stop(host);
      t.not(code, 0, stdout.slice(-200));
      // npm may have ended before what it started has undone all.
      let now = '';
      await until('it to be undone', 60_000, async () => {
        now = await left(host, docker);
        return now === before || undefined;
      }).catch(() => undefined);
      t.equal(now, before);
    }
  });
}

type Stopped = (host: Host) => Promise<Output>;

function stoppedAfter(seconds: number): Stopped {
  return (host) => quickstart(host, `timeout --signal=INT ${seconds}`);
}

/** As a terminal does for Ctrl-C, timeout(1) passes a signal on to all that it has started, and that is not in a session of its own. */
function stoppedAt(command: string, milliseconds: number): Stopped {
  return async (host) => {
    const started = `cd ${REPOSITORY} && exec timeout --signal=INT 120 npm run --silent quickstart`;
    const running = host.spawn(['bash', '-c', started]);
    await until(command, 60_000, () => running.stdout.includes(`$ ${command} `) || undefined);
    await sleep(milliseconds);
    await host.sh('pkill -INT -x timeout');
    return running.exited;
  };
}

t.test('with a Docker Engine', async (t) => {
  await cases(t, await (await openLab(t)).dockerHost(), true);
});

t.test('without one', async (t) => {
  const host = await (await openLab(t)).peer();
  await cases(t, host, false);
  t.test('a ping that fails fails it', async (t) => {
    await host.sh('mkdir /tmp/fake && ln -s /bin/false /tmp/fake/ping');
    const { code, stdout } = await quickstart(host, 'PATH=/tmp/fake:$PATH');
    t.not(code, 0);
    t.notMatch(stdout, /What you saw/);
  });
});
