import t from 'tap';
import { addressOf, contains, prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import { createCnm } from '../cnm/index.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { createIpam } from '../ipam/index.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';
import { reclaimLeases, Standalone } from './standalone.ts';
import type { NetworkRequest } from './views.ts';

const WANTED: NetworkRequest = {
  name: 'demo',
  driver: 'cnm-bridge',
  subnets: ['10.88.0.0/24', 'fd00:88::/64'],
  gateways: ['10.88.0.254'],
  ipRanges: ['10.88.0.128/25'],
  auxAddresses: { router: '10.88.0.129' },
  ipv4: true,
  ipv6: true,
  internal: false,
  options: {},
};

const leases = (ipam: Ipam) =>
  ipam
    .pools()
    .flatMap((pool) => pool.leases.map((lease) => String(lease.address)))
    .sort();

/** All but sysctls: forwarding stays on, as the plan has it, for others may have come to depend on it. */
async function marked(kernel: FakeKernel): Promise<unknown> {
  const { host, ourNetns, elements, accepts } = await kernel.facts();
  const kept = [...(elements ?? [])].flatMap(([set, ofSet]) => [...ofSet.keys()].map((key) => [set, key]));
  return [[...host.links.keys()], host.addresses, host.routes, ourNetns, kept, accepts];
}

t.test('a network, two sandboxes on it, and nothing left afterwards', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, ipam, kernel } = double;
  const before = await marked(kernel);
  await client.createNetwork(WANTED);
  t.strictSame(leases(ipam), ['10.88.0.129', '10.88.0.254', 'fd00:88::1']);
  await client.createSandbox('a');
  await client.createSandbox('b');
  const a = await client.join('a', { network: 'demo', options: {} });
  const [v4, v6] = a.addresses;
  t.ok(
    v4 !== undefined && contains(prefix('10.88.0.128/25'), addressOf(v4)),
    `${String(v4)} is of the range`,
  );
  t.notOk(['10.88.0.129/24', '10.88.0.254/24'].includes(String(v4)), 'and free');
  t.match(v6, /^fd00:88::.*\/64$/);
  const b = await client.join('b', {
    network: 'demo',
    ip: '10.88.0.7',
    ip6: 'fd00:88::77',
    mac: '02:42:00:00:00:77',
    options: {},
  });
  t.strictSame(b.addresses, ['10.88.0.7/24', 'fd00:88::77/64'], 'an address outside the range by request');
  t.equal(b.inside?.mac, '02:42:00:00:00:77');
  t.equal(b.inside?.name, 'eth0');

  await t.rejects(client.deleteNetwork('demo'), /has active endpoints/);
  await client.leave('b', 'demo');
  await client.leave('b', 'demo');
  t.notOk(leases(ipam).includes('10.88.0.7'), 'leaving gives the addresses back; leaving twice is success');
  await client.deleteSandbox('a');
  await client.deleteSandbox('b');
  await client.deleteNetwork('demo');
  t.strictSame(ipam.pools(), []);
  t.strictSame(await marked(kernel), before);
});

t.test('a step that fails gives every address back', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, ipam, kernel } = double;

  const heal = kernel.failAt((step, phase) => step.do === 'link.add' && phase === 'apply', 'ENOMEM');
  await t.rejects(client.createNetwork(WANTED), /ENOMEM/);
  t.strictSame(ipam.pools(), [], 'CreateNetwork failed');
  await t.rejects(client.createNetwork({ ...WANTED, gateways: ['10.88.0.129'] }), /10\.88\.0\.129/);
  t.strictSame(ipam.pools(), [], 'the gateway failed: it is the auxiliary address');
  heal();

  await client.createNetwork(WANTED);
  await client.createSandbox('a');
  const held = leases(ipam);
  await t.rejects(
    client.join('a', { network: 'demo', ip: '10.88.0.5', ip6: 'fd99::1', options: {} }),
    /fd99::1/,
  );
  t.strictSame(leases(ipam), held, 'the second address failed');
  const again = kernel.failAt((step, phase) => step.do === 'link.move' && phase === 'apply', 'EBUSY');
  await t.rejects(client.join('a', { network: 'demo', options: {} }), /EBUSY/);
  t.strictSame(leases(ipam), held, 'the join failed');
  again();
  await client.join('a', { network: 'demo', options: {} });
});

