import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Cnm } from './cnm.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { EndpointSpec, NetworkSpec } from './model.ts';
import { networkSpec, subnet } from '../tests/specs.ts';

function network(n: number, changes: Partial<NetworkSpec> = {}): NetworkSpec {
  const id = n.toString(16).padStart(2, '0').repeat(32);
  return networkSpec('cnm-bridge', { id, ipv4: [subnet(`10.${n}.0.0/24`, `10.${n}.0.1/24`)], ...changes });
}

function endpoint(n: number, host: number): EndpointSpec {
  const id = `${n.toString(16).padStart(2, '0')}${host.toString(16).padStart(2, '0')}`.repeat(16);
  return { id, network: network(n).id, address: prefix(`10.${n}.0.${host}/24`), options: {}, ports: [] };
}

function setup({ patience = 0 } = {}): { kernel: FakeKernel; cnm: Cnm } {
  const kernel = fakeKernel();
  const parts = { kernel, store: memoryStore(), drivers: [bridge], log: silent };
  return { kernel, cnm: createCnm({ ...parts, runDir: '/run/cnm', patience }) };
}

t.test('the same id with other contents is a conflict that shows both', async (t) => {
  const { cnm } = setup();
  await cnm.createNetwork(network(1));
  await t.rejects(cnm.createNetwork(network(1, { internal: true })), {
    code: 'network-conflict',
    message: /internal false; asked for true/,
  });
  await cnm.createEndpoint(endpoint(1, 2));
  await t.rejects(cnm.createEndpoint({ ...endpoint(1, 2), address: prefix('10.1.0.9/24') }), {
    code: 'endpoint-conflict',
  });
});

