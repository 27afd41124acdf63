import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import type { Mac } from '../address/mac.ts';
import { CnmError } from '../cnm/errors.ts';
import type { PortBinding } from '../cnm/model.ts';
import {
  createEndpointRequest,
  createNetworkRequest,
  ENDPOINT,
  NETWORK,
  testPlugin,
} from '../tests/plugin-double.ts';
import type { Reply, TestPlugin, TestPluginOptions } from '../tests/plugin-double.ts';

const KEY = { NetworkID: NETWORK, EndpointID: ENDPOINT };
const SANDBOX = { SandboxKey: '/var/run/docker/netns/0123456789ab' };

async function plugin(t: Test, options?: TestPluginOptions): Promise<TestPlugin> {
  const made = await testPlugin(options);
  t.teardown(() => made.close());
  return made;
}

/** A plugin with one network, and one endpoint on it. */
async function withEndpoint(t: Test, options?: TestPluginOptions): Promise<TestPlugin> {
  const made = await plugin(t, options);
  t.equal((await made.post('NetworkDriver.CreateNetwork', createNetworkRequest())).text, '{}');
  t.equal((await made.post('NetworkDriver.CreateEndpoint', createEndpointRequest())).status, 200);
  return made;
}

function errOf(reply: Reply): string {
  const { body } = reply;
  return typeof body === 'object' && body !== null && 'Err' in body ? String(body.Err) : '';
}

t.test('P01 handshake: what is implemented, and what it can do', async (t) => {
  const { post, greetings, lines } = await plugin(t);
  t.same((await post('Plugin.Activate')).body, { Implements: ['NetworkDriver', 'IpamDriver'] });
  t.equal(lines.at(-1)?.message, 'Plugin.Activate: Implements NetworkDriver IpamDriver');
  t.same((await post('NetworkDriver.GetCapabilities')).body, {
    Scope: 'local',
    ConnectivityScope: 'local',
    GwAllocChecker: true,
  });
  t.same((await post('IpamDriver.GetCapabilities')).body, {
    RequiresMACAddress: false,
    RequiresRequestReplay: false,
  });
  t.same((await post('IpamDriver.GetDefaultAddressSpaces')).body, {
    LocalDefaultAddressSpace: 'cnm-local',
    GlobalDefaultAddressSpace: 'cnm-global',
  });
  t.equal(greetings(), 3, 'the daemon is told each time that dockerd introduces itself');
});

t.test('the life of a network and a container, as dockerd calls it', async (t) => {
  const { post, cnm } = await withEndpoint(t);
  const join = await post('NetworkDriver.Join', { ...KEY, ...SANDBOX, Options: null });
  t.match(join.body, {
    InterfaceName: { SrcName: /^.{1,15}$/, DstPrefix: 'eth' },
    Gateway: '10.1.0.1',
    DisableGatewayService: false,
  });
  t.equal(cnm.endpoint(NETWORK, ENDPOINT)?.attachment?.key, SANDBOX.SandboxKey);
  const calls = [
    'ProgramExternalConnectivity',
    'RevokeExternalConnectivity',
    'Leave',
    'DeleteEndpoint',
    'DeleteNetwork',
  ];
  for (const call of calls) t.equal((await post(`NetworkDriver.${call}`, KEY)).text, '{}', call);
  for (const call of calls.slice(2))
    t.equal((await post(`NetworkDriver.${call}`, KEY)).text, '{}', `${call} again`);
  t.same(cnm.networks(), []);
});

