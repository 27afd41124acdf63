/*
 * Docker's plugin protocol: what dockerd 20.10 says and hears, and what it never says.
 *
 *   h1: dockerd ──┬── cnm-bridge.sock ─────────────────────────┬── cnmd
 *                 ├── recorded.sock (keeps every exchange) ────┤
 *                 ├── echoing.sock (gives back what was sent) ─┤
 *                 └── global.sock (says its scope is global) ──┘
 *   the test ── cnm-bridge.sock, cnm-ipam.sock, as Docker calls them
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { vethNamesOf } from '../../cnm/short-name.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import type { Reply } from '../lab/unix-http.ts';
import { record } from './recorder.ts';
import type { Json } from './recorder.ts';

const PORT_MAP = 'com.docker.network.portmap';
const SANDBOX_KEY = '/run/docker/netns/0123456789ab';

/** 64 digits; a bridge is named after the first 12. */
const idOf = (number: number): string => number.toString(16).padStart(12, '0').padEnd(64, 'f');

/** A CreateNetwork as dockerd writes it. The number, 0 to 255, gives id and subnet. */
const networkOf = (number: number, more: Json = {}): Json => ({
  NetworkID: idOf(number),
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: `10.30.${number}.0/24`, Gateway: `10.30.${number}.1/24` }],
  IPv6Data: [],
  ...more,
});

const keyOf = (network: number, endpoint: number): Json => ({
  NetworkID: idOf(network),
  EndpointID: idOf(0x1000 + endpoint),
});

const endpointOf = (network: number, endpoint: number, address: string): Json => ({
  ...keyOf(network, endpoint),
  Interface: { Address: address, AddressIPv6: '', MacAddress: '' },
  Options: { 'com.docker.network.endpoint.exposedports': [], [PORT_MAP]: [] },
});

/** Every call that changes something: what is wrong with it must change nothing. */
const CHANGES = [
  ...['CreateNetwork', 'DeleteNetwork', 'CreateEndpoint', 'DeleteEndpoint', 'Join', 'Leave'],
  ...['ProgramExternalConnectivity', 'RevokeExternalConnectivity'],
].map((method) => ['cnm-bridge', `NetworkDriver.${method}`] as const);
const IPAM_CHANGES = ['RequestPool', 'ReleasePool', 'RequestAddress', 'ReleaseAddress'].map(
  (method) => ['cnm-ipam', `IpamDriver.${method}`] as const,
);

const word = async (h: DockerHost, container: string, field: string): Promise<string> =>
  h.docker('inspect', '--format', `{{range .NetworkSettings.Networks}}{{.${field}}}{{end}}`, container);

/** The container's only link but lo, as `ip` shows it. */
async function linkOf(h: DockerHost, container: string): Promise<Json> {
  const links = JSON.parse(await h.inContainer(container, 'ip', '-j', 'link')) as readonly Json[];
  const [link] = links.filter(({ ifname }) => ifname !== 'lo');
  if (link === undefined) throw new Error(`${container} has no link but lo`);
  return link;
}

function assertRefused(t: Test, reply: Reply, what: string, says: RegExp = /\w/): void {
  t.ok(reply.status >= 400 && reply.status < 500 && reply.status !== 404, `${what}: ${reply.status}`);
  const { Err = '' } = reply.body as { readonly Err?: unknown };
  t.match(String(Err), says, `${what}: ${reply.text.slice(0, 200)}`);
}

