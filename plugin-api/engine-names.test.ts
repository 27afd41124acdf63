/* An Engine that is a unix socket, whose containers and events the test has in its hands. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { EngineNews } from '../cnm/cnm.ts';
import { engineNames } from './engine-names.ts';

const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

const inspected = (id: string, name: string, running = true, StopSignal?: string) => ({
  Id: id,
  Name: `/${name}`,
  State: { Running: running },
  Config: { Hostname: `host-${name}`, ExposedPorts: { '80/tcp': {} }, StopSignal },
  NetworkSettings: {
    Networks: {
      n: { NetworkID: 'net1', EndpointID: `ep-${id}`, Aliases: ['svc'], DNSNames: null },
      unjoined: { NetworkID: 'net2', EndpointID: '' },
    },
    Ports: { '80/tcp': null, '53/udp': null },
  },
});

/** @param refuses paths that it fails to answer, once each. */
async function engine(t: { teardown(fn: () => Promise<void>): unknown }, ...refuses: readonly string[]) {
  const containers = new Map<string, object>();
  const busy = new Set(refuses);
  const streams = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/^\/v[\d.]+/, '');
    if (busy.delete(path)) {
      response.writeHead(500).end('busy');
      return;
    }
    const json = (value: unknown) => response.end(JSON.stringify(value));
    if (path === '/version') json({ ApiVersion: '1.41' });
    else if (path.startsWith('/events')) {
      response.flushHeaders();
      streams.add(response);
      response.on('close', () => streams.delete(response));
    } else if (path === '/networks') json([{ Id: 'net1', Name: 'demo', Driver: 'cnm-bridge' }]);
    else if (path === '/containers/json') json([...containers.keys()].map((Id) => ({ Id })));
    else {
      const found = containers.get(path.split('/')[2] ?? '');
      if (found === undefined) response.writeHead(404);
      json(found ?? {});
    }
  });
  const folder = mkdtempSync(join(tmpdir(), 'cnm-names-'));
  const socket = join(folder, 'docker.sock');
  await new Promise<void>((done) => server.listen(socket, done));
  const news: EngineNews[] = [];
  const stop = engineNames({ socket, log }).follow((one) => news.push(one));
  t.teardown(async () => {
    stop();
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    rmSync(folder, { recursive: true });
  });
  const tell = (event: object) => {
    for (const stream of streams) stream.write(`${JSON.stringify(event)}\n`);
  };
  /** A byte at a time. */
  const trickle = async (event: object) => {
    for (const byte of Buffer.from(`${JSON.stringify(event)}\n`)) {
      for (const stream of streams) stream.write(Buffer.of(byte));
      await new Promise((done) => setImmediate(done));
    }
  };
  const drop = () => {
    for (const stream of streams) stream.destroy();
  };
  const about = (what: EngineNews['what']) => news.filter((one) => one.what === what);
  const hears = async (what: EngineNews['what'], count: number) => {
    for (const end = Date.now() + 60_000; Date.now() < end && about(what).length < count;)
      await new Promise((done) => setTimeout(done, 5));
    return about(what)[count - 1];
  };
  return { containers, busy, tell, trickle, drop, hears };
}

const of = (type: string, action: string, id: string, attributes: object = {}) => ({
  Type: type,
  Action: action,
  Actor: { ID: id, Attributes: attributes },
});

t.test('everything first, then what changes', async (t) => {
  const { containers, tell, hears } = await engine(t);
  containers.set('c0', inspected('c0', 'zero'));
  t.match(await hears('all', 1), { networks: [{ id: 'net1', name: 'demo' }] });
  containers.set('c1', inspected('c1', 'one'));
  tell(of('container', 'start', 'c1'));
  t.strictSame(await hears('container', 1), {
    what: 'container',
    container: {
      id: 'c1',
      name: 'one',
      hostname: 'host-one',
      endpoints: [{ id: 'ep-c1', network: 'net1', aliases: ['svc'] }],
      ports: ['80/tcp', '53/udp'],
    },
  });
  containers.set('c1', inspected('c1', 'other'));
  tell(of('container', 'rename', 'c1'));
  t.match(await hears('container', 2), { container: { name: 'other' } });
  tell(of('network', 'connect', 'net1', { container: 'c1' }));
  t.match(await hears('container', 3), { container: { id: 'c1' } });
  tell(of('network', 'create', 'net9', { name: 'nine' }));
  t.match(await hears('network', 1), { id: 'net9', name: 'nine' });
  tell(of('container', 'kill', 'c1', { signal: '1' }));
  tell(of('container', 'kill', 'c1', { signal: '15' }));
  t.match(await hears('stopping', 1), { id: 'c1' });
  containers.delete('c1');
  tell(of('container', 'die', 'c1'));
  t.match(await hears('gone', 1), { id: 'c1' });
  containers.set('c2', inspected('c2', 'two', false));
  tell(of('container', 'start', 'c2'));
  t.match(await hears('gone', 2), { id: 'c2' }, 'ended before it was looked at');
});

t.test('an Engine that cannot answer at the moment is asked again', async (t) => {
  const { containers, busy, tell, hears } = await engine(t, '/networks');
  t.match(await hears('all', 1), { networks: [{ id: 'net1', name: 'demo' }] }, 'for all');
  containers.set('c1', inspected('c1', 'one'));
  busy.add('/containers/c1/json');
  tell(of('container', 'start', 'c1'));
  t.match(await hears('container', 1), { container: { name: 'one' } }, 'and for one');
});

t.test('a container that is told to stop in its own way', async (t) => {
  const { containers, tell, hears } = await engine(t);
  t.ok(await hears('all', 1));
  for (const [n, [signal, number]] of [
    ['SIGQUIT', '3'],
    ['12', '12'],
  ].entries()) {
    const id = `c${n}`;
    containers.set(id, inspected(id, 'nginx', true, signal));
    tell(of('container', 'start', id));
    t.ok(await hears('container', n + 1));
    tell(of('container', 'kill', id, { signal: '28' }));
    tell(of('container', 'kill', id, { signal: number }));
    t.match(await hears('stopping', n + 1), { id });
  }
});

t.test('names of more than ASCII, however the stream is cut', async (t) => {
  const { trickle, hears } = await engine(t);
  t.ok(await hears('all', 1));
  await trickle(of('network', 'create', 'net9', { name: 'café' }));
  t.match(await hears('network', 1), { name: 'café' });
});

t.test('a connection that is lost is made again, and everything told again', async (t) => {
  const { containers, drop, hears } = await engine(t);
  t.match(await hears('all', 1), { containers: [] });
  containers.set('c0', inspected('c0', 'zero'));
  drop();
  t.match(await hears('all', 2), { containers: [{ name: 'zero' }] });
});