t.test('P02 a call that does not exist is 404, whatever the verb', async (t) => {
  const { post } = await plugin(t);
  for (const path of [
    'NetworkDriver.Bogus',
    '',
    'NetworkDriver.Join/',
    'networkdriver.join',
    'NetworkDriver',
  ]) {
    for (const verb of ['POST', 'GET', 'DELETE']) {
      const reply = await post(path, undefined, verb);
      t.equal(reply.status, 404, `${verb} /${path}`);
      t.match(errOf(reply), /is not a call of this plugin/);
    }
  }
  const get = await post('NetworkDriver.Join', undefined, 'GET');
  t.equal(get.status, 405);
  t.equal(errOf(get), 'NetworkDriver.Join is called with POST, not GET');
  t.equal((await post('%zz')).status, 404);
  for (const call of ['AllocateNetwork', 'FreeNetwork']) {
    const reply = await post(`NetworkDriver.${call}`, { NetworkID: NETWORK });
    t.equal(reply.status, 404);
    t.match(errOf(reply), /cnm-bridge allocates nothing for a swarm: its scope is local/);
  }
});

t.test('P03 malformed requests: 4xx with Err, nothing changed, the next one works', async (t) => {
  const { post, cnm, lines } = await plugin(t);
  const create = 'NetworkDriver.CreateNetwork';
  const whole = JSON.stringify(createNetworkRequest());
  const table: readonly (readonly [string, string, number, RegExp])[] = [
    ['truncated', whole.slice(0, -9), 400, /^The request is not JSON: /],
    ['a list', '[]', 400, /^The request: a list is not a JSON object$/],
    ['null', 'null', 400, /^The request: null is not a JSON object$/],
    ['blank', ' \n', 400, /^The request is not JSON/],
    [
      'options of a wrong type',
      JSON.stringify({ NetworkID: NETWORK, Options: 7 }),
      400,
      /^Options: 7 is not/,
    ],
    ['a short id', JSON.stringify({ NetworkID: 'abc' }), 400, /^NetworkID: "abc" is not a network id/],
    [
      '10 MB',
      JSON.stringify({ NetworkID: 'a'.repeat(10 * 2 ** 20) }),
      413,
      /larger than 8.0 MiB \(10.0 MiB were sent\)/,
    ],
    ['10^5 brackets', '['.repeat(1e5), 400, /not JSON/],
    ['10^5 lists', '['.repeat(1e5) + ']'.repeat(1e5), 400, /a list is not a JSON object/],
    ['NUL', JSON.stringify({ NetworkID: `\u0000${'a'.repeat(63)}` }), 400, /^NetworkID: "\\u0000a/],
    ['a prototype', `{"__proto__":{"NetworkID":"${NETWORK}"}}`, 400, /^NetworkID: is missing/],
    ['a huge number', '{"NetworkID":1e999}', 400, /^NetworkID: Infinity is not/],
    ['bytes', '\u0001\u0002', 400, /not JSON/],
  ];
  for (const [what, body, status, message] of table) {
    const reply = await post(create, body);
    t.equal(reply.status, status, what);
    t.match(errOf(reply), message, what);
    t.ok(errOf(reply).length < 400, `${what}: the error does not repeat a hostile body`);
  }
  t.same(cnm.networks(), [], 'nothing changed');
  t.equal((await post(create, createNetworkRequest())).text, '{}', 'the next valid call works');
  t.equal(lines.filter(({ level }) => level === 'warn').length, table.length, 'each is a warning');
  t.equal(lines.filter(({ level }) => level === 'error').length, 0, 'none is our failure');
});

t.test('P03 depth below a name that nobody reads does no harm', async (t) => {
  const { post, cnm } = await plugin(t);
  const deep = `${'{"a":'.repeat(1e5)}1${'}'.repeat(1e5)}`;
  const text = JSON.stringify(createNetworkRequest()).replace('"IPv6Data":[]', `"IPv6Data":[],"X":${deep}`);
  t.equal((await post('NetworkDriver.CreateNetwork', text)).text, '{}');
  t.equal(cnm.networks().length, 1);
});

t.test(
  "P03 an empty change is Docker's repetition of one that broke: refused, said, and reported",
  async (t) => {
    const { post, lost, cnm } = await withEndpoint(t);
    const changes = [
      'CreateNetwork',
      'CreateEndpoint',
      'Join',
      'Leave',
      'DeleteEndpoint',
      'DeleteNetwork',
    ].map((name) => `NetworkDriver.${name}`);
    changes.push('NetworkDriver.ProgramExternalConnectivity', 'NetworkDriver.RevokeExternalConnectivity');
    changes.push('IpamDriver.RequestPool', 'IpamDriver.ReleasePool');
    changes.push('IpamDriver.RequestAddress', 'IpamDriver.ReleaseAddress');
    for (const method of changes) {
      const reply = await post(method);
      t.equal(reply.status, 400, method);
      t.match(errOf(reply), /came without its arguments.*changed nothing/);
    }
    t.same(lost, changes);
    t.equal((await post('NetworkDriver.EndpointOperInfo')).status, 400);
    t.equal(lost.length, changes.length, 'a question that was lost needs no reclaiming');
    t.equal(cnm.endpoints(NETWORK).length, 1, 'nothing changed');
  },
);

t.test('P04 a refusal shows the sentence of whoever refused, with a status that fits', async (t) => {
  const refusals = [
    [new CnmError('option-invalid', 'a sentence'), 400],
    [new CnmError('network-unknown', 'a sentence'), 400],
    [new CnmError('network-conflict', 'a sentence'), 409],
    [new CnmError('kernel', 'a sentence'), 500],
    [new CnmError('unavailable', 'a sentence'), 503],
    [new Error('a sentence'), 500],
  ] as const;
  for (const [error, status] of refusals) {
    const { post } = await plugin(t, { cnm: { createNetwork: () => Promise.reject(error) } });
    const reply = await post('NetworkDriver.CreateNetwork', createNetworkRequest());
    t.equal(reply.status, status, error.name);
    t.same(reply.body, { Err: 'a sentence', Error: 'a sentence' });
  }
  t.not(refusals[1][1], 404, 'which dockerd takes for "not implemented"');
});

t.test('P07 P08 P09 CreateEndpoint answers only the fields that Docker left empty', async (t) => {
  const { post } = await plugin(t);
  await post('NetworkDriver.CreateNetwork', createNetworkRequest());
  const created = await post('NetworkDriver.CreateEndpoint', createEndpointRequest());
  t.match(created.body, { Interface: { MacAddress: /^.[26ae](:..){5}$/ } }, 'no MAC was asked for');
  t.same(
    Object.keys((created.body as { Interface: object }).Interface),
    ['MacAddress'],
    'the address is not echoed',
  );
  const other = { ...createEndpointRequest(), EndpointID: 'e2'.repeat(32) };
  const Interface = { Address: '10.1.0.3/24', AddressIPv6: '', MacAddress: '02:42:ac:11:00:42' };
  t.equal((await post('NetworkDriver.CreateEndpoint', { ...other, Interface })).text, '{"Interface":{}}');
});

t.test('P07 a Cnm that answers a MAC unasked does not reach Docker with it', async (t) => {
  const createEndpoint = () => Promise.resolve({ mac: '02:42:ac:11:00:99' as Mac });
  const { post } = await plugin(t, { cnm: { createEndpoint } });
  const Interface = { Address: '', AddressIPv6: '', MacAddress: '02:42:ac:11:00:42' };
  const reply = await post('NetworkDriver.CreateEndpoint', { ...createEndpointRequest(), Interface });
  t.equal(reply.text, '{"Interface":{}}');
});

t.test('P13 EndpointOperInfo: the chain of a live endpoint, nothing for an unknown one', async (t) => {
  const { post, cnm } = await withEndpoint(t);
  const join = await post('NetworkDriver.Join', { ...KEY, ...SANDBOX });
  const { InterfaceName } = join.body as { InterfaceName: { SrcName: string } };
  const live = await post('NetworkDriver.EndpointOperInfo', KEY);
  const { Value } = live.body as { Value: { MacAddress: string; Links: string[] } };
  t.equal(Value.MacAddress, cnm.endpoint(NETWORK, ENDPOINT)?.mac);
  t.ok(Value.Links.includes(InterfaceName.SrcName), 'among the links is the one that went into the sandbox');
  t.notOk(/com\.docker/.test(live.text), 'no name that dockerd casts to a Go type');
  const unknown = await post('NetworkDriver.EndpointOperInfo', { ...KEY, EndpointID: '00'.repeat(32) });
  t.equal(unknown.text, '{}');
});

t.test('P14 E07 ProgramExternalConnectivity: numeric bindings, empty lists, bad ones', async (t) => {
  const seen: (readonly PortBinding[])[] = [];
  const programExternalConnectivity = (
    _: string,
    __: string,
    ports: readonly PortBinding[],
  ): Promise<void> => {
    seen.push(ports);
    return Promise.resolve();
  };
  const { post } = await plugin(t, { cnm: { programExternalConnectivity } });
  const program = (ports: unknown): Promise<Reply> =>
    post('NetworkDriver.ProgramExternalConnectivity', {
      ...KEY,
      Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': ports },
    });
  for (const Proto of [6, 17, 132]) {
    t.equal(
      (await program([{ Proto, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8081 }])).text,
      '{}',
    );
    t.same(seen.pop(), [{ proto: Proto, port: 80, hostPort: 8080, hostPortEnd: 8081 }]);
  }
  for (const empty of [[], null, undefined]) {
    t.equal((await program(empty)).text, '{}');
    t.same(seen.pop(), []);
  }
  const binding = { Proto: 6, Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 };
  for (const bad of [{ HostIP: 'abcd' }, { Proto: 255 }, { Port: 70000 }]) {
    const reply = await program([{ ...binding, ...bad }]);
    t.equal(reply.status, 400);
    t.match(errOf(reply), new RegExp(`${Object.keys(bad).join('')}: .* is not`));
  }
  t.same(seen, []);
  const ports = Array.from({ length: 65_535 }, (_, n) => ({
    ...{ Proto: 6, IP: '', Port: n + 1, HostIP: '' },
    ...{ HostPort: n + 1, HostPortEnd: n + 1 },
  }));
  t.equal((await program(ports)).text, '{}', 'every port that there is');
  t.equal(seen.pop()?.length, 65_535);
});

t.test('P14 no ports published: nothing is programmed, with the real Cnm', async (t) => {
  const { post } = await withEndpoint(t);
  await post('NetworkDriver.Join', { ...KEY, ...SANDBOX });
  const Options = { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] };
  t.equal((await post('NetworkDriver.ProgramExternalConnectivity', { ...KEY, Options })).text, '{}');
});

