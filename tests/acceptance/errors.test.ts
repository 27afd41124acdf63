/*
 * What cannot be, on Docker 20.10: refused in a sentence, with nothing changed.
 *
 *   h1: dockerd ── cnm-bridge.sock, cnm-ipam.sock ── cnmd ── cnm.sock (admin)
 *        ├── live: one network with one container, which must not notice anything
 *        └── the test, as a careless user, as dockerd, and as somebody who wishes us ill
 */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { PLUGIN_FOLDER } from '../lab/cnmd.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { unixHttp } from '../lab/unix-http.ts';
import type { Reply } from '../lab/unix-http.ts';

type Json = Readonly<Record<string, unknown>>;

const NETWORK = '0e'.repeat(32);
const ENDPOINT = 'e0'.repeat(32);
const PORT_MAP = 'com.docker.network.portmap';
const NAME = 'com.docker.network.bridge.name';

/** Names that a shell, a path or C would take for something else. */
const HOSTILE = [
  'x;touch /tmp/p',
  '$(touch /tmp/p)',
  '../a',
  'a/b',
  'a b',
  'a\nb',
  'abcdefghijklmnop',
  '%d',
  '.',
  '--help',
  '\u202ecba',
];

const create = (generic: Json = {}): Json => ({
  NetworkID: NETWORK,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': generic },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.40.0.0/24', Gateway: '10.40.0.1/24' }],
  IPv6Data: [],
});

const key = { NetworkID: NETWORK, EndpointID: ENDPOINT };
const endpoint = (Options: Json): Json => ({
  ...key,
  Interface: { Address: '10.40.0.2/24', AddressIPv6: '', MacAddress: '' },
  Options,
});

/** Neither a host of the lab nor this machine has the file that a shell would have made. */
async function assertNoFile(t: Test, h: DockerHost): Promise<void> {
  t.notOk(existsSync('/tmp/p'), 'no file here');
  t.equal((await h.trySh('ls /tmp/p')).code, 2, 'no file on the host');
}

function assertRefused(t: Test, reply: Reply, says: RegExp, what = String(says)): void {
  t.ok(reply.status >= 400 && reply.status < 500, `${what}: ${reply.status}`);
  t.match(reply.text, says, what);
}

