/*
 * The thread of tunnel endpoints in user space, when it ends: of itself, and while the next one begins. A namespace of its own.
 *
 *   tap0, tap1: TAP devices, with nothing behind them
 */
import { BroadcastChannel } from 'node:worker_threads';
import t from 'tap';
import { ip as address } from '../../address/ip.ts';
import type { VtepRun } from '../../kernel/step.ts';
import { createTap } from '../../kernel/tap.ts';
import { Vteps } from '../../kernel/vteps.ts';
import { until } from '../lab/command.ts';
import { enterFreshNetns, linkNames, openDescriptors } from './namespace.ts';

const sys = await enterFreshNetns();
for (const name of ['tap0', 'tap1']) createTap(sys, name);

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const REAL = new URL('../../vtep-worker.ts', import.meta.url);
/** Does nothing; says of each order that it came, and does not end, nor answer for tap1, before it is told. */
const PUPPET = new URL(
  `data:text/javascript,${encodeURIComponent(`
    import { closeSync } from 'node:fs';
    import { BroadcastChannel, parentPort } from 'node:worker_threads';
    const taps = new Set();
    const end = () => { for (const tap of taps) closeSync(tap); process.exit(); };
    const strings = new BroadcastChannel('vteps');
    const pulled = (what) => new Promise((resolve) => {
      strings.addEventListener('message', ({ data }) => { if (data === what) resolve(); });
      strings.postMessage('at ' + what);
    });
    parentPort.on('message', async (order) => {
      if (order.do === 'follow') return end();
      if (order.do === 'end') await pulled('end');
      if (order.do === 'end') return end();
      if (order.do === 'add') taps.add(order.tap);
      if (order.do === 'add' && order.vtep.link === 'tap1') await pulled('add');
      parentPort.postMessage({ id: order.id, counters: {} });
    });
  `)}`,
);

function vtep(link: string, more: Partial<VtepRun> = {}): VtepRun {
  const netns = '/proc/thread-self/ns/net';
  return {
    do: 'vtep.run',
    netns,
    link,
    vni: 70,
    local: address('127.0.0.1'),
    port: 4789,
    peers: [],
    ...more,
  };
}

t.test('the last one goes while the first one comes: that is another thread’s', async (t) => {
  const heard = new Set<unknown>();
  const strings = new BroadcastChannel('vteps');
  strings.onmessage = (event) => {
    heard.add((event as { readonly data: unknown }).data);
  };
  const pull = async (what: string) => {
    await until(what, 15_000, () => heard.has(`at ${what}`) || undefined);
    strings.postMessage(what);
  };
  let lost = 0;
  const vteps = new Vteps(sys, PUPPET, silent, () => {
    lost += 1;
  });
  t.teardown(() => {
    strings.close();
  });
  await vteps.start(vtep('tap0'));
  const stopped = vteps.stop(vtep('tap0'));
  await until('it to be about to end', 15_000, () => heard.has('at end') || undefined);
  const started = vteps.start(vtep('tap1'));
  await until('the next one to be begun', 15_000, () => heard.has('at add') || undefined);
  await pull('end');
  await stopped;
  await pull('add');
  t.ok(await started);
  t.equal(lost, 0);
  heard.delete('at end');
  const closed = vteps.close();
  await pull('end');
  await closed;
});

t.test('a thread that ends instead of following runs nothing', async (t) => {
  let lost = 0;
  const vteps = new Vteps(sys, PUPPET, silent, () => {
    lost += 1;
  });
  await vteps.start(vtep('tap0'));
  await t.rejects(vteps.start(vtep('tap0', { peers: [address('192.0.2.2')] })), /EPIPE/);
  t.equal(lost, 1);
  t.same([...vteps.running()], [], 'so that it is found missing, and put back');
});

t.test('after a failure of the thread everything is put back', async (t) => {
  let lost = 0;
  const vteps = new Vteps(sys, REAL, silent, () => {
    lost += 1;
  });
  const before = openDescriptors();
  await vteps.start(vtep('tap0'));
  await t.rejects(vteps.start(vtep('tap1', { vni: 71, port: 70_000 })), /EPIPE/);
  t.equal(lost, 1);
  await vteps.start(vtep('tap0'));
  t.equal(vteps.running().size, 1);
  await vteps.stop(vtep('tap0'));
  t.ok(openDescriptors() <= before, 'nothing is left open');
  t.same(linkNames(), ['tap0', 'tap1']);
});