t.test('the plugin protocol with Docker 20.10', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const recorded = await record(t, h, 'recorded');
  const call = (method: string, body?: unknown): Promise<Reply> =>
    h.plugin('cnm-bridge', `NetworkDriver.${method}`, body);
  const done = async (t: Test, method: string, body: unknown): Promise<Json> => {
    const reply = await call(method, body);
    t.equal(reply.status, 200, `${method}: ${reply.text}`);
    return reply.body as Json;
  };

  const bridges = async (): Promise<readonly string[]> =>
    (await h.net('ip', '-br', 'link', 'show', 'type', 'bridge')).match(/^cnm\w+/gm) ?? [];

  t.test('P01: the handshake', async (t) => {
    const families = { 'cnm-bridge': 'NetworkDriver', 'cnm-ipam': 'IpamDriver' };
    for (const [socket, family] of Object.entries(families)) {
      const reply = await h.plugin(socket, 'Plugin.Activate');
      t.equal(reply.status, 200);
      t.same(reply.body, { Implements: [family] });
    }
    t.match((await call('GetCapabilities')).body, { Scope: 'local' });
    await h.docker('network', 'create', '--driver', 'recorded', 'n1');
    await h.docker('network', 'rm', 'n1');
    t.same(
      recorded.exchanges.map(({ method }) => method),
      [
        'Plugin.Activate',
        ...['GetCapabilities', 'CreateNetwork', 'DeleteNetwork'].map((m) => `NetworkDriver.${m}`),
      ],
      'what dockerd calls for a network that comes and goes',
    );
    for (const { method, headers, text, status } of recorded.exchanges) {
      t.notOk('content-type' in headers, `${method}: dockerd names no type`);
      t.equal(text === '', !/Network$/.test(method), `${method}: a body only where there are arguments`);
      t.equal(status, 200, `${method}: answered all the same`);
    }
  });

  t.test('P02: an unknown call is 404', async (t) => {
    for (const socket of ['cnm-bridge', 'cnm-ipam']) {
      for (const method of ['NetworkDriver.Bogus', 'IpamDriver.Bogus', 'Bogus', 'networkdriver.join', '']) {
        t.equal((await h.plugin(socket, method, {})).status, 404, `${socket}: ${method}`);
      }
    }
    t.equal((await h.plugin('cnm-ipam', 'NetworkDriver.Join', {})).status, 404, 'not of this driver');
  });

  t.test('P03: malformed requests are refused and change nothing', async (t) => {
    const before = await snapshot(h);
    const ten = 10 * 2 ** 20;
    const everywhere: readonly (readonly [what: string, body: string | Buffer])[] = [
      ['truncated', '{"NetworkID":"ffff'],
      ['empty, as in Docker’s own retry', ''],
      ['a list', '[]'],
      ['null', 'null'],
      ['a number', '7'],
      ['no fields', '{}'],
      ['10 MB', `{"NetworkID":"${'f'.repeat(ten)}"}`],
      ['10 MB of nothing', Buffer.alloc(ten)],
      ['deep', '[{"a":'.repeat(100_000)],
      ['no UTF-8', Buffer.from([0x7b, 0xff, 0xfe, 0x7d])],
    ];
    for (const [socket, method] of [...CHANGES, ...IPAM_CHANGES]) {
      for (const [what, body] of everywhere) {
        assertRefused(t, await h.plugin(socket, method, body), `${method}: ${what}`);
      }
    }
    const rows: readonly (readonly [body: Json, says: RegExp])[] = [
      [networkOf(3, { Options: 7 }), /^Options: 7 /],
      [networkOf(3, { Options: { 'com.docker.network.generic': [] } }), /generic.*a list/],
      [networkOf(3, { Options: { 'com.docker.network.internal': 'true' } }), /internal.*"true"/],
      [networkOf(3, { NetworkID: 'z'.repeat(64) }), /^NetworkID: "zzz/],
      [networkOf(3, { NetworkID: 'ff' }), /^NetworkID: "ff"/],
      [networkOf(3, { NetworkID: '../../etc/passwd' }), /^NetworkID: "\.\.\//],
      [networkOf(3, { NetworkID: 3 }), /^NetworkID: 3 /],
      [networkOf(3, { IPv4Data: 'none' }), /^IPv4Data: "none"/],
      [networkOf(3, { IPv4Data: [{ Pool: '10.30.3.0' }] }), /Pool: "10\.30\.3\.0"/],
      [networkOf(3, { IPv4Data: [{ Pool: 'fd00::/64' }] }), /Pool: "fd00::\/64"/],
    ];
    for (const [body, says] of rows) assertRefused(t, await call('CreateNetwork', body), String(says), says);
    await assertRestored(t, h, before);
    await done(t, 'CreateNetwork', networkOf(3));
    await done(t, 'DeleteNetwork', { NetworkID: idOf(3) });
    await assertRestored(t, h, before);
  });

  t.test('P04, P10: a network that is refused shows our sentence and leaves nothing', async (t) => {
    const before = await snapshot(h);
    const options: readonly (readonly [option: string, says: RegExp])[] = [
      ['opt1=drv1', /cnm-bridge does not know the option "opt1"; it knows com\.docker/],
      ['com.docker.network.driver.mtu=67', /mtu.* cannot be "67": it must be an MTU/],
      ['com.docker.network.bridge.name=lo', /Interface lo exists and is not a bridge/],
    ];
    for (const [option, says] of options) {
      // The same every time: nothing of the first attempt is remembered.
      for (const attempt of [1, 2]) {
        const { code, stderr } = await h.tryDocker(
          'network',
          'create',
          '-d',
          'recorded',
          '-o',
          option,
          'bad',
        );
        t.equal(code, 1, `${option}, attempt ${attempt}`);
        t.match(stderr, /^Error response from daemon: NetworkDriver\.CreateNetwork: /);
        t.match(stderr, says);
      }
    }
    // An ID may have these letters.
    t.notMatch(await h.docker('network', 'ls'), / bad /);
    await assertRestored(t, h, before);
    const sent = recorded.of('NetworkDriver.CreateNetwork').map(({ request }) => request['Options'] as Json);
    t.same(
      sent.slice(-6, -4).map((found) => found['com.docker.network.generic']),
      [{ opt1: 'drv1' }, { opt1: 'drv1' }],
      'what -o gave',
    );
  });

  t.test('P06: optional texts may be empty or null', async (t) => {
    const before = await snapshot(h);
    const pool = { AddressSpace: '', Pool: '10.30.6.0/24', Gateway: '', AuxAddresses: null };
    const network = { NetworkID: idOf(6), Options: null, IPv4Data: [pool], IPv6Data: null };
    t.same(await done(t, 'CreateNetwork', network), {});
    const endpoint = { ...endpointOf(6, 1, '10.30.6.2/24'), Options: null };
    t.match(await done(t, 'CreateEndpoint', endpoint), { Interface: { MacAddress: /^02:/ } });
    const joined = await done(t, 'Join', { ...keyOf(6, 1), SandboxKey: SANDBOX_KEY, Options: null });
    t.notOk('Gateway' in joined, 'there is none to give');
    t.same(await done(t, 'ProgramExternalConnectivity', { ...keyOf(6, 1), Options: null }), {});
    for (const method of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint']) {
      t.same(await done(t, method, keyOf(6, 1)), {}, method);
    }
    t.same(await done(t, 'DeleteNetwork', { NetworkID: idOf(6) }), {});
    await assertRestored(t, h, before);
  });

  t.test('P07: an answer that gives back what Docker sent is rolled back', async (t) => {
    await record(t, h, 'echoing', (method, request) =>
      method === 'NetworkDriver.CreateEndpoint' ? { Interface: request['Interface'] } : undefined,
    );
    await h.docker('network', 'create', '-d', 'echoing', 'n7');
    const before = await snapshot(h);
    const { code, stderr } = await h.tryDocker('run', '--name', 'c7', '--network', 'n7', 'cnm-lab', 'true');
    t.not(code, 0);
    t.match(stderr, /rolled back/);
    await h.docker('rm', 'c7');
    await assertRestored(t, h, before);
    await h.docker('network', 'rm', 'n7');
  });

  t.test('P08: the MAC that we chose is the one in the container', async (t) => {
    await h.docker('network', 'create', '-d', 'recorded', 'n8');
    await h.container('c8', 'n8');
    const created = recorded.of('NetworkDriver.CreateEndpoint').at(-1);
    const { MacAddress } = (created?.reply['Interface'] ?? {}) as { readonly MacAddress?: string };
    t.match(created?.request['Interface'], { Address: /^\d/, MacAddress: '' }, 'none was asked for');
    t.same(Object.keys(created?.reply['Interface'] ?? {}), ['MacAddress'], 'P07: nothing else');
    t.equal(await word(h, 'c8', 'MacAddress'), MacAddress);
    t.equal((await linkOf(h, 'c8'))['address'], MacAddress);
    const [first = NaN] = (MacAddress ?? '').split(':').map((byte) => parseInt(byte, 16));
    t.equal(first & 0b11, 0b10, 'locally administered, unicast');
    await h.docker('rm', '--force', 'c8');
    await h.docker('network', 'rm', 'n8');
  });

  t.test('P09: a MAC of the user’s is kept', async (t) => {
    const mac = '02:42:ac:11:00:42';
    await h.docker('network', 'create', '-d', 'recorded', 'n9');
    // By HTTP: the command refuses --mac-address for a network with an Engine of this version.
    const HostConfig = { NetworkMode: 'n9', RestartPolicy: { Name: 'always' } };
    const body = { Image: 'cnm-lab', MacAddress: mac, HostConfig };
    t.equal((await h.api('POST', '/containers/create?name=c9', body)).status, 201);
    await h.docker('start', 'c9');
    t.equal((await linkOf(h, 'c9'))['address'], mac, 'at the first start');
    await h.docker('restart', 'c9');
    t.equal((await linkOf(h, 'c9'))['address'], mac, 'at the next');
    const created = recorded.of('NetworkDriver.CreateEndpoint').slice(-2);
    t.same(
      created.map(({ request, reply }) => [(request['Interface'] as Json)['MacAddress'], reply['Interface']]),
      [
        [mac, {}],
        [mac, {}],
      ],
      'the answers carry none',
    );
    await h.stopDocker();
    await h.startDocker();
    await until('the container to be started again', 20_000, async () =>
      (await h.docker('inspect', '-f', '{{.State.Running}}', 'c9')) === 'true' ? true : undefined,
    );
    t.equal((await linkOf(h, 'c9'))['address'], mac, 'after a restart of the Engine');
    await h.docker('rm', '--force', 'c9');
    await h.docker('network', 'rm', 'n9');
  });

  t.test('P13: operational information of an endpoint', async (t) => {
    await done(t, 'CreateNetwork', networkOf(13));
    await done(t, 'CreateEndpoint', endpointOf(13, 1, '10.30.13.2/24'));
    const { Value } = await done(t, 'EndpointOperInfo', keyOf(13, 1));
    t.match(Value, { Driver: 'cnm-bridge', State: 'ready', MacAddress: '02:42:0a:1e:0d:02' });
    t.same(await done(t, 'EndpointOperInfo', keyOf(13, 2)), {}, 'of none: an empty object');
    t.same(await done(t, 'EndpointOperInfo', keyOf(14, 1)), {}, 'of no network: the same');
    await done(t, 'DeleteEndpoint', keyOf(13, 1));
    await done(t, 'DeleteNetwork', { NetworkID: idOf(13) });
  });

  t.test('P14: the list of published ports', async (t) => {
    await h.docker('network', 'create', '-d', 'recorded', 'n14');
    await h.container('c14', 'n14');
    const empty = recorded.of('NetworkDriver.ProgramExternalConnectivity').at(-1);
    t.match(empty, { status: 200, request: { Options: { [PORT_MAP]: [] } } });
    const ports = ['-p', '8080:80', '-p', '5353:53/udp', '-p', '9000-9002:132/sctp'];
    const quiet = await h.run(['nft', 'list', 'table', 'inet', 'cnm']);
    await h.container('c15', 'n14', ...ports);
    const published = await h.run(['nft', 'list', 'table', 'inet', 'cnm']);
    for (const key of ['tcp . 8080', 'udp . 5353', 'sctp . 9000']) t.match(published, `${key} : `);
    const sent = recorded.of('NetworkDriver.ProgramExternalConnectivity').at(-1)?.request['Options'] as
      Json | undefined;
    const list = sent?.[PORT_MAP] as readonly Json[];
    t.same(
      list
        .map(({ Proto, Port, HostIP, HostPort, HostPortEnd }) => [Proto, Port, HostIP, HostPort, HostPortEnd])
        .sort(),
      [
        [132, 132, '', 9000, 9002],
        [17, 53, '', 5353, 5353],
        [6, 80, '', 8080, 8080],
      ],
      'numbers, not names',
    );
    await h.docker('rm', '--force', 'c15');
    t.equal(await h.run(['nft', 'list', 'table', 'inet', 'cnm']), quiet, 'nothing of them is left');
    await h.docker('rm', '--force', 'c14');
    await h.docker('network', 'rm', 'n14');

    await done(t, 'CreateNetwork', networkOf(14));
    await done(t, 'CreateEndpoint', endpointOf(14, 1, '10.30.14.2/24'));
    const before = await snapshot(h);
    for (const Options of [{ [PORT_MAP]: [] }, { [PORT_MAP]: null }, {}, null]) {
      await done(t, 'ProgramExternalConnectivity', { ...keyOf(14, 1), Options });
    }
    await assertRestored(t, h, before);
    await done(t, 'DeleteNetwork', { NetworkID: idOf(14) });
  });

  // Not through dockerd: its own rule for DOCKER-USER is doubled when it makes networks at once (EnsureJumpRule).
  t.test('P16: 20 networks at once, then 50 endpoints on one', async (t) => {
    const before = await snapshot(h);
    const numbers = Array.from({ length: 20 }, (_, index) => index);
    const created = await Promise.all(numbers.map((number) => call('CreateNetwork', networkOf(number))));
    t.same(
      created.map(({ status }) => status),
      numbers.map(() => 200),
    );
    t.equal((await bridges()).length, 20);
    await fifty(t, h, idOf(7), '10.30.7.0/24');
    const removed = await Promise.all(
      numbers.map((number) => call('DeleteNetwork', { NetworkID: idOf(number) })),
    );
    t.same(
      removed.map(({ status }) => status),
      numbers.map(() => 200),
    );
    await assertRestored(t, h, before);
  });

  t.test('P18: a plugin that is stopped for 5 s during a create', async (t) => {
    const before = await snapshot(h);
    const calls = () => h.cnmd.log.match(/NetworkDriver\.CreateNetwork/g)?.length ?? 0;
    const earlier = calls();
    await h.cnmd.kill('SIGSTOP');
    const began = performance.now();
    const creating = h.docker('network', 'create', '-d', 'cnm-bridge', 'n18');
    await sleep(5_000);
    t.equal((await bridges()).length, 0, 'it does stand still');
    await h.cnmd.kill('SIGCONT');
    await creating;
    const took = performance.now() - began;
    t.ok(took >= 5_000 && took < 60_000, `${took} ms`);
    t.equal(calls() - earlier, 1, 'one call');
    t.equal((await bridges()).length, 1, 'one bridge');
    await h.docker('network', 'rm', 'n18');
    await assertRestored(t, h, before);
  });

  t.test('P20: nodes that Docker discovers', async (t) => {
    const before = await snapshot(h);
    const node = { Address: '198.51.100.7', BindAddress: '0.0.0.0', Self: false };
    for (const method of ['DiscoverNew', 'DiscoverDelete']) {
      t.same(await done(t, method, { DiscoveryType: 1, DiscoveryData: node }), {}, method);
    }
    await assertRestored(t, h, before);
  });

  t.test('P21: a network of global scope outside of a swarm', async (t) => {
    const global = await record(t, h, 'global', (method, _, reply) =>
      method === 'NetworkDriver.GetCapabilities' ? { ...reply, Scope: 'global' } : undefined,
    );
    const before = await snapshot(h);
    const { code, stderr } = await h.tryDocker('network', 'create', '-d', 'global', 'n21');
    t.equal(code, 1);
    t.match(stderr, /This node is not a swarm manager/);
    t.same(
      global.exchanges.slice(2).map(({ method, status }) => [method, status]),
      [
        ['NetworkDriver.CreateNetwork', 200],
        ['NetworkDriver.DeleteNetwork', 200],
      ],
      'Docker creates it and takes it back',
    );
    await assertRestored(t, h, before);
    const swarm = await h.tryDocker('network', 'create', '-d', 'cnm-bridge', '--scope', 'swarm', 'n21');
    t.match(swarm, { code: 1, stderr: /swarm is not active/ });
    await assertRestored(t, h, before);
  });

  t.test('P24: names of interfaces', async (t) => {
    const option = 'com.docker.network.container_iface_prefix=foo';
    await h.docker('network', 'create', '-d', 'cnm-bridge', '-o', option, 'n24');
    await h.container('c24', 'n24');
    t.equal((await linkOf(h, 'c24'))['ifname'], 'foo0');
    await h.docker('rm', '--force', 'c24');
    await h.docker('network', 'rm', 'n24');

    const names = new Set<string>();
    for (let number = 0; number < 10_000; number += 1) {
      const pair = vethNamesOf(`01234567${number.toString(16).padStart(56, '0')}`);
      for (const name of [pair.host, pair.container]) {
        names.add(name);
        if (Buffer.byteLength(name) > 15) t.fail(`${name} is longer than the kernel takes`);
      }
    }
    t.equal(names.size, 20_000, 'all differ, though the ids begin alike');
  });

  t.test('P06: every success that Docker saw was a JSON object', (t) => {
    const answers = recorded.exchanges.filter(({ status }) => status === 200);
    t.ok(answers.length > 30, `${answers.length} exchanges`);
    const objects = answers.filter(
      ({ reply }) => Object.prototype.toString.call(reply) === '[object Object]',
    );
    t.equal(objects.length, answers.length);
    const others = recorded.exchanges.filter(({ status }) => status !== 200);
    t.ok(
      others.every(({ reply }) => typeof reply['Err'] === 'string'),
      'and every failure has its sentence under Err',
    );
    t.end();
  });
});

t.test('P19 Docker 28.5 asks about gateways before it makes a network', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ engine: '28.5', plugin: 'sockets' });
  const recorded = await record(t, h, 'recorded');
  const create = (name: string, ...options: string[]) =>
    h.docker('network', 'create', '-d', 'recorded', '--internal', ...options, name);
  await create('n19', '--subnet', '10.60.0.0/24');
  t.same(
    recorded.exchanges.slice(1).map(({ method, status }) => [method.replace('NetworkDriver.', ''), status]),
    [
      ['GetCapabilities', 200],
      ['GwAllocCheck', 200],
      ['CreateNetwork', 200],
    ],
  );
  t.same(recorded.exchanges[2]?.reply, { SkipIPv4: false, SkipIPv6: false });
  await h.container('c1', 'n19');
  t.ok(await h.containerPings('c1', '10.60.0.1'), 'the host keeps the address that it was given');

  const option = (name: string) => ['-o', `com.docker.network.bridge.${name}`];
  await create('inhibited', ...option('inhibit_ipv4=true'), '--subnet', '10.61.0.0/31');
  const isolated = [...option('gateway_mode_ipv4=isolated'), ...option('gateway_mode_ipv6=isolated')];
  await create('isolated', ...isolated, '--ipv6', '--subnet', '10.62.0.0/31', '--subnet', 'fd00:62::/64');
  const asked = recorded.exchanges.filter(({ method }) => method.endsWith('GwAllocCheck'));
  t.same(
    asked.slice(1).map(({ reply }) => reply),
    [
      { SkipIPv4: true, SkipIPv6: false },
      { SkipIPv4: true, SkipIPv6: true },
    ],
  );
  const families = [
    { network: 'inhibited', field: 'IPAddress', pool: ['10.61.0.0', '10.61.0.1'] },
    { network: 'isolated', field: 'IPAddress', pool: ['10.62.0.0', '10.62.0.1'] },
    { network: 'isolated', field: 'GlobalIPv6Address', pool: ['fd00:62::1', 'fd00:62::2'] },
  ] as const;
  for (const network of ['inhibited', 'isolated'])
    await Promise.all([1, 2].map((n) => h.container(`${network}${n}`, network)));
  for (const { network, field, pool } of families) {
    const format = `{{.NetworkSettings.Networks.${network}.${field}}}`;
    const has = async (n: number) => (await h.docker('inspect', '--format', format, `${network}${n}`)).trim();
    const [one, two] = [await has(1), await has(2)];
    t.same([one, two].sort(), pool, `${network}: the first addresses are containers’`);
    t.ok(await h.containerPings(`${network}1`, two, 3), `${network}: ${one} reaches ${two}`);
  }
});