t.test('what cannot be, with Docker 20.10', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const call = (method: string, body?: unknown): Promise<Reply> =>
    h.plugin('cnm-bridge', `NetworkDriver.${method}`, body);
  await h.docker('network', 'create', '-d', 'cnm-bridge', 'live');
  await h.container('c1', 'live');
  const pid = await h.cnmd.pid();

  t.test('E04: network names of any characters', async (t) => {
    const before = await snapshot(h);
    for (const name of ['test@#$', 'ünï-网络', 'x;touch /tmp/p', 'a b']) {
      await h.docker('network', 'create', '-d', 'cnm-bridge', name);
      await h.container('c4', name);
      await h.container('c5', name);
      t.match(await h.exec('c4', 'ping', '-c1', '-W10', 'c5'), '1 received', name);
      t.match(await h.cnm('network', 'ls'), name, 'cnm shows it');
      await h.docker('rm', '--force', 'c4', 'c5');
      await h.docker('network', 'rm', name);
    }
    await assertNoFile(t, h);
    await assertRestored(t, h, before);
  });

  t.test('E05: hostile names of bridges and interfaces', async (t) => {
    const before = await snapshot(h);
    for (const option of [NAME, 'com.docker.network.container_iface_prefix']) {
      // As interfaces, /proc/sys/net/ipv4/conf/all and default would be the settings of all others.
      for (const name of option === NAME ? [...HOSTILE, 'all', 'default'] : HOSTILE) {
        const words = ['network', 'create', '-d', 'cnm-bridge', '-o', `${option}=${name}`, 'bad'];
        const { code, stderr } = await h.tryDocker(...words);
        t.equal(code, 1, `${option}=${JSON.stringify(name)}`);
        t.ok(stderr.includes(`${option} cannot be ${JSON.stringify(name)}`), stderr);
      }
      // A command line cannot carry a NUL; JSON can.
      assertRefused(
        t,
        await call('CreateNetwork', create({ [option]: 'a\0b' })),
        /cannot be \\"a\\\\u0000b\\"/,
      );
    }
    // An ID may have these letters.
    t.notMatch(await h.docker('network', 'ls'), / bad /);
    await assertNoFile(t, h);
    await assertRestored(t, h, before);
  });

  t.test('E06: the null IPAM driver gives a bridge nothing', async (t) => {
    const before = await snapshot(h);
    const words = ['network', 'create', '-d', 'cnm-bridge', '--ipam-driver', 'null', 'bad'];
    const { code, stderr } = await h.tryDocker(...words);
    t.equal(code, 1);
    t.match(
      stderr,
      /cnm-bridge needs a subnet, not 0\.0\.0\.0\/0.*null IPAM.*--ipam-driver default or cnm-ipam/,
    );
    // An ID may have these letters.
    t.notMatch(await h.docker('network', 'ls'), / bad /);
    await assertRestored(t, h, before);
  });

  t.test('E07: ports that cannot be', async (t) => {
    const before = await snapshot(h);
    t.equal((await call('CreateNetwork', create())).status, 200);
    const good = { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 };
    const rows: readonly (readonly [more: Json, says: RegExp])[] = [
      [{ HostIP: 'abcd' }, /portmap.*HostIP: \\"abcd\\" is not an IP address/],
      [{ IP: '10.40.0.300' }, /\.IP: \\"10\.40\.0\.300\\"/],
      [{ Proto: 255 }, /Proto: 255 is not a protocol number/],
      [{ Proto: 'tcp' }, /Proto: \\"tcp\\"/],
      [{ Port: 70000 }, /\.Port: 70000 is not a port number/],
      [{ Port: -1 }, /\.Port: -1/],
      [{ HostPort: 80.5 }, /HostPort: 80\.5/],
      [{ HostPort: 9000, HostPortEnd: 8999 }, /8999 is below HostPort 9000/],
    ];
    const withNetwork = await snapshot(h);
    for (const [more, says] of rows) {
      const Options = { [PORT_MAP]: [good, { ...good, ...more }] };
      assertRefused(t, await call('CreateEndpoint', endpoint(Options)), says);
    }
    await assertRestored(t, h, withNetwork);
    t.equal((await call('CreateEndpoint', endpoint({}))).status, 200);
    const withEndpoint = await snapshot(h);
    for (const [more, says] of rows) {
      const Options = { [PORT_MAP]: [{ ...good, ...more }] };
      assertRefused(t, await call('ProgramExternalConnectivity', { ...key, Options }), says);
    }
    for (const list of ['80', { Proto: 6 }, [80], [null]]) {
      const Options = { [PORT_MAP]: list };
      assertRefused(t, await call('ProgramExternalConnectivity', { ...key, Options }), /portmap/);
    }
    await assertRestored(t, h, withEndpoint);
    t.equal((await call('DeleteNetwork', { NetworkID: NETWORK })).status, 200);
    await assertRestored(t, h, before);
  });

  t.test('E08: a container that already has a default route', async (t) => {
    await h.docker(
      'network',
      'create',
      '-d',
      'cnm-bridge',
      '--internal',
      '--subnet',
      '10.41.0.0/24',
      'quiet',
    );
    await h.docker('network', 'create', '-d', 'cnm-bridge', 'n8');
    await h.container('c8', 'quiet');
    const before = await snapshot(h);
    await h.inContainer('c8', 'ip', 'route', 'add', 'default', 'via', '10.41.0.1');
    const { code, stderr } = await h.tryDocker('network', 'connect', 'n8', 'c8');
    t.equal(code, 1);
    t.match(stderr, /failed to set gateway .*file exists/);
    t.equal(await h.docker('network', 'inspect', '-f', '{{len .Containers}}', 'n8'), '0');
    t.notMatch(await h.inContainer('c8', 'ip', '-br', 'link'), /^eth[1-9]/m);
    await assertRestored(t, h, before);
    await h.inContainer('c8', 'ip', 'route', 'del', 'default');
    await h.docker('network', 'connect', 'n8', 'c8');
    t.match(await h.inContainer('c8', 'ip', 'route', 'show', 'default'), /^default via /);
    await h.docker('rm', '--force', 'c8');
    await h.docker('network', 'rm', 'quiet', 'n8');
  });

  t.test('E09: a container that is on the network already', async (t) => {
    const before = await snapshot(h);
    const again = await h.tryDocker('network', 'connect', 'live', 'c1');
    t.match(again, { code: 1, stderr: /endpoint with name c1 already exists in network live/ });
    await assertRestored(t, h, before);
  });

  t.test('hostile bytes at every socket', async (t) => {
    const before = await snapshot(h);
    const sockets = ['cnm-bridge', 'cnm-ipam'].map((name) => h.outside(`${PLUGIN_FOLDER}/${name}.sock`));
    const open = async () => (await readdir(`/proc/${pid}/fd`)).length;
    const descriptors = await open();
    for (const socket of [...sockets, h.outside(h.cnmd.adminSocket)]) {
      for (const [what, bytes, wanted] of RAW) {
        t.match(await raw(socket, bytes), wanted, `${socket.split('/').at(-1) ?? ''}: ${what}`);
      }
      t.equal(
        await silent(socket, 200),
        200,
        'who says nothing is let be, and others are answered meanwhile',
      );
    }
    t.equal(await h.cnmd.pid(), pid, 'the same process');
    const same = async () => ((await open()) <= descriptors ? true : undefined);
    t.ok(await until('the connections to be closed', 5_000, same), 'no descriptor is left open');
    await assertRestored(t, h, before);
  });

  t.test('hostile requests at the admin socket', async (t) => {
    const before = await snapshot(h);
    const admin = (method: string, path: string, body?: unknown): Promise<Reply> =>
      unixHttp(h.outside(h.cnmd.adminSocket), method, path, body);
    const bodies: readonly unknown[] = [
      ...['{"name":"x"', '[]', 'null', '7', '"x"', '{}', '', '\0', '{"__proto__":{"name":"x"}}'],
      '[{"a":'.repeat(100_000),
      `{"name":"x","options":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`,
      `{"name":"${'x'.repeat(10 * 2 ** 20)}"}`,
      ...[
        7,
        null,
        [],
        {},
        'x'.repeat(256),
        'a\0b',
        '../../etc/passwd',
        ...HOSTILE.filter((name) => name.length < 16),
      ].map((name) => ({ name })),
      { name: 'x', subnets: ['10.1.0.0/33'] },
      { name: 'x', subnets: '10.1.0.0/24' },
      { name: 'x', options: { [NAME]: 'x;touch /tmp/p' } },
      { name: 'x', driver: '../../../bin/sh' },
    ];
    for (const path of ['/v1/networks', '/v1/sandboxes', '/v1/sandboxes/x/join', '/v1/sandboxes/x/leave']) {
      for (const body of bodies) {
        const reply = await admin('POST', path, body);
        const { error } = reply.body as { readonly error?: { readonly message?: unknown } };
        t.ok(
          reply.status >= 400 && reply.status < 500 && typeof error?.message === 'string',
          `${path} ${shown(body)}: ${reply.status} ${reply.text.slice(0, 120)}`,
        );
      }
    }
    for (const path of [
      '/v1/networks/..%2f..%2fetc',
      '/v1/networks/%00',
      '/v1/sandboxes/%zz',
      '/v1/endpoints/%0a',
      '/',
    ]) {
      for (const method of ['GET', 'DELETE']) {
        const { status, text } = await admin(method, path);
        t.ok(status >= 400 && status < 500, `${method} ${path}: ${status} ${text}`);
      }
    }
    await assertNoFile(t, h);
    await assertRestored(t, h, before);
  });

  t.test('hostile requests at the plugins’ sockets', async (t) => {
    const before = await snapshot(h);
    const pool = { AddressSpace: 'cnm-local', Pool: '10.40.0.0/24', SubPool: '', Options: {}, V6: false };
    const rows: readonly (readonly [socket: string, method: string, body: unknown, says: RegExp])[] = [
      ['cnm-bridge', 'NetworkDriver.CreateNetwork', create({ 'x;touch /tmp/p': '1' }), /x;touch/],
      ['cnm-bridge', 'NetworkDriver.CreateNetwork', create({ [NAME]: 7 }), /is not a string/],
      [
        'cnm-bridge',
        'NetworkDriver.CreateNetwork',
        { ...create(), NetworkID: `${NETWORK.slice(1)}\0` },
        /NetworkID/,
      ],
      ['cnm-bridge', 'NetworkDriver.CreateNetwork', { ...create(), NetworkID: `${NETWORK}\n` }, /NetworkID/],
      [
        'cnm-bridge',
        'NetworkDriver.CreateNetwork',
        JSON.stringify(create()).replace('generic":{', 'generic":{"__proto__":{}'),
        /./,
      ],
      ['cnm-bridge', 'NetworkDriver.CreateEndpoint', endpoint({}), /no network/],
      ['cnm-bridge', 'NetworkDriver.Join', { ...key, SandboxKey: '/etc/passwd', Options: {} }, /no network/],
      [
        'cnm-bridge',
        'NetworkDriver.Join',
        { ...key, SandboxKey: 'x'.repeat(5000), Options: {} },
        /SandboxKey/,
      ],
      ['cnm-ipam', 'IpamDriver.RequestPool', { ...pool, AddressSpace: 'x;touch /tmp/p' }, /AddressSpace/],
      ['cnm-ipam', 'IpamDriver.RequestPool', { ...pool, Pool: '10.40.0.0/24\0' }, /Pool/],
      ['cnm-ipam', 'IpamDriver.RequestPool', { ...pool, Pool: '10.40.0.0/-1' }, /Pool/],
      ['cnm-ipam', 'IpamDriver.RequestPool', { ...pool, V6: 'yes' }, /V6/],
      ['cnm-ipam', 'IpamDriver.RequestAddress', { PoolID: '../pools', Address: '', Options: {} }, /pool id/],
      [
        'cnm-ipam',
        'IpamDriver.RequestAddress',
        { PoolID: 'cnm-local/10.40.0.0/24', Address: '', Options: {} },
        /no pool/,
      ],
      ['cnm-ipam', 'IpamDriver.RequestAddress', { PoolID: ['x'], Address: '', Options: {} }, /PoolID/],
      [
        'cnm-ipam',
        'IpamDriver.ReleaseAddress',
        { PoolID: 'cnm-local/10.40.0.0/24', Address: 'x' },
        /Address/,
      ],
      ['cnm-ipam', 'IpamDriver.ReleasePool', { PoolID: '__proto__' }, /pool id/],
    ];
    for (const [socket, method, body, says] of rows) {
      assertRefused(t, await h.plugin(socket, method, body), says, `${method} ${shown(body)}`);
    }
    t.equal(({} as Json)['polluted'], undefined);
    await assertNoFile(t, h);
    await assertRestored(t, h, before);
  });

  t.test('after all that the container runs as before, and the daemon is well', async (t) => {
    t.equal(await h.cnmd.pid(), pid, 'the same process');
    await h.container('c2', 'live');
    t.match(await h.exec('c2', 'ping', '-c1', '-W10', 'c1'), '1 received');
    const doctor = await h.tryCnm('doctor');
    t.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
    t.notMatch(h.cnmd.log, / ERROR /, 'nothing was our own failure');
  });
});

