// lab: alone
/*
 *   h1: dockerd 20.10, cnmd ── n1 (cnm-bridge) ── 20 containers at a time, 200 in all
 */
import { readdir, readFile } from 'node:fs/promises';
import t from 'tap';
import type { DockerHost } from '../lab/docker-host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { holdings } from './crash-host.ts';

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
  t.comment(`descriptors of cnmd: ${[before.process, ...figures].map(({ fds }) => fds).join(' ')}`);

  const held = await holdings(h);
  t.same(held.kernel, before.held.kernel, 'links, addresses, routes, rules and namespaces as before');
  t.same(held.records, before.held.records, 'records and leases as before');
  t.same(held.wrong, [], 'the doctor finds nothing');
  t.same(await dockerRules(h), before.docker, "and Docker's own tables as before");
  const last = figures.at(-1) ?? before.process;
  t.equal(last.fds, before.process.fds, 'descriptors as before');
  t.ok(last.rss - before.process.rss < 60, `RSS grew by ${(last.rss - before.process.rss).toFixed(1)} MB`);
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
  readonly fds: number;
  /** In MB. */
  readonly rss: number;
}

async function processOf(h: DockerHost): Promise<ProcessFigures> {
  const pid = await h.cnmd.pid();
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const fds = await readdir(`/proc/${pid}/fd`);
  return { fds: fds.length, rss: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024 };
}
