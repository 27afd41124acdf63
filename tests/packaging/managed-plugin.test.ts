/*
 * The suite as a managed plugin, in a real Engine: what it is given, and that it is all used; how it starts; and what a
 * network and its traffic notice of its end, its upgrade and its crash.
 *
 *   world ── uplink ── h1: dockerd 20.10, plugin cnm-bridge:latest ── n1 10.9.0.0/24, fd00:9::/64 ── c1, c2
 */
// lab: alone
// lab: timeout 900
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Output, run, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { pluginImage } from '../lab/managed.ts';
import { endPing } from '../lab/pinging.ts';

const PLUGIN = 'cnm-bridge';
const DRIVER = `${PLUGIN}:latest`;
const SUBNETS = ['--subnet', '10.9.0.0/24', '--ipv6', '--subnet', 'fd00:9::/64'];

interface PluginConfig {
  readonly linux: { readonly capabilities: readonly string[] };
  readonly mounts: readonly object[];
}

function bytesBelow(path: string): number {
  const status = lstatSync(path);
  if (!status.isDirectory()) return status.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesBelow(join(path, name)), 0);
}

/** Packets lost of a ping, 100 a second, from c2 to c1 while `work` is done. */
async function lostWhile(h: DockerHost, work: () => Promise<void>): Promise<{ sent: number; lost: number }> {
  const options = { timeout: 180_000 };
  const ping = h.spawn(['docker', 'exec', 'c2', 'ping', '-n', '-i', '0.01', '10.9.0.10'], options);
  await until('the ping to run', 60_000, () => ping.stdout.includes('seq=2 ') || undefined);
  await work();
  const { sent, lost } = await endPing(ping, async () => {
    await h.sh(`kill -INT ${await pingPid(h)}`);
    await ping.exited;
  });
  return { sent, lost: lost.length };
}

async function pingPid(h: DockerHost): Promise<string> {
  return (await h.trySh('pgrep -x ping | head -n 1')).stdout.trim();
}

/** What Docker keeps of the plugin: `rootfs`, and `propagated-mount`, which is /data inside. */
async function folderOf(h: DockerHost): Promise<string> {
  const id = await h.docker('plugin', 'inspect', '--format', '{{.Id}}', PLUGIN);
  return join(h.dir, 'docker/plugins', id);
}

async function bridgeOf(h: DockerHost, network: string): Promise<string> {
  return `cnm${(await h.docker('network', 'inspect', '--format', '{{.Id}}', network)).slice(0, 12)}`;
}

async function assertWorks(t: Test, h: DockerHost, when: string): Promise<void> {
  t.ok(await h.containerPings('c2', '10.9.0.10', 10), `c2 → c1, ${when}`);
  t.ok(await h.containerPings('c2', WORLD, 10), `c2 → world, ${when}`);
  await h.container('fresh', 'n1', '--rm');
  t.ok(await h.containerPings('fresh', '10.9.0.10', 10), `a new container → c1, ${when}`);
  await h.docker('rm', '-f', 'fresh');
  t.match(await h.cnm('doctor'), /./, `cnm doctor answers, ${when}`);
}