t.test('names and addresses that are taken', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client } = double;
  const twice = await Promise.allSettled([client.createNetwork(WANTED), client.createNetwork(WANTED)]);
  t.strictSame(twice.map((one) => one.status).sort(), ['fulfilled', 'rejected'], 'one name, one network');
  await t.rejects(client.createNetwork({ ...WANTED, name: 'other' }), /10\.88\.0\.0\/24/);
  await t.rejects(client.createNetwork({ ...WANTED, name: 'other', driver: 'bridge' }), /cnm-bridge/);
  await t.rejects(client.createNetwork({ ...WANTED, name: '../other' }), /cannot be the name/);
  for (const name of ['a', 'b']) await client.createSandbox(name);
  await client.join('a', { network: 'demo', ip: '10.88.0.5', options: {} });
  await t.rejects(
    client.join('a', { network: 'demo', options: {} }),
    /is on network demo .* already, with 10\.88\.0\.5/,
  );
  await t.rejects(client.join('b', { network: 'demo', ip: '10.88.0.5', options: {} }), /10\.88\.0\.5/);
  for (const ip of ['10.88.0.0', '10.88.0.255', '10.88.0.254', '10.89.0.1', 'fd00:88::5', 'x']) {
    await t.rejects(client.join('b', { network: 'demo', ip, options: {} }), new RegExp(ip), ip);
  }
  await t.rejects(client.join('b', { network: 'demo', mac: 'zz', options: {} }), /"zz" \(--mac\)/);
});

t.test('a dry run says what would be done and leaves nothing', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, ipam, kernel, cnm } = double;
  const before = kernel.snapshot();
  const { plan, subnets } = await client.planNetwork(WANTED);
  t.match(plan.map(({ command }) => command).join('\n'), /^ip addr add 10\.88\.0\.254\/24 dev /m);
  t.match(subnets[0], { pool: '10.88.0.0/24', gateway: '10.88.0.254/24', aux: { router: '10.88.0.129/24' } });
  t.strictSame(kernel.snapshot(), before);
  t.strictSame(ipam.pools(), []);
  t.strictSame(cnm.networks(), []);
});

t.test("Docker's networks are Docker's to remove and to fill", async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, cnm } = double;
  const id = 'd'.repeat(64);
  const flags = { internal: false, enableIpv4: true, enableIpv6: false, options: {}, ipv6: [] };
  const ipv4 = [{ addressSpace: 'x', pool: prefix('10.7.0.0/24'), gateway: prefix('10.7.0.1/24'), aux: {} }];
  await cnm.createNetwork({ id, driver: 'cnm-bridge', origin: 'docker', ...flags, ipv4 });
  await t.rejects(client.deleteNetwork(id), /belongs to Docker; delete it with: docker network rm/);
  await client.createSandbox('a');
  await t.rejects(client.join('a', { network: id, options: {} }), /belongs to Docker/);
  t.ok(cnm.network(id));
});

/**
 * Every store write is a place where the process may die: the next start must find no address held by nothing, and none
 * free that a record speaks for.
 */
t.test('a crash at every store write leaves no lease behind after the next start', async (t) => {
  const script = async (standalone: Standalone) => {
    const network = await standalone.createNetwork(WANTED);
    const sandbox = await standalone.createSandbox({ name: 'a' });
    await standalone.join(sandbox, network, { network: 'demo', options: {} });
    await standalone.leave(sandbox, network);
    await standalone.deleteSandbox(sandbox);
    await standalone.deleteNetwork(network);
  };
  let crashes = 0;
  for (let point = 0; ; point += 1) {
    const kernel = fakeKernel();
    const store = memoryStore();
    const { died } = await until(point, kernel, store, script);
    if (!died) break;
    crashes += 1;

    const log = silent;
    const cnm = createCnm({ kernel, store, drivers: [bridge], log, runDir: '/run/cnm' });
    const ipam = await createIpam({ store, log });
    await cnm.reconcile({ removeOrphans: true });
    await reclaimLeases({ cnm, ipam, log });
    const spoken = cnm
      .networks()
      .flatMap(({ id, ipv4, ipv6 }) => [
        ...[...ipv4, ...ipv6].flatMap((subnet) => [subnet.gateway, ...Object.values(subnet.aux)]),
        ...cnm.endpoints(id).flatMap((endpoint) => [endpoint.address, endpoint.addressV6]),
      ])
      .filter((one) => one !== undefined)
      .map((one) => String(addressOf(one)));
    t.strictSame(leases(ipam), spoken.sort(), `killed before write ${point}`);
    const pools = cnm.networks().flatMap((network) => network.pools ?? []);
    t.strictSame(
      ipam
        .pools()
        .map((pool) => pool.poolId)
        .sort(),
      [...pools].sort(),
      `pools, write ${point}`,
    );
  }
  t.ok(crashes > 15, `${crashes} places to die`);
});

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Runs the script in a process that dies before its write number `point`: nothing after it happens. */
async function until(
  point: number,
  kernel: FakeKernel,
  store: Store,
  script: (standalone: Standalone) => Promise<void>,
): Promise<{ readonly died: boolean }> {
  let writes = 0;
  const death = Promise.withResolvers<never>();
  const dying: Store = {
    get: (key) => store.get(key),
    list: (prefix) => store.list(prefix),
    notices: store.notices,
    close: () => store.close(),
    write: (changes) => {
      if (writes++ < point) return store.write(changes);
      death.reject(new Error('killed'));
      return new Promise(() => undefined);
    },
  };
  const cnm = createCnm({ kernel, store: dying, drivers: [bridge], log: silent, runDir: '/run/cnm' });
  const ipam = await createIpam({ store: dying, log: silent });
  try {
    await Promise.race([script(new Standalone({ cnm, ipam, log: silent })), death.promise]);
    return { died: false };
  } catch (error) {
    if (error instanceof CnmError || !(error instanceof Error) || error.message !== 'killed') throw error;
    return { died: true };
  }
}