t.test('P19 P20 GwAllocCheck and DiscoverNew/Delete', async (t) => {
  const { post } = await plugin(t);
  const Options = {
    'com.docker.network.internal': true,
    'com.docker.network.generic': { 'com.docker.network.bridge.inhibit_ipv4': 'true' },
  };
  t.same((await post('NetworkDriver.GwAllocCheck', { Options })).body, { SkipIPv4: true, SkipIPv6: false });
  const node = { DiscoveryType: 1, DiscoveryData: { Address: '192.0.2.1', BindAddress: '', Self: true } };
  t.equal((await post('NetworkDriver.DiscoverNew', node)).text, '{}');
  t.equal((await post('NetworkDriver.DiscoverDelete', node)).text, '{}');
});

t.test('IPAM as dockerd calls it, and its errors under both keys', async (t) => {
  const { post } = await plugin(t);
  const pool = await post('IpamDriver.RequestPool', {
    AddressSpace: 'cnm-local',
    Pool: '10.1.0.0/24',
    SubPool: '',
  });
  t.same(pool.body, { PoolID: 'cnm-local/10.1.0.0/24', Pool: '10.1.0.0/24', Data: {} });
  const PoolID = 'cnm-local/10.1.0.0/24';
  const Options = { RequestAddressType: 'com.docker.network.gateway' };
  t.same((await post('IpamDriver.RequestAddress', { PoolID, Address: '', Options })).body, {
    Address: '10.1.0.1/24',
    Data: {},
  });
  const taken = await post('IpamDriver.RequestAddress', { PoolID, Address: '10.1.0.1', Options: null });
  t.equal(taken.status, 409);
  t.same(taken.body, { Err: '10.1.0.1 is in use already', Error: '10.1.0.1 is in use already' });
  const unknown = await post('IpamDriver.RequestAddress', { PoolID: 'x', Address: '', Options: null });
  t.equal(unknown.status, 400);
  t.equal((await post('IpamDriver.ReleaseAddress', { PoolID, Address: '10.1.0.1' })).text, '{}');
  t.equal((await post('IpamDriver.ReleasePool', { PoolID })).text, '{}');
  t.equal((await post('IpamDriver.ReleasePool', { PoolID })).text, '{}');
});