t.test('the image', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'managed' });

  t.test('is small enough, and given little', async (t) => {
    t.ok(bytesBelow(join(await folderOf(h), 'rootfs')) < 150e6, 'under 150 MB');
    const config = JSON.parse(
      await h.docker('plugin', 'inspect', '--format', '{{json .Config}}', PLUGIN),
    ) as { Linux: { Capabilities: string[] }; Mounts: { Source: string; Options: string[] }[] };
    t.same(config.Linux.Capabilities, ['CAP_NET_ADMIN', 'CAP_SYS_ADMIN']);
    t.match(config.Mounts, [{ Source: '/run', Options: ['rbind', 'ro', 'rslave'] }]);
    t.equal(config.Mounts.length, 1);
  });

  t.test(
    'P23: a network of NAME:tag is made, listed and removed; the plugin is in use meanwhile',
    async (t) => {
      await h.docker('network', 'create', '-d', DRIVER, 'short');
      t.match(await h.docker('network', 'ls'), new RegExp(`short +${DRIVER} +local`));
      const refused = await h.tryDocker('plugin', 'disable', PLUGIN);
      t.not(refused.code, 0);
      t.match(refused.stderr, /is in use/);
      await h.docker('network', 'rm', 'short');
      t.notMatch(await h.docker('network', 'ls'), /short/);
    },
  );

  await h.docker('network', 'create', '-d', DRIVER, ...SUBNETS, 'n1');
  await h.container('c1', 'n1', '--ip', '10.9.0.10', '--ip6', 'fd00:9::10');
  await h.container('c2', 'n1');

  t.test('two containers reach each other and the world, over IPv4 and IPv6', async (t) => {
    await assertWorks(t, h, 'at first');
    t.ok(await h.containerPings('c2', 'fd00:9::10', 10), 'c2 → c1 over IPv6');
    t.match(await h.exec('c2', 'ping', '-c1', '-W10', 'c1'), '1 received', 'by name');
  });

  t.test('names are answered at the gateway, and inside of containers', async (t) => {
    await h.docker('network', 'create', '-d', DRIVER, '--subnet', '10.6.0.0/24', '-o', 'dns=on', 'n6');
    await h.container('c6', 'n6', '--ip', '10.6.0.10');
    const ask = async (door: string) =>
      (await h.tryInContainer('c6', {}, 'dig', '+short', '+tries=1', '+time=1', door, 'c6.n6')).stdout.trim();
    for (const door of ['@10.6.0.1', '@127.0.0.12'])
      t.ok(await until(door, 60_000, async () => (await ask(door)) === '10.6.0.10' || undefined), door);
    await h.docker('rm', '-f', 'c6');
    await h.docker('network', 'rm', 'n6');
  });

  t.test('it publishes ports, also below 1024', async (t) => {
    const page = ['cnm-lab', 'httpd', '-f', '-p', '80', '-h', '/www'];
    await h.docker('run', '-d', '--name', 'web', '--network', 'n1', '-p', '81:80', ...page);
    const fetch = async () =>
      (await h.tryNet('curl', '-s', '--max-time', '2', `http://${h.address}:81/`)).stdout;
    await until('the page', 60_000, async () => (await fetch()) === 'cnm-lab\n' || undefined);
    const squatter = h.spawn([
      NODE,
      '-e',
      "require('node:net').createServer().listen(82, () => console.log(1))",
    ]);
    await until('a process on port 82', 60_000, () => squatter.stdout || undefined);
    for (const [port, holder] of [
      ['81', /Port 81\/tcp on 0\.0\.0\.0 and :: is not free: container web \(endpoint \w+\) holds it/],
      // Its process namespace is its own: it would have to see all processes of the host to name one.
      ['82', /Port 82\/tcp on 0\.0\.0\.0 is not free: .* is held by a process that cannot be seen from here/],
    ] as const) {
      const { code, stderr } = await h.tryDocker(
        'run',
        '--rm',
        '--network',
        'n1',
        '-p',
        `${port}:80`,
        ...page,
      );
      t.equal(code, 125);
      t.match(stderr, holder);
    }
    await squatter.kill('SIGKILL');
    t.equal(await fetch(), 'cnm-lab\n');
    // One descriptor a port: the plugin takes all that dockerd passes on, here as much as this test has.
    const nofile = async (pid: string | number) =>
      /^Max open files\s+(\d+)\s+(\d+)/m.exec(await readFile(`/proc/${pid}/limits`, 'utf8'));
    t.equal((await nofile(await h.cnmd.pid()))?.[1], (await nofile('self'))?.[2]);
    await h.docker('rm', '-f', 'web');
  });

  t.test('its own IPAM serves as well, under the same name', async (t) => {
    await h.docker(
      'network',
      'create',
      '-d',
      DRIVER,
      '--ipam-driver',
      DRIVER,
      '--subnet',
      '10.8.0.0/24',
      'n8',
    );
    await h.container('c8', 'n8');
    t.ok(await h.containerPings('c8', '10.8.0.1', 10));
    await h.docker('rm', '-f', 'c8');
    await h.docker('network', 'rm', 'n8');
  });

  t.test('people on the host reach it: Docker’s names, and sandboxes of their own', async (t) => {
    // An Engine may take longer than a list waits for its names.
    const named = async () => /\bn1 /.test(await h.cnm('network', 'ls')) || undefined;
    t.ok(await until('the name', 30_000, named), "Docker's name, asked through its API in /run");
    const drawing = await h.cnm('network', 'inspect', 'n1');
    t.match(
      drawing,
      /eth0 {2}up .*10\.9\.0\.10\/24/,
      'what is inside a container, seen through its namespace in /run',
    );
    await h.cnm('network', 'create', '--subnet', '10.7.0.0/24', 'own');
    await h.cnm('sandbox', 'create', 'web');
    await h.cnm('sandbox', 'join', 'web', '--network', 'own');
    const ping = await h.tryCnm('sandbox', 'exec', 'web', '--', 'ping', '-c1', '-W10', '10.7.0.1');
    t.equal(ping.code, 0, `the namespace is seen from the host: ${ping.stderr}`);
  });

  t.test('killed, Docker starts it again, and the traffic does not notice', async (t) => {
    const { sent, lost } = await lostWhile(h, async () => {
      await h.killPlugin('SIGKILL');
      await until(
        'the plugin to be back',
        120_000,
        async () => (await h.tryCnm('version')).code === 0 || undefined,
      );
    });
    t.equal(lost, 0, `of ${sent}`);
    await assertWorks(t, h, 'after a kill');
  });

  t.test('L15: disabled by force and enabled again, networks and traffic stay', async (t) => {
    const bridge = await bridgeOf(h, 'n1');
    const { sent, lost } = await lostWhile(h, async () => {
      await h.docker('plugin', 'disable', '-f', PLUGIN);
      t.notOk((await readdir(join(await folderOf(h), 'propagated-mount'))).includes('cnm.sock'), 'it is off');
      t.equal((await h.tryNet('ip', 'link', 'show', bridge)).code, 0, 'the bridge is not');
      await h.docker('plugin', 'enable', PLUGIN);
    });
    t.equal(lost, 0, `of ${sent}`);
    await assertWorks(t, h, 'after disable and enable');
    t.equal(
      (await h.tryCnm('sandbox', 'exec', 'web', '--', 'ping', '-c1', '-W10', '10.7.0.1')).code,
      0,
      'a sandbox of ours too',
    );
  });

  t.test('L15: upgraded from a registry, networks and traffic stay', async (t) => {
    const registry = h.spawn([NODE, join(REPOSITORY, 'tests/packaging/registry.ts'), '5000']);
    await until('the registry', 60_000, () => registry.stdout.includes('ready') || undefined);
    const next = 'localhost:5000/cnm/bridge:2';
    const image = await variant(lab.name, h, (config) => ({ ...config, description: 'the next version' }));
    await h.docker('plugin', 'create', next, image);
    await h.docker('plugin', 'push', next);
    await h.docker('plugin', 'rm', next);
    const { sent, lost } = await lostWhile(h, async () => {
      await h.docker('plugin', 'disable', '-f', PLUGIN);
      const words = ['--grant-all-permissions', '--skip-remote-check', PLUGIN, next];
      await h.docker('plugin', 'upgrade', ...words);
      await h.docker('plugin', 'enable', PLUGIN);
    });
    t.equal(lost, 0, `of ${sent}`);
    t.match(
      await h.docker('plugin', 'inspect', '--format', '{{.Config.Description}}', PLUGIN),
      /next version/,
    );
    await assertWorks(t, h, 'after the upgrade');
    await registry.kill('SIGKILL');
  });

  t.test('removed again, nothing stays', async (t) => {
    const bridge = await bridgeOf(h, 'n1');
    await h.cnm('sandbox', 'rm', 'web');
    await h.cnm('network', 'rm', 'own');
    await h.docker('rm', '-f', 'c1', 'c2');
    await h.docker('network', 'rm', 'n1');
    t.not((await h.tryNet('ip', 'link', 'show', bridge)).code, 0);
    await h.docker('plugin', 'disable', PLUGIN);
    await h.docker('plugin', 'rm', PLUGIN);
  });
});

