import t from 'tap';
import { bridge } from '../drivers/bridge/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { EngineNetwork } from './cnm.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import { createReclaimer } from './reclaim.ts';
import { endpointSpec, networkSpec } from '../tests/specs.ts';

const network = networkSpec('cnm-bridge');
const endpoint = endpointSpec();

async function host(origin: 'docker' | 'cnm' = 'docker') {
  const kernel = fakeKernel();
  let time = Date.parse('2026-01-01T00:00:00Z');
  let answer: readonly EngineNetwork[] | undefined = [];
  const cnm = createCnm({
    kernel,
    store: memoryStore(),
    drivers: [bridge],
    log: silent,
    runDir: '/run/cnm',
    now: () => new Date(time),
  });
  await cnm.createNetwork({ ...network, origin });
  await cnm.createEndpoint(endpoint);
  const reclaimer = createReclaimer({
    cnm,
    kernel,
    view: { networks: () => Promise.resolve(answer) },
    log: silent,
    now: () => time,
  });
  return {
    kernel,
    cnm,
    look: () => reclaimer.look(),
    wait: (seconds: number) => (time += seconds * 1000),
    docker: (networks: readonly EngineNetwork[] | undefined) => (answer = networks),
  };
}

const listed = (...endpoints: string[]): EngineNetwork => ({
  id: network.id,
  name: 'n',
  driver: 'cnm-bridge',
  endpoints: endpoints.map((id) => ({ id, container: 'c' })),
});

t.test('what Docker does not list twice, and is old enough, goes', async (t) => {
  const h = await host();
  t.same(await h.look(), [], 'too young');
  h.wait(20);
  t.same(await h.look(), [], 'seen missing once');
  h.wait(1);
  t.same(await h.look(), [], 'too soon after the first look');
  h.wait(5);
  t.same(await h.look(), [`network ${network.id}`]);
  t.same(h.cnm.networks(), []);
});

t.test('an endpoint that Docker lists no more goes, its network stays', async (t) => {
  const h = await host();
  h.docker([listed()]);
  h.wait(20);
  await h.look();
  h.wait(6);
  t.same(await h.look(), [`endpoint ${endpoint.id}`]);
  t.equal(h.cnm.networks().length, 1);
});

t.test('listed again in between: the count begins anew', async (t) => {
  const h = await host();
  h.wait(20);
  await h.look();
  h.docker([listed(endpoint.id)]);
  h.wait(6);
  await h.look();
  h.docker([]);
  h.wait(6);
  t.same(await h.look(), []);
});

t.test('never: when Docker does not answer; what is not Docker’s; what a living sandbox holds', async (t) => {
  const mute = await host();
  mute.docker(undefined);
  mute.wait(20);
  t.equal(await mute.look(), undefined);
  mute.wait(6);
  t.equal(await mute.look(), undefined);
  t.equal(mute.cnm.networks().length, 1);

  const own = await host('cnm');
  own.wait(20);
  await own.look();
  own.wait(6);
  t.same(await own.look(), []);

  const held = await host();
  const { srcName } = await held.cnm.join(network.id, endpoint.id, '/var/run/docker/netns/x');
  held.kernel.moveAway(srcName, '/var/run/docker/netns/x', 'eth0');
  held.wait(20);
  await held.look();
  held.wait(6);
  t.same(await held.look(), []);
  held.kernel.destroyNetns('/var/run/docker/netns/x');
  t.same(await held.look(), [`network ${network.id}`], 'its sandbox is dead now');
});