t.test(
  'each call is one line: name, outcome, short ids, duration; failures are warnings, ours are errors',
  async (t) => {
    const { lines, post } = await withEndpoint(t);
    const ids = { network: NETWORK.slice(0, 12), endpoint: ENDPOINT.slice(0, 12), ms: Number };
    const of = (name: string): unknown =>
      lines.filter(({ message }) => message.startsWith(`NetworkDriver.${name}`));
    t.match(of('CreateNetwork'), [{ level: 'debug', message: 'NetworkDriver.CreateNetwork: done' }]);
    t.match(of('CreateEndpoint'), [
      {
        level: 'debug',
        fields: ids,
        message: /^NetworkDriver\.CreateEndpoint: MacAddress 02:[0-9a-f:]{14}$/,
      },
    ]);
    await post('NetworkDriver.Join', { ...KEY, ...SANDBOX });
    t.match(of('Join'), [
      {
        fields: { ...ids, sandbox: SANDBOX.SandboxKey },
        message: /^NetworkDriver\.Join: SrcName \S+, DstPrefix eth, Gateway 10\.1\.0\.1$/,
      },
    ]);
    await post('NetworkDriver.EndpointOperInfo', KEY);
    t.match(lines.at(-1), { fields: ids, message: 'NetworkDriver.EndpointOperInfo: answered' });
    await post('NetworkDriver.Join', { ...KEY, EndpointID: 'abc', ...SANDBOX });
    t.match(lines.at(-1), {
      level: 'warn',
      fields: { network: NETWORK.slice(0, 12), status: 400 },
      message: /^NetworkDriver\.Join: EndpointID: "abc" is not/,
    });
    const broken = await plugin(t, { cnm: { deleteNetwork: () => Promise.reject(new Error('a bug')) } });
    await broken.post('NetworkDriver.DeleteNetwork', KEY);
    t.match(broken.lines.at(-1), {
      level: 'error',
      fields: { err: Error },
      message: 'NetworkDriver.DeleteNetwork: a bug',
    });
  },
);

t.test('whatever is sent: an answer in JSON, below 500, and the plugin lives', async (t) => {
  const { post, lines } = await plugin(t);
  const methods = [
    'CreateNetwork',
    'CreateEndpoint',
    'Join',
    'ProgramExternalConnectivity',
    'EndpointOperInfo',
  ];
  const key = fc.constantFrom(
    'NetworkID',
    'EndpointID',
    'Options',
    'IPv4Data',
    'Interface',
    'SandboxKey',
    '__proto__',
  );
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom(NETWORK, ENDPOINT, null, ''));
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.dictionary(key, value).map((body) => JSON.stringify(body)),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...methods), text, async (method, body) => {
      const reply = await post(`NetworkDriver.${method}`, body);
      return reply.status < 500 && typeof reply.body === 'object';
    }),
    { numRuns: 300 },
  );
  t.equal(lines.filter(({ level }) => level === 'error').length, 0);
  t.equal((await post('NetworkDriver.CreateNetwork', createNetworkRequest())).text, '{}');
});
