/* The doors of an overlay network's gateway, whose namespace is a file of tests; the sockets are of 127.0.0.1. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import { bindSockets } from '../kernel/bound-sockets.ts';
import { KernelError } from '../kernel/kernel.ts';
import { loadSyscalls } from '../kernel/syscall.ts';
import { Doors } from './doors.ts';
import { Forwarder } from './forwarder.ts';
import { QueryLog } from './query-log.ts';
import { Resolver } from './resolver.ts';
import { Zone } from './zone.ts';

const sys = loadSyscalls();

/** What is wanted, and each attempt to bind: `10.5.0.1` or what it failed with. */
function world(t: { teardown(fn: () => Promise<void>): unknown }) {
  const folder = mkdtempSync(join(tmpdir(), 'cnm-doors-'));
  const netns = join(folder, 'ov-1');
  const network: NetworkRecord = {
    ...{ id: 'a'.repeat(64), driver: 'cnm-overlay', origin: 'cnm', options: {}, internal: false },
    ...{ enableIpv4: true, enableIpv6: false, ipv4: [], ipv6: [], state: 'ready', createdAt: '', plan: [] },
    presence: [{ do: 'addr.add', netns, link: 'br0', prefix: prefix('10.5.0.1/24') }],
  };
  const state = { networks: [network] as readonly NetworkRecord[], failures: 0 };
  const cnm = { networks: () => state.networks, sandboxes: () => [], endpoints: () => [] };
  const tried: string[] = [];
  const quiet = () => undefined;
  const zone = new Zone();
  const forwarder = new Forwarder();
  const doors = new Doors({
    cnm: cnm as unknown as Cnm,
    zone,
    resolver: new Resolver({ zone, forwarder, log: new QueryLog(), upstreams: () => [] }),
    bind(sockets) {
      const failing = state.failures > 0;
      if (failing) state.failures -= 1;
      tried.push(failing ? 'ENOENT' : sockets.map(({ address, port }) => `${address}:${port}`).join(' '));
      if (failing) throw new KernelError('netns', 'ENOENT');
      const here = sockets.map(({ proto }) => ({ proto, address: ip('127.0.0.1'), port: 0 }));
      return bindSockets(sys, here, undefined);
    },
    drain: quiet,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    listen: [],
  });
  t.teardown(async () => {
    await doors.close();
    forwarder.close();
    rmSync(folder, { recursive: true });
  });
  /** Another file in its place, as when the namespace is made anew. */
  const renew = () => {
    writeFileSync(`${netns}.new`, '');
    renameSync(`${netns}.new`, netns);
  };
  renew();
  return { doors, state, tried, renew };
}

const BOTH = '10.5.0.1:53 10.5.0.1:53';

t.test('opened once; again in a namespace that was made anew; closed with it', async (t) => {
  const w = world(t);
  await w.doors.sync();
  await w.doors.sync();
  t.same(w.tried, [BOTH]);
  t.match(w.doors.views(), [{ name: 'gateway of aaaaaaaaaaaa', address: '10.5.0.1', port: 53 }]);
  w.renew();
  await w.doors.sync();
  t.same(w.tried, [BOTH, BOTH], 'the former’s sockets are in a namespace where nobody is any more');
  t.equal(w.doors.views().length, 1);
  w.state.networks = [];
  await w.doors.sync();
  t.same(w.doors.views(), []);
});

t.test('what is not there yet is tried again by itself', async (t) => {
  const w = world(t);
  w.state.failures = 2;
  await w.doors.sync();
  t.match(w.doors.views(), [{ error: /ENOENT/ }]);
  while (w.tried.length < 3) await new Promise((done) => setTimeout(done, 10));
  await w.doors.sync();
  t.same(w.tried, ['ENOENT', 'ENOENT', BOTH]);
  t.notOk(w.doors.views()[0]?.error);
});