/** 50 containers that start at once on one network, and stop at once. */
async function fifty(t: Test, h: DockerHost, NetworkID: string, Pool: string): Promise<void> {
  const before = await snapshot(h);
  const call = async (socket: string, method: string, body: Json): Promise<Json> => {
    const reply = await h.plugin(socket, method, body);
    if (reply.status !== 200) throw new Error(`${method}: ${reply.text}`);
    return reply.body as Json;
  };
  const pool = { AddressSpace: 'cnm-local', Pool, SubPool: '', Options: {}, V6: false };
  const { PoolID } = await call('cnm-ipam', 'IpamDriver.RequestPool', pool);
  const numbers = Array.from({ length: 50 }, (_, index) => index);
  const started = await Promise.all(
    numbers.map(async (number) => {
      const request = { PoolID, Address: '', Options: null };
      const address = String((await call('cnm-ipam', 'IpamDriver.RequestAddress', request))['Address']);
      const key = { NetworkID, EndpointID: idOf(number) };
      const Interface = { Address: address, AddressIPv6: '', MacAddress: '' };
      await call('cnm-bridge', 'NetworkDriver.CreateEndpoint', { ...key, Interface, Options: {} });
      const join = { ...key, SandboxKey: `${SANDBOX_KEY}${number}`, Options: {} };
      const joined = await call('cnm-bridge', 'NetworkDriver.Join', join);
      return { key, address, link: (joined['InterfaceName'] as { readonly SrcName: string }).SrcName };
    }),
  );
  t.equal(new Set(started.map(({ address }) => address)).size, 50, 'addresses');
  t.equal(new Set(started.map(({ link }) => link)).size, 50, 'links');
  const shown = await h.net('ip', '-br', 'link');
  t.same(
    started.filter(({ link }) => !shown.includes(`${link}@`)),
    [],
    'each link is there, for Docker to move',
  );
  await Promise.all(
    started.map(async ({ key, address }) => {
      await call('cnm-bridge', 'NetworkDriver.Leave', key);
      await call('cnm-bridge', 'NetworkDriver.DeleteEndpoint', key);
      const Address = address.replace(/\/\d+$/, '');
      await call('cnm-ipam', 'IpamDriver.ReleaseAddress', { PoolID, Address });
    }),
  );
  await call('cnm-ipam', 'IpamDriver.ReleasePool', { PoolID });
  await assertRestored(t, h, before);
}
