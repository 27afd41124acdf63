/** The Engine's API as 20.10 and 28.5 speak it, at a real unix socket. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { silent } from '../cnm/log.ts';
import { type EngineDoor, EngineRefusal, EngineSilence } from '../cnm/published/doors.ts';
import { copyOf } from '../cnm/published/decide.ts';
import { engineDoor } from './engine-networks.ts';

/** By `METHOD path`: status and body. */
type Pages = Readonly<Record<string, readonly [number, unknown]>>;

interface Double {
  readonly door: EngineDoor;
  readonly bodies: unknown[];
}

async function engine(t: Test, apiVersion: string, pages: Pages): Promise<Double> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-engine-'));
  const socket = join(folder, 'docker.sock');
  const bodies: unknown[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      if (text !== '') bodies.push(JSON.parse(text));
      const { method = '', url = '' } = request;
      const version: Pages = { 'GET /version': [200, { ApiVersion: apiVersion, MinAPIVersion: '1.12' }] };
      const [status, body] = { ...version, ...pages }[`${method} ${url}`] ?? [
        404,
        { message: 'page not found' },
      ];
      response.writeHead(status).end(body === undefined ? '' : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });
  return { bodies, door: engineDoor({ socket, log: silent }) };
}

/** As Engine 20.10 answers, shortened: a subnet as it was typed, a gateway with its length, nulls. */
const LISTED = {
  Id: 'aa',
  Name: 'uber-net',
  Scope: 'local',
  Driver: 'cnm-overlay',
  EnableIPv6: true,
  IPAM: {
    Driver: 'cnm-ipam',
    Options: { space: 'cnm-global' },
    Config: [
      {
        Subnet: '10.1.0.7/24',
        IPRange: '10.1.0.130/25',
        Gateway: '10.1.0.1',
        AuxiliaryAddresses: { r: '10.1.0.9' },
      },
      { Subnet: 'fd00:1::/64', Gateway: 'fd00:1::1/64' },
    ],
  },
  Internal: false,
  Attachable: true,
  Containers: {},
  Options: null,
  Labels: { tier: 'one', 'cnm.published': 'true' },
};

t.test('a network is read, and made again from what was read', async (t) => {
  const pages: Pages = {
    'GET /v1.41/networks': [
      200,
      [LISTED, { Id: 'bb', Name: 'host', Driver: 'host', Scope: 'swarm', IPAM: {} }],
    ],
    'POST /v1.41/networks/create': [201, { Id: 'cc' }],
  };
  const { door, bodies } = await engine(t, '1.41', pages);
  const { networks = [], withoutIpv4 } = (await door.networks()) ?? {};
  t.equal(withoutIpv4, false);
  const [uber, host] = networks;
  t.match(host, { swarm: true, made: false });
  const network = {
    name: 'uber-net',
    owner: 'docker',
    driver: 'cnm-overlay',
    internal: false,
    attachable: true,
    ipv4: true,
    ipv6: true,
    options: {},
    labels: { tier: 'one' },
    ipam: {
      driver: 'cnm-ipam',
      options: { space: 'cnm-global' },
      subnets: [
        { subnet: '10.1.0.0/24', range: '10.1.0.128/25', gateway: '10.1.0.1', aux: { r: '10.1.0.9' } },
        { subnet: 'fd00:1::/64', gateway: 'fd00:1::1', aux: {} },
      ],
    },
  } as const;
  t.same(uber, { id: 'aa', made: true, swarm: false, network });
  await door.create(copyOf(network, 'cnm-global'));
  const body = {
    Name: 'uber-net',
    CheckDuplicate: true,
    Driver: 'cnm-overlay',
    Internal: false,
    Attachable: true,
    EnableIPv6: true,
    Options: {},
    Labels: { tier: 'one', 'cnm.published': 'true' },
    IPAM: {
      Driver: 'cnm-ipam',
      Options: { space: 'cnm-global' },
      Config: [
        { Subnet: '10.1.0.0/24', IPRange: '10.1.0.128/25', Gateway: '10.1.0.1' },
        { Subnet: 'fd00:1::/64', Gateway: 'fd00:1::1' },
      ],
    },
  };
  t.same(bodies, [body]);
  const newer = await engine(t, '1.51', { 'POST /v1.51/networks/create': [201, { Id: 'cc' }] });
  await newer.door.create({ ...network, ipv4: false });
  t.match(newer.bodies, [
    { EnableIPv4: false, IPAM: { Config: [{ AuxiliaryAddresses: { r: '10.1.0.9' } }] } },
  ]);
});

t.test('what the Engine says against it, and who is on a network', async (t) => {
  const filters = encodeURIComponent(JSON.stringify({ network: ['aa', 'uber-net'] }));
  const { door } = await engine(t, '1.51', {
    'GET /v1.51/networks': [200, []],
    'POST /v1.51/networks/create': [403, { message: 'Pool overlaps with other one on this address space' }],
    'DELETE /v1.51/networks/aa': [403, { message: 'network uber-net has active endpoints' }],
    'DELETE /v1.51/networks/ab': [204, undefined],
    [`GET /v1.51/containers/json?all=true&filters=${filters}`]: [
      200,
      [
        { Id: 'c1'.repeat(32), Names: ['/web'] },
        { Id: 'c2'.repeat(32), Names: null },
      ],
    ],
  });
  t.match(await door.networks(), { networks: [], withoutIpv4: true });
  const network = {
    name: 'n',
    driver: 'd',
    options: {},
    labels: {},
    ipam: { driver: 'i', options: {}, subnets: [] },
  };
  const whole = {
    ...network,
    owner: 'docker',
    internal: false,
    attachable: false,
    ipv4: true,
    ipv6: false,
  } as const;
  await t.rejects(
    door.create(whole),
    new EngineRefusal('Pool overlaps with other one on this address space'),
  );
  await t.rejects(door.remove('aa'), new EngineRefusal('network uber-net has active endpoints'));
  await door.remove('ab');
  await door.remove('gone');
  t.same(await door.containers({ id: 'aa', name: 'uber-net' }), ['web', 'c2c2c2c2c2c2']);
  const nobody = engineDoor({ socket: '/nonexistent/docker.sock', log: silent });
  t.equal(await door.isInstalled(), true, 'its socket is there');
  t.equal(await nobody.isInstalled(), false);
  t.equal(await engineDoor({ socket: '/nonexistent', log: silent, runsUs: true }).isInstalled(), true);
  const silence = await engine(t, '1.51', {});
  const asked = silence.door.containers({ id: 'aa', name: 'n' });
  silence.door.close();
  await t.rejects(asked, { name: 'EngineSilence' }, 'nothing is waited for at the end');
  t.equal(await nobody.networks(), undefined);
  await t.rejects(
    nobody.create(whole),
    new EngineSilence('no Docker Engine answers at /nonexistent/docker.sock'),
  );
});
