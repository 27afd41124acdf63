// lab: timeout 900
/*
 * Overlay networks of a swarm: the managed plugin on three nodes, Docker 20.10 and 28.5.
 *
 *   uplink ──┬── eth0 h1 ── dockerd 20.10, manager ── cnm-overlay ── uber-net: c1, web · soft (vtep=userspace): s1
 *            ├── eth0 h2 ── dockerd 28.5, worker  ── cnm-overlay ── uber-net: c2, web · soft: s2
 *            ├── eth0 h3 ── dockerd 20.10, worker ── cnm-overlay, there only after it has joined ── uber-net: c3 · soft: s3
 *            └── eth0 store ── etcd, which the plugins are told of at last: told: t1, t2, t3
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { run, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { recordsOf } from '../faults/crash-host.ts';
import { EtcdHost } from '../cluster/etcd-host.ts';
import { attached, capture } from './observe.ts';

/** Swarm starts tasks some seconds after they are asked for; nodes are known to be gone when gossip has agreed on it. */
const LIMIT = 60_000;
/** RestartSec of Docker's own unit, docker.service. */
const RESTART_MS = 2000;

interface Network {
  readonly Id: string;
  readonly Options: Readonly<Record<string, string>>;
}

/** What drivers/overlay/README.md says to type, with the lab's image, which no registry has. */
const README = await readFile(join(REPOSITORY, 'drivers/overlay/README.md'), 'utf8');

async function type(h: DockerHost, start: string): Promise<void> {
  const line = README.split('\n').find(
    (one) => one.startsWith(`${h.name}# ${start}`) && !one.includes('peers='),
  );
  if (line === undefined) throw new Error(`the README has no line ${h.name}# ${start}`);
  const command = line.replace(`${h.name}# `, '').replace(' alpine ', ` ${IMAGE} `);
  await h.sh(command.replace('service create', 'service create --no-resolve-image'));
}

async function network(h: DockerHost, name: string): Promise<Network> {
  const [found] = JSON.parse(await h.docker('network', 'inspect', name)) as Network[];
  if (found === undefined) throw new Error(`${h.name} has no network ${name}`);
  return found;
}

/** A program in the network's own namespace on a host, `undefined` while the host holds none. */
async function inside(h: DockerHost, id: string, ...argv: string[]): Promise<string | undefined> {
  const netns = join(dirname(h.cnmd.adminSocket), 'run/netns', `ov-${id.slice(0, 12)}`);
  const { code, stdout } = await h.tryRun(['nsenter', `--net=${netns}`, ...argv]);
  return code === 0 ? stdout : undefined;
}

/** The hosts that get a copy of what everybody is to hear, sorted. */
async function replication(h: DockerHost, id: string): Promise<readonly string[] | undefined> {
  const fdb = await inside(h, id, 'bridge', 'fdb', 'show', 'dev', 'vx0');
  return fdb === undefined
    ? undefined
    : [...fdb.matchAll(/^00:00:00:00:00:00 dst (\S+)/gm)].map(([, to = '']) => to).sort();
}

/**
 * `docker run` on a node. One whose plugin was enabled just now tells the managers which plugins it has every 20 s (swarmkit's agent,
 * nodeUpdatePeriod), and dockerd gives up on an attachment after 20 s: where the one is late the other comes first, and users type it again.
 */
async function runs(h: DockerHost, name: string, network: string): Promise<void> {
  await h.docker('create', '--name', name, '--hostname', name, '--network', network, IMAGE);
  await until(`${name} to start`, 2 * LIMIT, async () =>
    (await h.tryDocker('start', name)).code === 0 ? true : undefined,
  );
}

async function reaches(t: Test, h: DockerHost, container: string, address: string): Promise<void> {
  const asked = until(`${container} to reach ${address}`, LIMIT, async () =>
    (await h.containerPings(container, address, 2)) ? true : undefined,
  );
  await t.resolves(asked, `${container} → ${address}`);
}

