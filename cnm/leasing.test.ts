/** Networks whose addresses a DHCP server gives: the whole model over a fake kernel, with a server of a few lines on its wire. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { macvlan } from '../drivers/macvlan/index.ts';
import { testServer } from '../ipam/dhcp/fake-server.ts';
import { createDhcpLeases } from '../ipam/dhcp/leases.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { EndpointSpec } from './model.ts';
import { networkSpec } from '../tests/specs.ts';

/** As Docker's null IPAM has it. */
const network = networkSpec('cnm-macvlan', {
  options: { parent: 'eth0', dhcp: 'true' },
  ipv4: [{ addressSpace: 'null', pool: prefix('0.0.0.0/0'), aux: {} }],
});
const ADDRESS = prefix('10.0.0.7/24');

function endpoint(n: number, more: Partial<EndpointSpec> = {}): EndpointSpec {
  return { id: `e${String(n).padStart(63, '0')}`, network: network.id, options: {}, ports: [], ...more };
}

function bench(t: Test) {
  const kernel = fakeKernel({ links: [{ name: 'eth0', mac: mac('52:54:00:00:00:01') }] });
  const store = memoryStore();
  const server = testServer();
  const leases = createDhcpLeases({ store, tap: server.tap, log: silent, patience: 300 });
  t.teardown(() => leases.close());
  const cnm = createCnm({ kernel, store, drivers: [macvlan], log: silent, runDir: '/run/cnm', leases });
  return { kernel, store, server, cnm };
}

t.test('an endpoint has the address that the server gives', async (t) => {
  const { cnm, kernel, server } = bench(t);
  await cnm.createNetwork(network);
  await cnm.createNetwork(network);
  t.same(cnm.network(network.id)?.ipv4, [], 'a subnet of all addresses is none');
  const answer = await cnm.createEndpoint(endpoint(1));
  t.equal(answer.address, ADDRESS);
  t.same(await cnm.createEndpoint(endpoint(1)), answer, 'asked again: the same');
  t.same(server.heard, ['discover', 'request 10.0.0.7'], 'and nobody is bothered');
  t.match(cnm.endpoint(network.id, endpoint(1).id), {
    address: ADDRESS,
    leased: { address: ADDRESS },
    mac: answer.mac,
  });
  t.same((await cnm.drift()).differences, []);
  await cnm.deleteNetwork(network.id);
  t.equal(server.heard.at(-1), 'release 10.0.0.7!', 'its wire may be gone a moment later');
  t.equal((await kernel.facts()).host.links.size, 2, 'eth0 and lo');
});

t.test('a MAC that the user chose is not answered, the address is', async (t) => {
  const { cnm } = bench(t);
  await cnm.createNetwork(network);
  t.same(await cnm.createEndpoint(endpoint(1, { mac: mac('02:42:0a:00:00:01') })), { address: ADDRESS });
});

t.test('an endpoint that cannot be made leaves nothing', async (t) => {
  const { cnm, kernel, server, store } = bench(t);
  await cnm.createNetwork(network);
  const before = kernel.snapshot();
  server.isSilent = true;
  await t.rejects(cnm.createEndpoint(endpoint(1)), { code: 'lease-unanswered' });
  server.isSilent = false;
  const mend = kernel.failAt((step, phase) => step.do === 'link.add' && phase === 'apply', 'ENOMEM');
  await t.rejects(cnm.createEndpoint(endpoint(1)), { code: 'kernel' });
  mend();
  t.same(kernel.snapshot(), before);
  t.match(
    store.get(`dhcp/${network.id}/${endpoint(1).id}`),
    { restsSince: Number },
    'its lease is on its way back',
  );
  await t.rejects(cnm.createEndpoint(endpoint(2, { options: { 'dhcp.hostname': 'a_b' } })), {
    code: 'option-invalid',
  });
  t.same(cnm.endpoints(network.id), []);
  t.equal((await cnm.createEndpoint(endpoint(3))).address, ADDRESS, 'who comes next may have it');
});

t.test('another address, in a sandbox that is in use', async (t) => {
  const { cnm, kernel } = bench(t);
  await cnm.createNetwork({ ...network, origin: 'cnm' });
  const sandbox = await cnm.createSandbox('web');
  await cnm.joinSandbox('web', endpoint(1, { name: 'web' }));
  const inside = async () => {
    const { netns } = await kernel.facts({ netns: [sandbox.path] });
    const { addresses = [], routes = [] } = netns.get(sandbox.path) ?? {};
    return {
      addresses: addresses.map((one) => one.prefix).filter((one) => one.startsWith('10.')),
      routes: routes.filter(({ ours }) => ours).map(({ to, via }) => `${to} ${via ?? ''}`),
    };
  };
  t.same(await inside(), { addresses: [ADDRESS], routes: [] });
  const leased = {
    address: prefix('10.1.0.9/24'),
    gateway: ip('10.1.0.1'),
    routes: [{ destination: prefix('10.5.0.0/16'), nextHop: ip('10.1.0.2') }],
    dns: [],
  };
  await cnm.readdress(network.id, endpoint(1).id, leased);
  t.same(await inside(), { addresses: [leased.address], routes: ['10.5.0.0/16 10.1.0.2'] });
  t.same((await cnm.drift()).differences, [], 'and that is what the records say');
  t.match(cnm.endpoint(network.id, endpoint(1).id), { address: leased.address });
  await cnm.readdress(network.id, endpoint(2).id, leased);
  await cnm.leaveSandbox('web', network.id);
  t.same((await cnm.drift()).orphans, []);
});

t.test('many at once have one each', async (t) => {
  const { cnm, server } = bench(t);
  await cnm.createNetwork(network);
  const all = await Promise.all([1, 2, 3, 4, 5].map((n) => cnm.createEndpoint(endpoint(n))));
  t.equal(new Set(all.map(({ address }) => address)).size, 5);
  for (const end = Date.now() + 15_000; server.open > 0 && Date.now() < end;) await sleep(5);
  t.equal(server.open, 0, 'and nobody listens after');
});
