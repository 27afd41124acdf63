/** Ports on a host in memory: who gets which, what becomes of a conflict, and what a restart finds. */
import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Cnm, EngineView } from './cnm.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { PortBinding } from './model.ts';
import { endpointSpec, networkSpec } from '../tests/specs.ts';

const network = networkSpec('cnm-bridge');
const endpoint = (n: number) =>
  endpointSpec({ id: `e${n}`.repeat(32), address: prefix(`10.1.0.${n + 1}/24`) });
const binding = (port: number, hostPort: number, more: Partial<PortBinding> = {}): PortBinding => ({
  proto: 6,
  port,
  hostPort,
  hostPortEnd: hostPort,
  ...more,
});

const engine: EngineView = {
  networks: () =>
    Promise.resolve([
      {
        id: network.id,
        name: 'n1',
        driver: 'cnm-bridge',
        endpoints: [{ id: endpoint(1).id, container: 'web' }],
      },
    ]),
};

const sandbox = (n: number) => `/run/docker/netns/c${n}`;

/** As Docker does when a container starts. */
async function attach(kernel: FakeKernel, cnm: Cnm, n: number): Promise<void> {
  if (cnm.endpoint(network.id, endpoint(n).id) !== undefined) return;
  await cnm.createEndpoint(endpoint(n));
  const { srcName } = await cnm.join(network.id, endpoint(n).id, sandbox(n));
  kernel.moveAway(srcName, sandbox(n), 'eth0');
}

async function host(kernel = fakeKernel(), store = memoryStore()) {
  const start = (): Cnm =>
    createCnm({ kernel, store, drivers: [bridge], log: silent, runDir: '/run/cnm', engine });
  const cnm = start();
  await cnm.createNetwork(network);
  for (const n of [1, 2, 3]) await attach(kernel, cnm, n);
  const publish = (n: number, ...ports: PortBinding[]) =>
    cnm.programExternalConnectivity(network.id, endpoint(n).id, ports);
  const published = (n: number) =>
    (cnm.endpoint(network.id, endpoint(n).id)?.external?.published ?? []).map(({ hostPort }) => hostPort);
  const held = async () => [...(await kernel.facts()).heldPorts].sort();
  return { kernel, cnm, start, publish, published, held };
}

t.test('a port that another container has: its name, and nothing is changed', async (t) => {
  const { cnm, publish, held } = await host();
  await publish(1, binding(80, 8080));
  await t.rejects(publish(2, binding(81, 9000), binding(80, 8080)), {
    code: 'port-taken',
    message: 'Port 8080/tcp on 0.0.0.0 is not free: container web (endpoint e1e1e1e1e1e1) holds it',
  });
  t.same(await held(), ['tcp 0.0.0.0 8080']);
  t.equal(cnm.endpoint(network.id, endpoint(2).id)?.external, undefined);
});

t.test('a conflict is found before what the container has is taken from it', async (t) => {
  const { kernel, publish, published, held } = await host();
  await publish(1, binding(80, 8080));
  await publish(2, binding(80, 9000));
  let steps = 0;
  const stop = kernel.failAt(() => (steps += 1) === 0, 'ENOMEM');
  await t.rejects(publish(2, binding(80, 8080)), { code: 'port-taken' });
  stop();
  t.equal(steps, 0, 'nothing was done in the kernel');
  t.same(published(2), [9000]);
  t.same(await held(), ['tcp 0.0.0.0 8080', 'tcp 0.0.0.0 9000']);
});

t.test('L03: a container that died in a crash of Docker’s keeps its ports from nobody', async (t) => {
  const { kernel, cnm, publish, published, held } = await host();
  await publish(1, binding(80, 8080), binding(81, 8081));
  kernel.destroyNetns(sandbox(1));
  await publish(2, binding(80, 8080));
  t.same(await held(), ['tcp 0.0.0.0 8080']);
  t.same(published(2), [8080]);
  t.equal(cnm.endpoint(network.id, endpoint(1).id)?.external, undefined, 'nor any other that it had');
});