/** A folder for `docker plugin create` with another config.json. */
async function variant(
  name: string,
  h: DockerHost,
  change: (config: PluginConfig) => object,
): Promise<string> {
  const folder = join(h.dir, `plugin-${name}-${Date.now()}`);
  const tar = await pluginImage(join(h.dir, '../..'));
  await run(['bash', '-c', 'mkdir -p "$1" && tar -xf "$2" -C "$1"', 'bash', folder, tar]);
  const path = join(folder, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as PluginConfig;
  await writeFile(path, JSON.stringify(change(config)));
  return folder;
}

/** The `cnm` command against a plugin that this file installed by itself. */
async function cnm(h: DockerHost, ...words: string[]): Promise<Output> {
  const socket = join(await folderOf(h), 'propagated-mount/cnm.sock');
  return h.tryRun([NODE, join(REPOSITORY, 'inspect/cnm.ts'), ...words], { env: { CNM_SOCKET: socket } });
}

/** What the plugin cannot do without each thing that it is given. */
const LESS: readonly {
  readonly without: string;
  readonly change: (config: PluginConfig) => object;
  readonly fails: (t: Test, h: DockerHost) => Promise<void>;
}[] = [
  {
    without: 'CAP_NET_ADMIN',
    change: (config) => ({ ...config, linux: { ...config.linux, capabilities: ['CAP_SYS_ADMIN'] } }),
    fails: async (t, h) => {
      t.not((await h.tryDocker('plugin', 'enable', PLUGIN)).code, 0, 'it does not even start');
      t.match(h.dockerLog, /EPERM/, 'and says why');
    },
  },
  {
    without: 'CAP_SYS_ADMIN',
    change: (config) => ({ ...config, linux: { ...config.linux, capabilities: ['CAP_NET_ADMIN'] } }),
    fails: async (t, h) => {
      await h.docker('plugin', 'enable', PLUGIN);
      const network = await h.tryDocker('network', 'create', '-d', DRIVER, ...SUBNETS, 'n1');
      t.match(network.stderr, /net\.ipv6\.conf.*EROFS/, 'no IPv6: the sysctl of the bridge is named');
      const sandbox = await cnm(h, 'sandbox', 'create', 'web');
      t.match(sandbox.stderr, /EPERM/, 'no sandboxes');
    },
  },
  {
    without: 'the mount of /run',
    change: (config) => ({ ...config, mounts: [] }),
    fails: async (t, h) => {
      await h.docker('plugin', 'enable', PLUGIN);
      await h.docker('network', 'create', '-d', DRIVER, 'n1');
      t.notMatch(
        (await cnm(h, 'network', 'ls')).stdout,
        /n1 /,
        "Docker's names are not known, nor what it has forgotten",
      );
    },
  },
];

t.test('each thing that it is given is used', async (t) => {
  const lab = await openLab(t);
  for (const { without, change, fails } of LESS) {
    t.test(`without ${without}`, async (t) => {
      const h = await lab.dockerHost();
      await h.docker('plugin', 'create', PLUGIN, await variant(lab.name, h, change));
      await fails(t, h);
      await h.powerOff();
    });
  }
});
