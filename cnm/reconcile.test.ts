/** A repair beside what other hosts change meanwhile. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { networkSpec } from '../tests/specs.ts';
import type { ControlPlane, RemoteEndpoint, RemoteNews } from './control.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';

const POOL = prefix('10.1.0.0/24');
const network = networkSpec('cnm-overlay', { ipv4: [{ addressSpace: '', pool: POOL, aux: {} }] });
const endpoint = { id: 'e1'.repeat(32), network: network.id, address: prefix('10.1.0.2/24'), options: {} };
const NETNS = `/run/cnm/netns/ov-${network.id.slice(0, 12)}`;

/** A plane on which the test says what is told. */
function plane() {
  const listeners: ((news: RemoteNews) => void)[] = [];
  const nothing = () => undefined;
  const control: ControlPlane = {
    name: 'test',
    agree: () => Promise.resolve({ plane: 'test', id: 'n', name: 'n', numbers: [70], shared: [POOL] }),
    leave: nothing,
    quit: nothing,
    enter(_agreement, _place, listener) {
      listeners.push(listener);
      listener({ what: 'all', remotes: [] });
      return { put: nothing, drop: nothing, describe: nothing, close: nothing };
    },
    generation: () => 1,
    forget: () => Promise.resolve(false),
    close: () => Promise.resolve(),
  };
  return {
    control,
    tell: (news: RemoteNews) => {
      listeners.forEach((listener) => {
        listener(news);
      });
    },
  };
}

const at = (host: string, generation: number): RemoteEndpoint => ({
  ...{ kind: 'endpoint', id: 'f1'.repeat(32), host, at: ip(host), generation, names: [], ports: [] },
  ...{ mac: mac('02:42:0a:01:00:03'), addresses: [prefix('10.1.0.3/24')] },
});

t.test('a container moves while a repair looks: its entry leads to where it is', async (t) => {
  const kernel = fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
    routes: [{ to: prefix('0.0.0.0/0'), link: 'eth0' }],
  });
  const { control, tell } = plane();
  const options = { kernel, store: memoryStore(), drivers: [overlay], log: silent, runDir: '/run/cnm' };
  const cnm = createCnm({ ...options, control });
  await cnm.createNetwork(network);
  await cnm.createEndpoint({ ...endpoint, ports: [] });
  const places = async () => {
    const { netns } = await kernel.facts({
      netns: [NETNS],
      plans: [cnm.network(network.id)?.presence ?? []],
    });
    const entries = [...(netns.get(NETNS)?.entries?.values() ?? [])];
    return entries.flatMap((one) => (one.do === 'fdb.add' ? [one.dst] : []));
  };
  const settled = async () => {
    for (let turn = 0; turn < 50; turn += 1) await setImmediate();
  };
  tell({ what: 'changes', put: [at('192.0.2.2', 2)], gone: [] });
  await settled();
  t.same(await places(), ['192.0.2.2']);

  // Something to repair, and a move while the kernel is looked at.
  const [entry] =
    (await kernel.facts({ netns: [NETNS], plans: [cnm.network(network.id)?.presence ?? []] })).netns
      .get(NETNS)
      ?.entries?.values() ?? [];
  if (entry === undefined) throw new Error('no entry');
  await kernel.revert([entry]);
  const facts = kernel.facts.bind(kernel);
  let looks = 0;
  kernel.facts = async (query) => {
    const found = await facts(query);
    looks += 1;
    if (looks === 2) {
      tell({ what: 'changes', put: [at('192.0.2.3', 3)], gone: [] });
      await settled();
      return facts(query);
    }
    return found;
  };
  await cnm.reconcile();
  kernel.facts = facts;
  await settled();
  t.ok(looks >= 2);
  t.same(await places(), ['192.0.2.3']);
  t.same((await cnm.drift()).differences, []);
});
