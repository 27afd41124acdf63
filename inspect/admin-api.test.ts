import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { prefix } from '../address/prefix.ts';
import type { EngineNetwork, EngineView } from '../cnm/cnm.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';
import type { NetworkRequest } from './views.ts';

const WANTED: NetworkRequest = {
  name: 'demo',
  driver: 'cnm-bridge',
  subnets: ['10.88.0.0/24'],
  gateways: [],
  ipRanges: [],
  auxAddresses: {},
  ipv4: true,
  ipv6: false,
  internal: false,
  options: {},
};

const PATHS = [
  'POST /v1/networks',
  'POST /v1/networks?dry-run',
  'POST /v1/sandboxes',
  'POST /v1/sandboxes/web/join',
  'POST /v1/sandboxes/web/leave',
  'POST /v1/endpoints/web/publish',
  'POST /v1/endpoints/web/unpublish',
  'POST /v1/ipam/release',
  'POST /v1/reconcile',
  'DELETE /v1/networks/nope',
  'DELETE /v1/sandboxes/nope',
  'GET /v1/networks',
] as const;

t.test('hostile bodies get a 4xx that names the field, and change nothing', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { raw, kernel, cnm, ipam } = double;
  const before = kernel.snapshot();
  const rows: readonly [what: string, body: string | undefined, status: number, says: RegExp][] = [
    ['no body', undefined, 400, /field \\"name\\"/],
    ['truncated', '{"name":"x"', 400, /not a JSON object/],
    ['a list', '[]', 400, /expected object/],
    ['a number', '7', 400, /not a JSON object/],
    ['wrong type', '{"name":7}', 400, /field \\"name\\"/],
    ['wrong type in a list', '{"name":"x","subnets":[7]}', 400, /field \\"subnets\.0\\"/],
    ['unknown field', '{"name":"x","subnet":"10.1.0.0/24"}', 400, /subnet/],
    ['NUL in a name', '{"name":"a\\u0000b"}', 400, /control characters/],
    ['NUL in an option', '{"name":"x","options":{"k":"a\\u0000"}}', 400, /control characters/],
    ['a raw NUL', '{"name":"a\0b"}', 400, /not a JSON object/],
    ['a shell word', '{"name":"x;touch /tmp/p"}', 400, /cannot be the name/],
    ['a path', '{"name":"../../etc"}', 400, /cannot be the name/],
    ['deep', `{"name":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 400, /field \\"name\\"/],
    ['huge', `{"name":"${'x'.repeat(10_000_000)}"}`, 413, /at most 256 KiB/],
    ['long', `{"name":"${'x'.repeat(300)}"}`, 400, /field \\"name\\"/],
  ];
  for (const [what, body, status, says] of rows) {
    const answer = await raw('POST', '/v1/networks', body);
    t.equal(answer.status, status, `${what}: ${answer.text.slice(0, 120)}`);
    t.match(answer.text, says, what);
    t.notMatch(answer.text, /\bat .*\.(ts|js):\d/, `${what}: no stack`);
  }
  t.strictSame([kernel.snapshot(), cnm.networks(), ipam.pools()], [before, [], []]);
});

t.test('unknown paths, broken escapes and queries', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const rows: readonly [method: string, path: string, status: number][] = [
    ['GET', '/', 404],
    ['GET', '/v1/nope', 404],
    ['PUT', '/v1/networks', 404],
    ['GET', '/v1/networks/%E0%A4%A', 400],
    ['GET', '/v1/networks/%00', 404],
    ['GET', '/v1/networks/..%2f..%2fetc', 404],
    ['GET', `/v1/networks/${'x'.repeat(8000)}`, 404],
    ['GET', '/v1/endpoints?network=a&network=b', 400],
    ['GET', '/v1/endpoints?network=nope', 404],
    ['GET', '/v1/sandboxes/nope', 404],
    ['GET', '/v1/ports?of=nope', 404],
    ['GET', '/v1/ports?of=a&of=b', 400],
    ['GET', '/v1/firewall?network=nope', 404],
    ['GET', '/v1/firewall/nft?network=a&network=b', 400],
    ['POST', '/v1/endpoints/nope/publish', 400],
    ['POST', '/v1/endpoints/nope/unpublish', 404],
    ['POST', '/v1/sandboxes/nope/join', 400],
  ];
  for (const [method, path, status] of rows) {
    const answer = await double.raw(method, path);
    t.equal(answer.status, status, `${method} ${path.slice(0, 60)}: ${answer.text.slice(0, 100)}`);
    t.type((JSON.parse(answer.text) as { error: { message: unknown } }).error.message, 'string');
  }
});

t.test('random requests never fail in the daemon', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  await double.client.createSandbox('web');
  const word = fc.oneof(
    fc.constantFrom(
      'demo',
      'web',
      '',
      'cnm-bridge',
      '10.1.0.0/24',
      '10.1.0.1',
      'fd00::/64',
      '::',
      '0.0.0.0/0',
      '\u0000',
    ),
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.ipV4Extended(),
  );
  const field = fc.oneof(
    word,
    fc.array(word, { maxLength: 3 }),
    fc.dictionary(word, word, { maxKeys: 2 }),
    fc.boolean(),
    fc.jsonValue({ maxDepth: 3 }),
  );
  const keys = [
    'name',
    'driver',
    'subnets',
    'gateways',
    'ipRanges',
    'auxAddresses',
    'ipv4',
    'ipv6',
    'internal',
    'options',
    'network',
    'ip',
    'ip6',
    'mac',
  ];
  const shaped = fc
    .array(fc.tuple(fc.constantFrom(...keys), field), { maxLength: 6 })
    .map((entries) => JSON.stringify(Object.fromEntries(entries)));
  const body = fc.oneof(shaped, fc.json({ maxDepth: 5 }), fc.string({ unit: 'binary' }));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...PATHS), body, async (path, text) => {
      const [method = '', url = ''] = path.split(' ');
      const answer = await double.raw(method, url, text);
      return answer.status < 500;
    }),
    { numRuns: 400 },
  );
  t.equal((await double.raw('GET', '/v1/version')).status, 200, 'alive');
  t.equal(double.log.lines.filter((line) => line.startsWith('error')).length, 0);
});

t.test('inspect shows the chain, and what is wrong in it', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, kernel } = double;
  const { id } = await client.createNetwork(WANTED);
  const { path } = await client.createSandbox('web');
  const joined = await client.join('web', { network: id.slice(0, 5), options: {} });

  const network = await client.network('demo');
  t.match(network, {
    id,
    name: 'demo',
    endpoints: 1,
    bridge: { kind: 'bridge', up: true, addresses: ['10.88.0.1/24'] },
  });
  t.ok(
    network.rules.some(({ where }) => where === 'nft inet cnm @bridges'),
    JSON.stringify(network.rules),
  );
  const sandbox = await client.sandbox('web');
  t.match(sandbox, { path, exists: true, differences: [] });
  const [member] = sandbox.members;
  t.match(member, {
    id: joined.id,
    network: { id, name: 'demo' },
    attachment: { kind: 'cnm', name: 'web', path },
    inside: { name: 'eth0', up: true, mac: joined.mac, addresses: joined.addresses },
    outside: { up: true },
    bridgeName: network.bridgeName,
    routes: [{ to: '0.0.0.0/0', via: '10.88.0.1' }],
  });
  t.match(await client.endpoint(joined.id.slice(0, 8)), { id: joined.id });

  kernel.destroyAddress('eth0', prefix(String(joined.addresses[0])), path);
  const sick = await client.endpoint('web');
  t.strictSame(sick.inside?.addresses, []);
  t.match(sick.differences, [{ object: 'endpoint', id: joined.id, name: 'web', network: { name: 'demo' } }]);
  t.match(sick.differences[0]?.missing[0]?.command, /ip addr add 10\.88\.0\.2\/24 dev eth0$/);

  kernel.destroyNetns(path);
  const gone = await client.sandbox('web');
  t.equal(gone.exists, false);
  t.match(gone.members[0]?.insideNote, /is gone/);
});

t.test('the doctor finds what was broken by hand, and --fix repairs only ours', async (t) => {
  const kernel = fakeKernel({ links: [{ name: 'eth9' }], prepared: true });
  const double = await standaloneDouble({ kernel, notices: ['the state was migrated'] });
  t.teardown(() => double.close());
  const { client, ipam } = double;
  await client.createNetwork(WANTED);
  const { path } = await client.createSandbox('web');
  const joined = await client.join('web', { network: 'demo', options: {} });
  t.match(await client.doctor(), { healthy: true, notices: ['the state was migrated'] });

  kernel.destroyLink(joined.outside?.name ?? '');
  kernel.destroyAddress(joined.bridgeName ?? '', prefix('10.88.0.1/24'));
  kernel.addNetns('/somewhere/else');
  const [pool] = ipam.pools();
  await ipam.requestAddress(pool?.poolId ?? '', { gateway: false, serial: false, name: 'ghost' });
  const found = await client.doctor();
  t.equal(found.healthy, false);
  t.strictSame(found.differences.map((one) => one.object).sort(), ['endpoint', 'network']);
  t.match(found.leaks, [{ pool: '10.88.0.0/24', name: 'ghost' }]);

  const fixed = await client.fix();
  t.match(fixed, { failed: [], after: { healthy: true } });
  t.equal(fixed.repaired.length, 2);
  t.equal(fixed.rulesetLoaded, false);
  t.equal(fixed.released.length, 1);
  t.match(
    await client.sandbox('web'),
    { members: [{ inside: { up: true, addresses: joined.addresses } }] },
    path,
  );
  t.ok((await kernel.facts()).host.links.has('eth9'), "a stranger's link");

  kernel.flushFirewall();
  t.match(await client.doctor(), { healthy: false, rulesetCurrent: false });
  t.match(await client.fix(), { rulesetLoaded: true, after: { healthy: true } });
});

t.test('a kernel that refuses is a 500 with its words and no stack', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  double.kernel.failAt((step) => step.do === 'link.up', 'EPERM');
  const answer = await double.raw('POST', '/v1/networks', '{"name":"x"}');
  t.equal(answer.status, 500);
  t.match(JSON.parse(answer.text), { error: { code: 'kernel', message: /EPERM/ } });
  t.notMatch(answer.text, /\.ts:/);
});

t.test('names come from the Engine when it answers in time, and never hold up an answer', async (t) => {
  const id = 'd'.repeat(64);
  const endpoint = 'e'.repeat(64);
  const known: EngineNetwork = {
    id,
    name: 'front',
    driver: 'cnm-bridge',
    endpoints: [{ id: endpoint, container: 'c1' }],
  };
  let answer: EngineView['networks'] = () => Promise.resolve([known]);
  const double = await standaloneDouble({ engine: { networks: () => answer() } });
  t.teardown(() => double.close());
  const { client, cnm, kernel } = double;
  const flags = { internal: false, enableIpv4: true, enableIpv6: false, options: {}, ipv6: [] };
  const ipv4 = [{ addressSpace: 'x', pool: prefix('10.7.0.0/24'), gateway: prefix('10.7.0.1/24'), aux: {} }];
  await cnm.createNetwork({ id, driver: 'cnm-bridge', origin: 'docker', ...flags, ipv4 });
  await cnm.createEndpoint({
    id: endpoint,
    network: id,
    address: prefix('10.7.0.2/24'),
    options: {},
    ports: [],
  });
  const key = '/var/run/docker/netns/abc';
  const { srcName } = await cnm.join(id, endpoint, key);

  const hidden = await client.endpoint('c1');
  t.match(hidden, { name: 'c1', network: { name: 'front' }, attachment: { kind: 'docker', name: 'c1' } });
  t.match(hidden.insideNote, /not visible to the daemon/, 'said, not failed');
  kernel.addNetns(key);
  kernel.moveAway(srcName, key, 'eth0');
  t.match(await client.network('front'), { members: [{ inside: { name: 'eth0' } }] });

  answer = () => sleep(3_000, [known]);
  const asked = Promise.all([client.network('front'), client.endpoint('c1')]);
  const found = await asked.catch((error: unknown) => [String(error)]);
  t.match(found, [{ name: 'front' }, { name: 'c1' }], 'what is asked for by name waits for a slow one');

  // It is answered, and does not wait for what never comes.
  answer = () => new Promise(() => undefined);
  const [nameless] = await client.networks();
  t.equal(nameless?.name, undefined, 'an Engine that hangs');
  t.match(await client.network(id.slice(0, 12)), { id }, 'an ID is found without it');
  answer = () => Promise.reject(new Error('no'));
  t.equal((await client.networks()).length, 1, 'an Engine that fails');
});

t.test('the command says plainly that there is no daemon', async (t) => {
  const { Client } = await import('./client.ts');
  await t.rejects(new Client('/nonexistent/cnm.sock').version(), {
    name: 'CommandError',
    message: /no socket \/nonexistent\/cnm\.sock\. Start it with: systemctl start cnmd/,
  });
});