t.test('twenty networks at once, and two that want the same subnet: one of them wins', async (t) => {
  const { cnm } = setup();
  await Promise.all(Array.from({ length: 20 }, (_, n) => cnm.createNetwork(network(n + 1))));
  t.equal(cnm.networks().length, 20);
  const twins = [network(60), { ...network(61), ipv4: network(60).ipv4 }];
  const results = await Promise.allSettled(twins.map((twin) => cnm.createNetwork(twin)));
  t.same(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
});

t.test('unknown things: deletes succeed, the rest says what is unknown', async (t) => {
  const { cnm } = setup();
  await cnm.deleteNetwork(network(1).id);
  await cnm.deleteEndpoint(network(1).id, 'e');
  await cnm.leave(network(1).id, 'e');
  await cnm.revokeExternalConnectivity(network(1).id, 'e');
  await t.rejects(cnm.createEndpoint(endpoint(1, 2)), { code: 'network-unknown' });
  await t.rejects(cnm.createNetwork(network(1, { driver: 'x' })), {
    code: 'driver-unknown',
    message: /"x".*cnm-bridge/,
  });
  await cnm.createNetwork(network(1));
  await t.rejects(cnm.join(network(1).id, 'e', '/x'), { code: 'endpoint-unknown' });
});

t.test('ports: none is fine, a taken one is refused, and nothing is changed by it', async (t) => {
  const { cnm, kernel } = setup();
  await cnm.createNetwork(network(1));
  await cnm.createEndpoint(endpoint(1, 2));
  await cnm.createEndpoint(endpoint(1, 3));
  const { srcName } = await cnm.join(network(1).id, endpoint(1, 2).id, '/var/run/docker/netns/x');
  kernel.moveAway(srcName, '/var/run/docker/netns/x', 'eth0');
  const none = kernel.snapshot();
  await cnm.programExternalConnectivity(network(1).id, endpoint(1, 2).id, []);
  t.same(kernel.snapshot(), none);
  // On an address that leaves the bridge's own setting for 127.0.0.1 alone, which stays as long as the bridge.
  const port = { proto: 6, port: 80, hostIp: ip('192.0.2.1'), hostPort: 8080, hostPortEnd: 8080 };
  await cnm.programExternalConnectivity(network(1).id, endpoint(1, 2).id, [port]);
  const one = kernel.snapshot();
  t.match(one, { heldPorts: ['tcp 192.0.2.1 8080'] });
  await t.rejects(cnm.programExternalConnectivity(network(1).id, endpoint(1, 3).id, [port]), {
    code: 'port-taken',
    message: /8080\/tcp.*endpoint/,
  });
  t.same(kernel.snapshot(), one);
  await cnm.revokeExternalConnectivity(network(1).id, endpoint(1, 2).id);
  t.same(kernel.snapshot(), none);
});

t.test('other ports than before replace them; when they cannot be had, the old ones stay', async (t) => {
  const { cnm, kernel } = setup();
  await cnm.createNetwork(network(1));
  await cnm.createEndpoint(endpoint(1, 2));
  await cnm.createEndpoint(endpoint(1, 3));
  for (const n of [2, 3]) {
    const { srcName } = await cnm.join(network(1).id, endpoint(1, n).id, `/var/run/docker/netns/${n}`);
    kernel.moveAway(srcName, `/var/run/docker/netns/${n}`, 'eth0');
  }
  const publish = (host: number, ...ports: number[]) =>
    cnm.programExternalConnectivity(
      network(1).id,
      endpoint(1, host).id,
      ports.map((port) => ({ proto: 6, port: 80, hostPort: port, hostPortEnd: port })),
    );
  await publish(3, 9000);
  await publish(2, 0);
  await publish(2, 8080, 8081);
  const before = [kernel.snapshot(), cnm.endpoints()];
  t.match(before, [{ heldPorts: ['tcp 0.0.0.0 8080', 'tcp 0.0.0.0 8081', 'tcp 0.0.0.0 9000'] }]);
  await t.rejects(publish(2, 8081, 9000), { code: 'port-taken', message: /9000\/tcp.*endpoint/ });
  t.same([kernel.snapshot(), cnm.endpoints()], before, 'another endpoint has it');
  kernel.occupyPort({ proto: 'tcp', address: ip('0.0.0.0'), port: 7000 }, 'nginx');
  await t.rejects(publish(2, 7000), { code: 'port-taken', message: /7000\/tcp.*nginx/ });
  await publish(2, 8080, 8081);
  t.same(cnm.endpoints(), before[1], 'a process of the host has it');
  const icmp = { proto: 1, port: 80, hostPort: 80, hostPortEnd: 80 };
  const touched = kernel.failAt(() => true, 'EPERM');
  await t.rejects(cnm.programExternalConnectivity(network(1).id, endpoint(1, 2).id, [icmp]), {
    code: 'option-invalid',
  });
  touched();
  t.same(cnm.endpoints(), before[1], 'what cannot be is refused before anything is taken away');
  await publish(2);
  t.match(kernel.snapshot(), { heldPorts: ['tcp 0.0.0.0 9000', 'tcp 0.0.0.0 7000'].slice(0, 1) });
});

t.test('an address whose holder is dying is waited for', async (t) => {
  const { cnm, kernel } = setup({ patience: 60_000 });
  await cnm.createNetwork(network(1));
  const old = endpoint(1, 2);
  await cnm.createEndpoint(old);
  const { srcName } = await cnm.join(network(1).id, old.id, '/var/run/docker/netns/x');
  kernel.moveAway(srcName, '/var/run/docker/netns/x', 'eth0');
  await t.rejects(
    cnm.createEndpoint({ ...old, id: 'ff'.repeat(32) }),
    { code: 'endpoint-conflict', message: /10\.1\.0\.2/ },
    'one that lives is not',
  );
  const free = kernel.giveUpNetns('/var/run/docker/netns/x');
  const coming = cnm.createEndpoint({ ...old, id: 'ff'.repeat(32) });
  setTimeout(free, 100);
  await t.resolves(coming);
  t.same(
    cnm.endpoints().map(({ id }) => id),
    ['ff'.repeat(32)],
  );
});

t.test('an address is held once: a lost endpoint of Docker gives way, a living one does not', async (t) => {
  const { cnm, kernel } = setup();
  await cnm.createNetwork(network(1));
  const old = endpoint(1, 2);
  const next = { ...old, id: 'ff'.repeat(32) };
  await cnm.createEndpoint(old);
  const { srcName } = await cnm.join(network(1).id, old.id, '/var/run/docker/netns/x');
  kernel.moveAway(srcName, '/var/run/docker/netns/x', 'eth0');
  await t.rejects(cnm.createEndpoint(next), { code: 'endpoint-conflict', message: /10\.1\.0\.2/ });
  kernel.destroyNetns('/var/run/docker/netns/x');
  await cnm.createEndpoint(next);
  t.same(
    cnm.endpoints().map(({ id }) => id),
    [next.id],
  );
});

t.test('two endpoints that want one address at the same moment: one of them gets it', async (t) => {
  const { cnm } = setup();
  await cnm.createNetwork(network(1));
  const twins = [endpoint(1, 2), { ...endpoint(1, 2), id: 'ff'.repeat(32) }];
  const results = await Promise.allSettled(twins.map((twin) => cnm.createEndpoint(twin)));
  t.same(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
  t.equal(cnm.endpoints().length, 1);
  // The network goes while endpoints are coming: they come whole or not at all.
  const coming = Array.from({ length: 30 }, (_, n) =>
    cnm.createEndpoint(endpoint(1, n + 10)).catch(() => undefined),
  );
  await cnm.deleteNetwork(network(1).id);
  await Promise.all(coming);
  t.same(cnm.endpoints(), []);
  t.same(cnm.networks(), []);
  t.same((await cnm.drift()).orphans, []);
});

t.test('sandboxes: two networks, the default route passes on, names are reused', async (t) => {
  const { cnm, kernel } = setup();
  const before = kernel.snapshot();
  await cnm.createNetwork(network(1, { origin: 'cnm', name: 'one' }));
  await cnm.createNetwork(network(2, { origin: 'cnm', name: 'two' }));
  const { path } = await cnm.createSandbox('web');
  await cnm.joinSandbox('web', endpoint(1, 2));
  await cnm.joinSandbox('web', endpoint(2, 2));
  const inside = async () => (await kernel.facts({ netns: [path] })).netns.get(path);
  const defaults = async () =>
    (await inside())?.routes.filter((route) => route.to === '0.0.0.0/0').map((route) => route.via);
  t.same([...((await inside())?.links.keys() ?? [])].sort(), ['eth0', 'eth1', 'lo']);
  t.same(await defaults(), ['10.1.0.1']);
  await t.rejects(cnm.deleteSandbox('web'), { code: 'sandbox-busy', message: /one, two/ });
  await t.rejects(cnm.deleteNetwork(network(1).id), { code: 'network-busy' });
  await t.rejects(cnm.joinSandbox('web', endpoint(1, 3)), { code: 'endpoint-conflict' });
  await cnm.leaveSandbox('web', network(1).id);
  t.same(await defaults(), ['10.2.0.1'], 'the next endpoint with a gateway takes the default route over');
  await cnm.joinSandbox('web', endpoint(1, 2));
  t.ok((await inside())?.links.has('eth0'), 'the free name is used again');
  t.same((await cnm.drift()).differences, []);
  for (const n of [1, 2]) await cnm.leaveSandbox('web', network(n).id);
  await cnm.deleteSandbox('web');
  for (const n of [1, 2]) await cnm.deleteNetwork(network(n).id);
  t.equal(JSON.stringify(kernel.snapshot(), withoutSysctls), JSON.stringify(before, withoutSysctls));
});

t.test('after close nothing is let in, and what was inside has ended', async (t) => {
  const { cnm } = setup();
  let created = false;
  const creating = cnm.createNetwork(network(1)).then(() => (created = true));
  await cnm.close();
  t.ok(created);
  await creating;
  await t.rejects(cnm.createNetwork(network(2)), { code: 'unavailable' });
});

function withoutSysctls(key: string, value: unknown): unknown {
  return key === 'sysctls' ? undefined : value;
}

t.test('repairLinks puts back links, and leaves the firewall to reconcile', async (t) => {
  const { cnm, kernel } = setup();
  await cnm.createNetwork(network(1));
  await cnm.createEndpoint(endpoint(1, 2));
  const whole = kernel.snapshot();
  const links = cnm
    .networks()
    .flatMap(({ plan }) => plan)
    .flatMap((step) => (step.do === 'link.add' ? [step.name] : []));
  for (const link of links) kernel.destroyLink(link);
  const { repaired, failed } = await cnm.repairLinks();
  t.same(failed, []);
  t.equal(repaired.length, 2, 'the bridge, and its port');
  t.same(kernel.snapshot(), whole);
  kernel.flushFirewall();
  t.same((await cnm.repairLinks()).repaired, []);
  await cnm.reconcile();
  t.same(kernel.snapshot(), whole);
});

t.test(
  'after a reboot forwarding is dockerd’s to switch on, for its networks; for ours it is ours',
  async (t) => {
    for (const [origin, wanted] of [
      ['docker', '0'],
      ['cnm', '1'],
    ] as const) {
      const { cnm, kernel } = setup();
      await cnm.createNetwork(network(1, { origin, name: 'n' }));
      await kernel.apply([{ do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '0', keep: true }]);
      await cnm.reconcile({ removeOrphans: true, forwarding: false });
      await cnm.repairLinks();
      const key = 'net.ipv4.ip_forward';
      const plans = [[{ do: 'sysctl.set', key, value: '1', keep: true }]] as const;
      const value = async () => (await kernel.facts({ plans })).host.sysctls.get(key);
      t.equal(await value(), wanted);
      t.equal((await cnm.drift()).differences.length, origin === 'docker' ? 1 : 0, 'the doctor sees it');
      await cnm.reconcile();
      t.equal(await value(), '1', 'and doctor --fix switches it on');
    }
  },
);