const shown = (body: unknown): string =>
  (typeof body === 'string' ? body : JSON.stringify(body)).slice(0, 60).replaceAll('\0', '\\0');

const HEAD = 'POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: plugin.moby.localhost\r\n';

/** What is sent, and how the answer must begin; nothing = hung up without a word. */
const RAW: readonly (readonly [what: string, bytes: string | Buffer, answer: RegExp])[] = [
  ['no HTTP', 'hello\r\n\r\n', /^HTTP\/1\.1 400 .*"Err"/s],
  ['TLS', Buffer.from('16030100a5010000a1030366', 'hex'), /^HTTP\/1\.1 400 /],
  ['NULs', Buffer.alloc(4096), /^HTTP\/1\.1 400 /],
  ['a head without an end', `GET / HTTP/1.1\r\nX: ${'x'.repeat(2 ** 20)}`, /^HTTP\/1\.1 431 |^$/],
  ['a body that breaks off', `${HEAD}Content-Length: 100\r\n\r\n{"NetworkID":`, /^$|^HTTP\/1\.1 4/],
  ['a length that is none', `${HEAD}Content-Length: -1\r\n\r\n{}`, /^HTTP\/1\.1 400 /],
  ['two lengths', `${HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, /^HTTP\/1\.1 400 /],
  [
    'a length and chunks',
    `${HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
    /^HTTP\/1\.1 400 /,
  ],
  ['a chunk that is none', `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}`, /^HTTP\/1\.1 4|^$/],
  [
    'a path that is none',
    'POST /%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
    /^HTTP\/1\.1 40[04] /,
  ],
  ['a path upwards', 'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n', /^HTTP\/1\.1 404 /],
  [
    'an upgrade',
    'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n',
    /^HTTP\/1\.1 404 |^$/,
  ],
  ['another verb', 'DELETE /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\n\r\n', /^HTTP\/1\.1 40[45] /],
];

/** Writes, closes its own half, and gives all that comes back. */
function raw(path: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(path, () => socket.end(bytes));
    socket.on('data', (chunk) => (answer += chunk.toString()));
    socket.setTimeout(15_000, () => socket.destroy());
    // A reset is one of the ways to be hung up on.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      resolve(answer);
    });
  });
}

/** Opens connections that say nothing, or only the half; the status that another one gets beside them. */
async function silent(path: string, count: number): Promise<number> {
  const idle = Array.from({ length: count }, (_, index) => {
    const socket = connect(path, () => {
      if (index % 2 === 0) socket.write(HEAD);
    });
    return socket.on('error', () => undefined);
  });
  await sleep(200);
  const known = path.endsWith('cnm.sock') ? ['GET', '/v1/version'] : ['POST', '/Plugin.Activate'];
  const { status } = await unixHttp(path, known[0] ?? '', known[1] ?? '');
  for (const socket of idle) socket.destroy();
  return status;
}
