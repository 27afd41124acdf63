import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { silent } from '../cnm/log.ts';
import type { EngineView } from '../cnm/cnm.ts';
import { engineClient } from './engine-client.ts';
import type { EngineOptions } from './engine-client.ts';

/** What an Engine has: `GET path` → status and body. */
type Pages = Readonly<Record<string, readonly [number, unknown]>>;

interface Engine {
  readonly view: (options?: Partial<EngineOptions>) => EngineView;
  readonly asked: string[];
}

async function engine(t: Test, pages: Pages | RequestListener): Promise<Engine> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-engine-'));
  const socket = join(folder, 'docker.sock');
  const asked: string[] = [];
  const listener: RequestListener =
    typeof pages === 'function'
      ? pages
      : (request, response) => {
          asked.push(request.url ?? '');
          const [status, body] = pages[request.url ?? ''] ?? [404, { message: 'page not found' }];
          response.writeHead(status, { 'Content-Type': 'application/json' });
          response.end(typeof body === 'string' ? body : JSON.stringify(body));
        };
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });
  return { asked, view: (options) => engineClient({ socket, log: silent, ...options }) };
}

const A = 'aa'.repeat(32);
const B = 'bb'.repeat(32);

/** As Engine 20.10 answers, shortened to what matters and one field that does not. */
const PAGES: Pages = {
  '/version': [200, { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' }],
  '/v1.41/networks': [
    200,
    [
      { Id: A, Name: 'demo', Driver: 'cnm-bridge', Containers: {} },
      { Id: B, Name: 'managed', Driver: 'cnm-bridge:latest' },
      { Id: 'cc'.repeat(32), Name: 'bridge', Driver: 'bridge' },
    ],
  ],
  [`/v1.41/networks/${A}`]: [
    200,
    {
      Id: A,
      Name: 'demo',
      Driver: 'cnm-bridge',
      Containers: {
        ['11'.repeat(32)]: {
          Name: 'web',
          EndpointID: 'e1'.repeat(32),
          MacAddress: '02:42:0a:01:00:02',
          IPv4Address: '10.1.0.2/24',
          IPv6Address: 'fd00:1::2/64',
        },
        'ep-e2': { Name: '', EndpointID: 'e2'.repeat(32), IPv4Address: '' },
      },
      IPAM: {
        Driver: 'cnm-ipam',
        Options: null,
        Config: [
          { Subnet: '10.1.0.0/24', Gateway: '10.1.0.1', AuxiliaryAddresses: { printer: '10.1.0.9' } },
          { Subnet: 'fd00:1::/64' },
        ],
      },
    },
  ],
  [`/v1.41/networks/${B}`]: [200, { Id: B, Name: 'managed', Driver: 'cnm-bridge:latest', Containers: null }],
};

const DEMO = {
  id: A,
  name: 'demo',
  driver: 'cnm-bridge',
  endpoints: [
    { id: 'e1'.repeat(32), container: 'web', ipv4: '10.1.0.2', ipv6: 'fd00:1::2' },
    { id: 'e2'.repeat(32), container: 'ep-e2' },
  ],
  subnets: [
    { pool: '10.1.0.0/24', aux: ['10.1.0.9'] },
    { pool: 'fd00:1::/64', aux: [] },
  ],
};
const MANAGED = { id: B, name: 'managed', driver: 'cnm-bridge:latest', endpoints: [] };

t.test('the networks of our drivers, with what is on them', async (t) => {
  const { view, asked } = await engine(t, PAGES);
  t.same(await view({ drivers: ['cnm-bridge'] }).networks(), [DEMO, MANAGED]);
  t.same(asked, ['/version', '/v1.41/networks', `/v1.41/networks/${A}`, `/v1.41/networks/${B}`]);
  t.same(await view({ drivers: ['cnm-macvlan'] }).networks(), []);
});

t.test('the version is one that both sides speak', async (t) => {
  const speaks = async (ApiVersion: string, MinAPIVersion?: string): Promise<string | undefined> => {
    const { view, asked } = await engine(t, { '/version': [200, { ApiVersion, MinAPIVersion }] });
    t.equal(await view().networks(), undefined);
    return asked[1];
  };
  t.equal(await speaks('1.41', '1.12'), '/v1.41/networks');
  t.equal(await speaks('1.9'), '/v1.9/networks');
  t.equal(await speaks('1.60', '1.44'), '/v1.51/networks');
  t.equal(await speaks('1.60', '1.55'), '/v1.60/networks');
});

t.test('a network that vanishes after it was listed is gone', async (t) => {
  const { view } = await engine(t, { ...PAGES, [`/v1.41/networks/${A}`]: [404, { message: 'gone' }] });
  t.same(await view({ drivers: ['cnm-bridge'] }).networks(), [MANAGED]);
});

t.test('all or nothing: whatever else goes wrong is no answer', async (t) => {
  const list = '/v1.41/networks';
  const faults: readonly (readonly [string, Pages])[] = [
    ['an error in the list', { ...PAGES, [list]: [500, { message: 'boom' }] }],
    ['an error in one network', { ...PAGES, [`${list}/${B}`]: [500, { message: 'boom' }] }],
    ['no JSON', { ...PAGES, [list]: [200, '[{'] }],
    ['another shape', { ...PAGES, [list]: [200, { networks: [] }] }],
    ['no Engine at all', {}],
  ];
  for (const [what, pages] of faults)
    t.equal(await (await engine(t, pages)).view().networks(), undefined, what);
  t.equal(
    await engineClient({ socket: '/nowhere/docker.sock', log: silent }).networks(),
    undefined,
    'no socket',
  );
});

t.test('an Engine that hangs, before its reply or within, is given up', async (t) => {
  const started = performance.now();
  const mute = await engine(t, () => undefined);
  t.equal(await mute.view({ timeout: 50 }).networks(), undefined);
  const half = await engine(t, (_request, response) => {
    response.writeHead(200);
    response.write('{"ApiVersion":');
  });
  t.equal(await half.view({ timeout: 50 }).networks(), undefined);
  t.ok(performance.now() - started < 9000, 'after the time that was set, and not twice the usual 5 s');
  const cut = await engine(t, (_request, response) => {
    response.writeHead(200, { 'Content-Length': '99' });
    response.write('{', () => response.destroy());
  });
  t.equal(await cut.view().networks(), undefined);
});