t.test('publishing: replaced as a whole, refused with a sentence, gone with the endpoint', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, kernel, cnm } = double;
  await client.createNetwork(WANTED);
  await client.createSandbox('a');
  await client.join('a', { network: 'demo', ip: '10.88.0.150', options: {} });
  const bare = await marked(kernel);
  const held = async () => [...(await kernel.facts()).heldPorts].sort();
  const view = await client.publish('a', ['127.0.0.1:8000-8001:80-81', '53/udp']);
  t.match(view.ports, [
    { proto: 'udp', port: 53, ip: '10.88.0.150' },
    { proto: 'udp', port: 53, ip: /^fd00:88::/ },
    { proto: 'tcp', port: 80, hosts: [{ ip: '127.0.0.1', port: 8000 }] },
    { proto: 'tcp', port: 81, hosts: [{ ip: '127.0.0.1', port: 8001 }] },
  ]);
  const before = [kernel.snapshot(), cnm.endpoints()];
  t.strictSame((await client.publish('a', ['127.0.0.1:8000-8001:80-81', '53/udp'])).ports, view.ports);
  t.strictSame([kernel.snapshot(), cnm.endpoints()], before, 'the same again changes nothing');

  const rows: readonly [ports: readonly string[], says: RegExp][] = [
    [[], /field "ports"/],
    [['9000:80', 'x'], /-p "x" is not a port to publish/],
    [['[::1]:9000:80'], /::1/],
    [['1-65535:1-65535', '1-65535:1-65535/udp'], /at most 65535 ports/],
    [['9000:80', '9000:81'], /9000\/tcp .*another port of the same container/],
  ];
  for (const [ports, says] of rows) {
    await t.rejects(client.publish('a', ports), { message: says }, ports.join(' '));
    t.strictSame([kernel.snapshot(), cnm.endpoints()], before, ports.join(' '));
  }
  await t.rejects(client.publish('nope', ['80']), /"nope"/);

  await client.publish('a', ['9000:80']);
  t.strictSame(await held(), ['tcp 0.0.0.0 9000', 'tcp :: 9000']);
  await client.unpublish('a');
  await client.unpublish('a');
  t.strictSame(await marked(kernel), bare);
  t.strictSame(await held(), []);

  await client.createSandbox('b');
  await client.publish('a', ['9000:80']);
  const one = [await marked(kernel), leases(double.ipam)];
  await t.rejects(
    client.join('b', { network: 'demo', options: {}, ports: ['9000:80'] }),
    /9000\/tcp .*endpoint a/,
  );
  t.strictSame([await marked(kernel), leases(double.ipam)], one, 'who cannot publish does not join');
  await client.join('b', { network: 'demo', options: {}, ports: ['9001:80'] });
  t.strictSame(
    (await client.ports('demo')).map(
      ({ endpoint, ip }) => `${String(endpoint.name)} ${ip.includes(':') ? 6 : 4}`,
    ),
    ['a 4', 'a 6', 'b 4', 'b 6'],
  );
  await client.leave('b', 'demo');
  await client.deleteSandbox('a');
  t.strictSame(await held(), [], 'ports go with their endpoint');
  t.strictSame(await client.ports(undefined), []);

  await client.createNetwork({
    ...WANTED,
    name: 'quiet',
    internal: true,
    subnets: ['10.89.0.0/24', 'fd00:89::/64'],
    gateways: [],
    ipRanges: [],
    auxAddresses: {},
  });
  await client.join('b', { network: 'quiet', options: {} });
  await t.rejects(client.publish('b', ['80']), /Network quiet .* is internal/);
  await client.unpublish('b');
});