t.test('T07: a port that a process has: the one of a range that is in the way', async (t) => {
  const { kernel, publish, held } = await host();
  kernel.occupyPort({ proto: 'tcp', address: ip('0.0.0.0'), port: 9001 }, 'nginx (pid 417)');
  const range = [9000, 9001, 9002].map((port) => binding(port, port));
  await t.rejects(publish(1, ...range), {
    code: 'port-taken',
    message: 'Port 9001/tcp on 0.0.0.0 is not free: tcp 0.0.0.0:9001 is held by nginx (pid 417)',
  });
  // A request for any port of the same container is no way out of one that insists.
  await t.rejects(publish(1, binding(80, 9001), binding(80, 0)), { message: /held by nginx/ });
  t.same(await held(), []);
});

t.test('T15: of neighbours among ephemeral ports one turns out to be taken: another is found', async (t) => {
  const { kernel, publish, published } = await host();
  kernel.occupyPort({ proto: 'tcp', address: ip('0.0.0.0'), port: 49153 }, 'nginx (pid 417)');
  await publish(1, binding(80, 0), binding(81, 0), binding(82, 0));
  const numbers = published(1);
  t.equal(new Set(numbers).size, 3);
  t.notOk(numbers.includes(49153), numbers.join(', '));
});

t.test('a port taken while the daemon was away keeps no other from being held', async (t) => {
  const { kernel, cnm, start, publish, held } = await host();
  const range = [9000, 9001, 9002].map((port) => binding(port, port));
  await publish(1, binding(80, 8080), ...range);
  await cnm.close();
  const hold = { do: 'port.hold', proto: 'tcp', address: ip('0.0.0.0') } as const;
  await kernel.revert([
    { ...hold, port: 8080 },
    { ...hold, port: 9000, portEnd: 9002 },
  ]);
  kernel.occupyPort({ proto: 'tcp', address: ip('0.0.0.0'), port: 9001 }, 'nginx (pid 417)');
  const report = await start().reconcile();
  t.same(await held(), ['tcp 0.0.0.0 8080', 'tcp 0.0.0.0 9000', 'tcp 0.0.0.0 9002']);
  t.match(report.failed, [/tcp 0\.0\.0\.0:9001 is held by nginx/]);
});

t.test('what is held is what the living have published, whatever happened before', async (t) => {
  const port = fc.constantFrom(0, 8080, 8081, 8082);
  const event = fc.oneof(
    fc.record({
      does: fc.constant('publish' as const),
      n: fc.integer({ min: 1, max: 3 }),
      ports: fc.array(port, { maxLength: 3 }),
    }),
    fc.record({
      does: fc.constantFrom('revoke' as const, 'delete' as const),
      n: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({ does: fc.constant('restart' as const), n: fc.constant(1) }),
  );
  const holds = fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 20 }), async (events) => {
      const { kernel, cnm: first, start, held } = await host();
      let cnm = first;
      for (const one of events) {
        const { id } = endpoint(one.n);
        try {
          if (one.does === 'publish') {
            await attach(kernel, cnm, one.n);
            const wanted = one.ports.map((number, n) => binding(80 + n, number));
            await cnm.programExternalConnectivity(network.id, id, wanted);
          } else if (one.does === 'revoke') await cnm.revokeExternalConnectivity(network.id, id);
          else if (one.does === 'delete') {
            await cnm.deleteEndpoint(network.id, id);
            kernel.destroyNetns(sandbox(one.n));
          } else {
            await cnm.close();
            cnm = start();
            await cnm.reconcile();
          }
        } catch (error) {
          if (!String(error).includes('is not free')) throw error;
        }
      }
      const live = cnm.endpoints(network.id).flatMap(({ external }) => external?.published ?? []);
      const wanted = live.map(({ hostIp, hostPort }) => `tcp ${hostIp ?? ''} ${hostPort ?? ''}`).sort();
      assert.deepEqual(await held(), wanted);
      assert.equal(new Set(wanted).size, wanted.length, 'nobody shares a port');
      const { elements } = await kernel.facts();
      assert.equal(elements?.get('publish4_any')?.size ?? 0, wanted.length);
      assert.deepEqual((await cnm.drift()).differences, []);
      assert.deepEqual((await cnm.drift()).orphans, []);
    }),
    { numRuns: 60 },
  );
  await t.resolves(holds);
});