t.test('P22 overlay networks of a swarm', async (t) => {
  const lab = await openLab(t);
  const DRIVERS = { drivers: ['overlay'], plugin: 'managed' as const };
  const h1 = await lab.dockerHost(DRIVERS);
  const h2 = await lab.dockerHost({ ...DRIVERS, engine: '28.5' });
  const h3 = await lab.dockerHost(DRIVERS);
  const hosts = [h1, h2, h3] as const;
  const others = (h: DockerHost) => hosts.filter((other) => other !== h).map(({ address }) => address);

  await h3.docker('plugin', 'disable', 'cnm-overlay');
  await type(h1, 'docker swarm init');
  const token = await h1.docker('swarm', 'join-token', '--quiet', 'worker');
  for (const h of [h2, h3])
    await h.docker('swarm', 'join', '--token', token, '--advertise-addr', h.address, `${h1.address}:2377`);
  await h3.docker('plugin', 'enable', '--timeout', '120', 'cnm-overlay');

  const create = (name: string, subnet: string, ...options: string[]) =>
    h1.docker(
      ...['network', 'create', '-d', h1.driver('overlay'), '--attachable', '--subnet', subnet],
      ...[...options.flatMap((one) => ['-o', one]), name],
    );
  // The manager learns of a container's end a moment later.
  const remove = (name: string) =>
    until('the network to be free', LIMIT, async () => {
      await h1.docker('network', 'rm', name);
      return true;
    });
  await type(h1, 'docker network create -d cnm-overlay:latest');
  const { Id: id, Options } = await until('the allocation', LIMIT, async () => {
    const found = await network(h1, 'uber-net');
    return found.Options['vni'] === undefined ? undefined : found;
  });
  await type(h1, 'docker run -dit --name c1 --network uber-net');
  await runs(h2, 'c2', 'uber-net');
  await runs(h3, 'c3', 'uber-net');
  const [v1, v2, v3] = await Promise.all(
    hosts.map(async (h, n) => (await attached(h, `c${n + 1}`, 'uber-net')).v4),
  );

  await t.test('one VNI on all nodes, each the host of all others', async (t) => {
    t.match(Options, { peers: 'swarm', 'ip-range': 'any', vni: /^\d+$/ });
    t.ok(Number(Options['vni']) >= 2 ** 23, 'Docker’s own overlay counts up from 4096');
    for (const h of hosts) {
      t.same((await network(h, 'uber-net')).Options, Options, `the allocation’s options on ${h.name}`);
      t.match(
        await inside(h, id, 'ip', '-d', 'link', 'show', 'vx0'),
        `vxlan id ${Options['vni'] ?? ''} local ${h.address} `,
      );
    }
    // h3 was told of itself alone; it takes the others from its Engine.
    for (const h of hosts)
      await until(`${h.name} to know its nodes`, LIMIT, async () =>
        String(await replication(h, id)) === String(others(h)) ? true : undefined,
      );
  });

  await t.test('containers of docker run, each with each', async (t) => {
    for (const [n, h] of hosts.entries())
      for (const address of [v1, v2, v3]) await reaches(t, h, `c${n + 1}`, address ?? '');
    const seen = await capture(
      (argv) => h1.spawnNet(argv),
      '-i eth0 udp port 4789',
      () => h1.containerPings('c1', v2 ?? ''),
    );
    t.match(
      seen,
      new RegExp(`${h1.address}.\\d+ > ${h2.address}.4789: VXLAN, .*vni ${Options['vni'] ?? ''}`),
    );
    t.match(seen, `${v1 ?? ''} > ${v2 ?? ''}: ICMP echo request`);
  });

  await t.test('a service with replicas on every node', async (t) => {
    await type(h1, 'docker service create');
    const found = await until('three tasks by name', LIMIT, async () => {
      const { stdout } = await h1.tryExec('c1', 'nslookup', 'tasks.web');
      const addresses = [...stdout.matchAll(/^Address: (10\.1\.0\.\d+)$/gm)].map(([, one = '']) => one);
      return addresses.length === 3 ? addresses : undefined;
    });
    for (const address of found) {
      await reaches(t, h1, 'c1', address);
      await reaches(t, h2, 'c2', address);
    }
    await h1.docker('service', 'rm', 'web');
  });

  await t.test('with tunnels in user space, by the plugin’s own thread', async (t) => {
    await create('soft', '10.2.0.0/24', 'vtep=userspace', 'port=4790', 'vni=77');
    await Promise.all(hosts.map((h, n) => runs(h, `s${n + 1}`, 'soft')));
    const { Id: soft, Options: chosen } = await network(h2, 'soft');
    t.match(chosen, { vni: '77', vtep: 'userspace' }, 'what the user gave is kept');
    t.match(await inside(h2, soft, 'ip', '-d', 'link', 'show', 'vx0'), 'tun type tap');
    for (const [n, h] of hosts.entries()) {
      const { v4 } = await attached(h, `s${n + 1}`, 'soft');
      for (const [m, from] of hosts.entries()) if (m !== n) await reaches(t, from, `s${m + 1}`, v4);
    }
    await Promise.all(hosts.map((h, n) => h.docker('rm', '--force', `s${n + 1}`)));
    await remove('soft');
  });

  await t.test('a VNI that another network has is not given twice', async (t) => {
    await create('taken', '10.3.0.0/24', `vni=${Options['vni'] ?? ''}`);
    await until('the refusal', LIMIT, () => h1.dockerLog.includes('belongs to network') || undefined);
    await h1.docker('network', 'rm', 'taken');
    await create('next', '10.4.0.0/24');
    const vni = await until('another VNI', LIMIT, async () => (await network(h1, 'next')).Options['vni']);
    t.not(vni, Options['vni']);
    await h1.docker('network', 'rm', 'next');
  });

  await t.test('manager and plugin killed: the VNI stays, and the nodes are known', async (t) => {
    // In this order: see docs/managed-plugin.md for 20.10 that dies while it starts its plugin again.
    await h1.killDocker();
    await h1.killPlugin();
    // 20.10 ends with a nil pointer (libnetwork's remote.Init) while containerd has not taken its killed plugin away; systemd starts it again.
    await until('dockerd to start', LIMIT, async () => {
      const started = await h1.startDocker().then(
        () => true,
        () => undefined,
      );
      if (started === undefined) await setTimeout(RESTART_MS);
      return started;
    });
    await until('the manager to lead again', LIMIT, async () =>
      (await h1.tryDocker('node', 'ls')).code === 0 ? true : undefined,
    );
    await until(
      'c1 to start',
      LIMIT,
      async () => (await h1.tryDocker('start', 'c1')).code === 0 || undefined,
    );
    t.same((await network(h1, 'uber-net')).Options, Options);
    await reaches(t, h1, 'c1', v2 ?? '');
    await reaches(t, h2, 'c2', (await attached(h1, 'c1', 'uber-net')).v4);
    await until('h1 to know its nodes again', LIMIT, async () =>
      String(await replication(h1, id)) === String(others(h1)) ? true : undefined,
    );
  });

  await t.test('a node that leaves gets no more copies, and one that comes back does', async (t) => {
    const node = await h3.docker('info', '--format', '{{.Swarm.NodeID}}');
    await h3.docker('swarm', 'leave');
    for (const h of [h1, h2])
      await until(`${h.name} to forget h3`, LIMIT, async () =>
        String(await replication(h, id)) === String(others(h).filter((one) => one !== h3.address))
          ? true
          : undefined,
      );
    await until('h3 to hold nothing of it', LIMIT, async () =>
      (await inside(h3, id, 'true')) === undefined ? true : undefined,
    );
    // Or its tasks count for a day.
    await h1.docker('node', 'rm', '--force', node);
    await h3.docker('swarm', 'join', '--token', token, '--advertise-addr', h3.address, `${h1.address}:2377`);
    for (const h of [h1, h2])
      await until(`${h.name} to know h3`, LIMIT, async () =>
        String(await replication(h, id)) === String(others(h)) ? true : undefined,
      );
    await h3.docker('rm', '--force', 'c3');
    await runs(h3, 'c3', 'uber-net');
    await reaches(t, h3, 'c3', v2 ?? '');
  });

  await t.test(
    'nodes that share an etcd tell each other of their containers, and learn nothing',
    async (t) => {
      const store = await lab.peer({ name: 'store' });
      const etcd = new EtcdHost(store);
      await etcd.start();
      await Promise.all(
        hosts.map(async (h, n) => {
          await h.docker('rm', '--force', `c${n + 1}`);
          await h.docker('plugin', 'disable', '--force', 'cnm-overlay');
          await h.docker('plugin', 'set', 'cnm-overlay', `CLUSTER=etcd://${store.address}:2379`);
          await h.docker('plugin', 'enable', '--timeout', '120', 'cnm-overlay');
        }),
      );
      await create('told', '10.5.0.0/24');
      await until('the allocation', LIMIT, async () => (await network(h1, 'told')).Options['vni']);
      await Promise.all(hosts.map((h, n) => runs(h, `t${n + 1}`, 'told')));
      const { Id: told } = await network(h1, 'told');
      const at = await Promise.all(hosts.map((h, n) => attached(h, `t${n + 1}`, 'told')));
      for (const [n, h] of hosts.entries()) {
        const tunnel = (await inside(h, told, 'ip', '-d', 'link', 'show', 'vx0')) ?? '';
        t.match(tunnel, new RegExp(`local ${h.address} .*nolearning`));
        const wanted = hosts.flatMap((other, m) =>
          other === h
            ? []
            : [`${at[m]?.mac ?? ''} dst ${other.address}`, `00:00:00:00:00:00 dst ${other.address}`],
        );
        await until(`${h.name} to be told of the others`, LIMIT, async () => {
          const fdb = (await inside(h, told, 'bridge', 'fdb', 'show', 'dev', 'vx0')) ?? '';
          const held = [...fdb.matchAll(/^(\S+ dst \S+)/gm)].map(([, entry = '']) => entry);
          return String(held.sort()) === String(wanted.sort()) ? true : undefined;
        });
        for (const { v4 } of at) await reaches(t, h, `t${n + 1}`, v4);
      }
      t.equal((await etcd.keys('/cnm/overlay/on/')).length, 6, 'three hosts, and a container on each');
      await Promise.all(hosts.map((h, n) => h.docker('rm', '--force', `t${n + 1}`)));
      await until('nobody to have it', LIMIT, async () =>
        (await etcd.keys('/cnm/overlay/on/')).length === 0 ? true : undefined,
      );
      await remove('told');
    },
  );

  await t.test('and all of it away', async (t) => {
    for (const h of hosts)
      await until(`${h.name} to hold nothing`, LIMIT, async () =>
        (await inside(h, id, 'true')) === undefined ? true : undefined,
      );
    await remove('uber-net');
    for (const h of hosts)
      await until(
        `${h.name} to have no record of it`,
        LIMIT,
        () =>
          recordsOf(h.cnmd.stateFolder).every(([key]) => !/^(swarm\/)?(network|endpoint)\//.test(key)) ||
          undefined,
      );
    for (const h of hosts)
      t.match(await run(['nsenter', '-t', String(h.pid), '-n', 'ip', '-o', 'link']), /^(?!.*cnm )/s);
  });
});