t.test('the ports of Docker’s endpoints are shown, and are Docker’s', async (t) => {
  const id = (digit: string) => digit.repeat(64);
  const engine = {
    networks: () =>
      Promise.resolve([
        {
          ...{ id: id('a'), name: 'web', driver: 'cnm-bridge' },
          endpoints: [
            { id: id('b'), container: 'c1' },
            { id: id('c'), container: 'web' },
          ],
        },
      ]),
  };
  const double = await standaloneDouble({ engine });
  t.teardown(() => double.close());
  const { client, cnm } = double;
  const pool = { addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} };
  await cnm.createNetwork({
    ...{ id: id('a'), driver: 'cnm-bridge', origin: 'docker', options: {}, internal: false },
    ...{ enableIpv4: true, enableIpv6: false, ipv4: [pool], ipv6: [] },
  });
  for (const [n, endpoint] of [id('b'), id('c')].entries()) {
    const address = prefix(`10.1.0.${n + 2}/24`);
    await cnm.createEndpoint({ id: endpoint, network: id('a'), address, options: {}, ports: [] });
    await cnm.join(id('a'), endpoint, `/var/run/docker/netns/${n}`);
    const port = { proto: 6, port: 80, hostPort: 8080 + n, hostPortEnd: 8080 + n };
    await cnm.programExternalConnectivity(id('a'), endpoint, [port]);
  }
  for (const ref of ['c1', id('b'), 'bbb']) {
    t.match(
      await client.ports(ref),
      [{ endpoint: { name: 'c1' }, hosts: [{ ip: '0.0.0.0', port: 8080 }] }],
      ref,
    );
  }
  t.equal((await client.ports('aaa')).length, 2, 'of a network');
  await t.rejects(client.ports('web'), /"web" means 2 endpoints and networks/, 'a container and a network');
  await t.rejects(client.ports('nope'), /No endpoint, container or network has the id or name "nope"/);
  await t.rejects(client.publish('c1', ['80']), /are Docker's: publish them with docker run -p/);
  await t.rejects(client.unpublish('c1'), /are Docker's/);
});

t.test('a dry run shows what each option does, and changes nothing', async (t) => {
  const double = await standaloneDouble({
    kernel: fakeKernel({ links: [{ name: 'mine', kind: 'bridge' }] }),
  });
  t.teardown(() => double.close());
  const { client, kernel, cnm, ipam } = double;
  const none = [kernel.snapshot(), cnm.networks(), ipam.pools()];
  const BRIDGE = 'com.docker.network.bridge.';
  const rows: readonly [option: string, value: string, has: RegExp, hasNot?: RegExp, internal?: boolean][] = [
    [`${BRIDGE}name`, 'mine', /ip addr add 10\.88\.0\.254\/24 dev mine/, /ip link add/],
    [`${BRIDGE}name`, 'fresh', /ip link add fresh .*type bridge/],
    ['com.docker.network.driver.mtu', '1400', /ip link add .* mtu 1400 /],
    [`${BRIDGE}enable_ip_masquerade`, 'false', /bridges \{/, /masquerade/],
    [`${BRIDGE}enable_icc`, 'false', /hairpin \{/, /same_bridge/],
    [`${BRIDGE}gateway_mode_ipv4`, 'routed', /routed4 \{.*[^]*masquerade6 \{/, /masquerade4/],
    [`${BRIDGE}gateway_mode_ipv6`, 'nat-unprotected', /unprotected6 \{/],
    [
      `${BRIDGE}gateway_mode_ipv4`,
      'isolated',
      /internal \{[^]*fd00:88::1\/64/,
      /10\.88\.0\.254\/24 dev/,
      true,
    ],
    [`${BRIDGE}inhibit_ipv4`, 'true', /fd00:88::1\/64/, /10\.88\.0\.254\/24 dev/],
    [`${BRIDGE}trusted_host_interfaces`, 'eth0:eth1', /trusted \{ eth0 \. [^]*trusted \{ eth1 \. /],
    ['com.docker.network.host_ipv4', '192.0.2.9', /snat4 \{ \S+ : 192\.0\.2\.9 \}/, /masquerade4/],
    ['com.docker.network.host_ipv6', '2001:db8::9', /snat6 \{ \S+ : 2001:db8::9 \}/, /masquerade6/],
    // What concerns endpoints alone is checked and shows in no step of the network.
    [`${BRIDGE}host_binding_ipv4`, '127.0.0.1', /type bridge/],
    ['com.docker.network.container_iface_prefix', 'net', /type bridge/],
  ];
  for (const [option, value, has, hasNot = /^$/, internal = false] of rows) {
    const options = { [option]: value };
    const { plan } = await client.planNetwork({ ...WANTED, options, internal });
    const commands = plan.map(({ command }) => command).join('\n');
    t.match(commands, has, `${option}=${value}`);
    t.notMatch(commands, hasNot, `${option}=${value}`);
  }
  await t.rejects(
    client.planNetwork({ ...WANTED, options: { [`${BRIDGE}enable_icc`]: 'maybe' } }),
    /enable_icc/,
  );
  await t.rejects(client.planNetwork({ ...WANTED, options: { nope: '1' } }), /"nope"/);
  t.strictSame([kernel.snapshot(), cnm.networks(), ipam.pools()], none);
});
