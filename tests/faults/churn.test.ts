// lab: alone
/*
 *   h1: dockerd 20.10, cnmd ── n1 (cnm-bridge) ── 20 containers at a time, 200 in all
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import t from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { holdings } from './crash-host.ts';
import { heapOf } from './memory.ts';

const BATCH = 20;
const BATCHES = 10;

t.test('L07: 200 containers come and go; nothing stays and nothing grows', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await h.docker(
    'network',
    'create',
    '-d',
    'cnm-bridge',
    '--ipam-driver',
    'cnm-ipam',
    '--ipv6',
    '--subnet',
    '10.9.0.0/16',
    '--subnet',
    'fd00:9::/64',
    'n1',
  );
  // The first batch is not measured: Node compiles, and the pools of everything fill.
  await churn(h, 'warm');
  const heap = await heapOf(h);
  const before = { held: await holdings(h), docker: await dockerRules(h), process: await processOf(h) };
  const began = performance.now();
  const figures: ProcessFigures[] = [];
  for (let batch = 0; batch < BATCHES; batch += 1) {
    await churn(h, `b${batch}`);
    figures.push(await processOf(h));
  }
  const seconds = (performance.now() - began) / 1000;
  t.comment(`${BATCH * BATCHES} containers in ${seconds.toFixed(0)} s`);
  t.comment(`RSS of cnmd, MB: ${[before.process, ...figures].map(({ rss }) => rss.toFixed(0)).join(' ')}`);
  const descriptors = [before.process, ...figures].map(({ fds, connections }) => `${fds}+${connections}`);
  t.comment(`descriptors of cnmd, and connections of Docker: ${descriptors.join(' ')}`);

  const held = await holdings(h);
  t.same(held.kernel, before.held.kernel, 'links, addresses, routes, rules and namespaces as before');
  t.same(held.records, before.held.records, 'records and leases as before');
  t.same(held.wrong, [], 'the doctor finds nothing');
  t.same(await dockerRules(h), before.docker, "and Docker's own tables as before");
  // What the resolver asks Docker of containers that have just gone may still be under way.
  const last = await until('as many descriptors as before', 20_000, async () => {
    const now = await processOf(h);
    return now.fds <= before.process.fds ? now : undefined;
  });
  // Go's http.Transport keeps two idle connections to each address (DefaultMaxIdleConnsPerHost), for each of its clients.
  t.ok(last.connections <= 8, `${last.connections} connections are kept by Docker`);
  const grown = (await heapOf(h)) - heap;
  t.ok(grown < 5, `the heap in use grew from ${heap.toFixed(1)} MB by ${grown.toFixed(1)} MB`);
});

/** 20 at once started, and 20 at once removed. Over the API: the docker command costs more than the container. */
async function churn(h: DockerHost, name: string): Promise<void> {
  const names = Array.from({ length: BATCH }, (_, index) => `${name}-${index}`);
  await Promise.all(names.map((one) => start(h, one)));
  const running = (await h.api('GET', '/networks/n1')).body as { readonly Containers: object };
  if (Object.keys(running.Containers).length !== BATCH) throw new Error(`not all of ${name} run`);
  await Promise.all(names.map((one) => expectStatus(h, 204, 'DELETE', `/containers/${one}?force=1`)));
}

async function start(h: DockerHost, name: string): Promise<void> {
  const wanted = { Image: IMAGE, Cmd: ['/bin/sleep', '3600'], HostConfig: { NetworkMode: 'n1' } };
  await expectStatus(h, 201, 'POST', `/containers/create?name=${name}`, wanted);
  await expectStatus(h, 204, 'POST', `/containers/${name}/start`);
}

async function expectStatus(
  h: DockerHost,
  status: number,
  method: string,
  path: string,
  body?: unknown,
): Promise<void> {
  const reply = await h.api(method, path, body);
  if (reply.status !== status) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`);
}

/** Docker's rules of both families, without counters. */
async function dockerRules(h: DockerHost): Promise<readonly string[]> {
  const saved = await h.sh('iptables-save; ip6tables-save');
  return saved
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replace(/\[\d+:\d+\]/, ''));
}

interface ProcessFigures {
  /** Without the connections that Docker keeps open. */
  readonly fds: number;
  readonly connections: number;
  /** In MB. */
  readonly rss: number;
}

async function processOf(h: DockerHost): Promise<ProcessFigures> {
  const pid = await h.cnmd.pid();
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kept = await connectionsOf(pid);
  const links = await Promise.all(
    (await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => 'closed')),
  );
  const connections = links.filter((link) => kept.has(link)).length;
  const fds = links.length - connections;
  return { fds, connections, rss: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024 };
}

/** Accepted on a plugin's socket: they bear its path, in state 03, connected (net/unix/af_unix.c, unix_seq_show). */
async function connectionsOf(pid: number): Promise<ReadonlySet<string>> {
  const lines = (await readFile(`/proc/${pid}/net/unix`, 'utf8'))
    .split('\n')
    .map((line) => line.split(/\s+/));
  const accepted = lines.filter((fields) => fields[5] === '03' && fields[7]?.includes('/plugins/') === true);
  return new Set(accepted.map((fields) => `socket:[${fields[6] ?? ''}]`));
}
