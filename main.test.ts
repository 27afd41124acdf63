import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EngineView } from './cnm/cnm.ts';
import type { Log } from './cnm/log.ts';
import { type Configuration, parseConfiguration } from './daemon/configuration.ts';
import { fakeKernel, type FakeKernel } from './kernel/fake.ts';
import { KernelError } from './kernel/kernel.ts';
import { compose, type Overrides } from './main.ts';
import { memoryStore } from './store/memory.ts';
import type { StoreNotice } from './store/store.ts';

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };
const noEngine: EngineView = { networks: () => Promise.resolve(undefined) };

const NETWORK = 'ab'.repeat(32);
const CREATE = {
  NetworkID: NETWORK,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.1.0.0/24', Gateway: '10.1.0.1/24', AuxAddresses: {} }],
  IPv6Data: [],
};

/** A configuration in a folder of its own. */
function configure(t: Test, env: Record<string, string> = {}): Configuration {
  const folder = mkdtempSync(join(tmpdir(), 'cnmd-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const at = (name: string) => join(folder, name);
  const flags = [
    '--plugin-dir',
    at('p'),
    '--state-dir',
    at('s'),
    '--run-dir',
    at('r'),
    '--admin-socket',
    at('a'),
    // Of the machine nobody is asked: no DNS server, and no Engine.
    '--resolv-conf',
    at('resolv.conf'),
    '--docker-socket',
    at('docker.sock'),
  ];
  const parsed = parseConfiguration(flags, env, ['bridge']);
  if (parsed.do !== 'run') throw new Error('no configuration');
  return parsed.configuration;
}

async function start(
  t: Test,
  configuration: Configuration,
  overrides: Overrides & { readonly kernel: FakeKernel },
) {
  const daemon = await compose(configuration, quiet, { engine: noEngine, ...overrides });
  t.teardown(() => daemon.close());
  return daemon;
}

function post(socketPath: string, path: string, body: unknown = {}, method = 'POST') {
  return new Promise<{ status: number; body: unknown }>((resolve, reject) => {
    const sent = request({ socketPath, path, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
      });
    });
    sent.on('error', reject);
    sent.end(method === 'POST' ? JSON.stringify(body) : undefined);
  });
}

async function linkNames(kernel: FakeKernel): Promise<string[]> {
  return [...(await kernel.facts()).host.links.keys()].sort();
}

t.test('a service: a socket for each driver, one for IPAM, one for people', async (t) => {
  const configuration = configure(t);
  const kernel = fakeKernel();
  const before = await linkNames(kernel);
  const daemon = await start(t, configuration, { kernel, store: memoryStore() });
  t.strictSame(readdirSync(configuration.pluginDir).sort(), ['cnm-bridge.sock', 'cnm-ipam.sock']);
  const bridge = join(configuration.pluginDir, 'cnm-bridge.sock');
  t.strictSame((await post(bridge, '/Plugin.Activate')).body, { Implements: ['NetworkDriver'] });
  const ipam = join(configuration.pluginDir, 'cnm-ipam.sock');
  t.strictSame((await post(ipam, '/Plugin.Activate')).body, { Implements: ['IpamDriver'] });
  t.equal(statSync(configuration.adminSocket).mode & 0o777, 0o600, 'only root may open the admin socket');
  await daemon.ready;

  t.strictSame(await post(bridge, '/NetworkDriver.CreateNetwork', CREATE), { status: 200, body: {} });
  t.match((await post(configuration.adminSocket, '/v1/networks', undefined, 'GET')).body, [{ id: NETWORK }]);
  t.not((await linkNames(kernel)).length, before.length, 'the network has a link in the kernel');

  const during = await linkNames(kernel);
  await daemon.close();
  t.strictSame(readdirSync(configuration.pluginDir), [], 'the sockets are gone');
  t.notOk(existsSync(configuration.adminSocket));
  t.strictSame(await linkNames(kernel), during, 'the network is not');
});

t.test('a managed plugin: one socket for both protocols', async (t) => {
  const configuration = configure(t, { DRIVER: 'bridge' });
  await start(t, configuration, { kernel: fakeKernel(), store: memoryStore() });
  t.strictSame(readdirSync(configuration.pluginDir), ['cnm.sock']);
  const socket = join(configuration.pluginDir, 'cnm.sock');
  t.match((await post(socket, '/NetworkDriver.GetCapabilities')).body, { Scope: 'local' });
  t.match((await post(socket, '/IpamDriver.GetDefaultAddressSpaces')).body, {
    LocalDefaultAddressSpace: 'cnm-local',
  });
});

t.test('a second daemon is refused, and the first does not notice', async (t) => {
  const first = configure(t);
  const kernel = fakeKernel();
  const { ready } = await start(t, first, { kernel });
  await ready;
  const untouched = fakeKernel({ prepared: false });
  await t.rejects(
    compose(first, quiet, { kernel: untouched }),
    { message: /in use by/ },
    'with the same state folder',
  );
  const other = { ...configure(t), pluginDir: first.pluginDir };
  await t.rejects(
    compose(other, quiet, { kernel: untouched }),
    { message: /another process answers/ },
    'with the same sockets',
  );
  t.equal((await untouched.facts()).elements, undefined, 'it did not touch the kernel');
  t.notOk(existsSync(other.adminSocket), 'it left no socket of its own');
  const bridge = join(first.pluginDir, 'cnm-bridge.sock');
  t.strictSame(await post(bridge, '/NetworkDriver.CreateNetwork', CREATE), { status: 200, body: {} });
  t.match((await post(first.adminSocket, '/v1/networks', undefined, 'GET')).body, [{ id: NETWORK }]);
});

t.test('sockets that a killed daemon left are replaced', async (t) => {
  const configuration = configure(t);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(configuration.adminSocket, resolve));
  // What kill -9 leaves: the file, and nobody who listens. (close() would remove it.)
  const stale = `${configuration.adminSocket}.stale`;
  spawnSync('ln', [configuration.adminSocket, stale]);
  await new Promise((resolve) => server.close(resolve));
  spawnSync('mv', [stale, configuration.adminSocket]);
  t.ok(existsSync(configuration.adminSocket));
  const { ready } = await start(t, configuration, { kernel: fakeKernel(), store: memoryStore() });
  await ready;
  t.equal((await post(configuration.adminSocket, '/v1/version', undefined, 'GET')).status, 200);
});

t.test('a file that is no socket is never replaced', async (t) => {
  const configuration = configure(t);
  writeFileSync(configuration.adminSocket, 'precious');
  await t.rejects(compose(configuration, quiet, { kernel: fakeKernel(), store: memoryStore() }), {
    message: /no socket/,
  });
  t.equal(statSync(configuration.adminSocket).size, 'precious'.length);
});

/** A kernel with a bridge that bears our mark and that no record tells of. */
async function kernelWithOrphan(): Promise<FakeKernel> {
  const kernel = fakeKernel();
  await kernel.apply([
    { do: 'link.add', name: 'cnm-lost', mark: { network: NETWORK }, link: { kind: 'bridge' } },
  ]);
  return kernel;
}

t.test('at the start, what belongs to nothing is removed, but not when records may be lost', async (t) => {
  const clean = await kernelWithOrphan();
  const configuration = configure(t);
  // Any record shows that these are the records of this host.
  const known = memoryStore({ 'ipam/ula': 'fd00:1:2::/48' });
  await (
    await start(t, configure(t), { kernel: clean, store: known })
  ).ready;
  t.notOk((await linkNames(clean)).includes('cnm-lost'), 'removed');

  const empty = await kernelWithOrphan();
  await (
    await start(t, configure(t), { kernel: empty, store: memoryStore() })
  ).ready;
  t.ok((await linkNames(empty)).includes('cnm-lost'), 'kept: the state directory may be a wrong one');

  const fresh = await kernelWithOrphan();
  await (
    await start(t, configure(t), { kernel: fresh, store: memoryStore({ 'ipam/host': '0123456789ab' }) })
  ).ready;
  t.ok((await linkNames(fresh)).includes('cnm-lost'), 'its id in a cluster tells nothing of what it has');

  const salvaged: StoreNotice = { kind: 'damaged', keptAs: '/x', salvaged: 1, message: 'set aside' };
  const doubtful = await kernelWithOrphan();
  const store = { ...known, notices: [salvaged] };
  await (
    await start(t, configuration, { kernel: doubtful, store })
  ).ready;
  t.ok(
    (await linkNames(doubtful)).includes('cnm-lost'),
    'kept: it may be a running container of a lost record',
  );
  const doctor = await post(configuration.adminSocket, '/v1/drift', undefined, 'GET');
  t.match(doctor.body, { healthy: false, notices: ['set aside'] }, 'and cnm doctor tells');
});

t.test('a kernel that refuses us ends the start; Docker hears why', async (t) => {
  const kernel = fakeKernel();
  kernel.prepare = () => Promise.reject(new KernelError('nft', 'EPERM'));
  const configuration = configure(t);
  const daemon = await start(t, configuration, { kernel, store: memoryStore() });
  await t.rejects(daemon.ready, { message: /EPERM/ });
  const bridge = join(configuration.pluginDir, 'cnm-bridge.sock');
  t.match(await post(bridge, '/NetworkDriver.CreateNetwork', CREATE), { status: 503, body: { Err: /cnmd/ } });
});

t.test('what somebody else removes from the kernel is put back', async (t) => {
  const configuration = configure(t);
  const kernel = fakeKernel();
  const { ready } = await start(t, configuration, { kernel, store: memoryStore() });
  await ready;
  await post(join(configuration.pluginDir, 'cnm-bridge.sock'), '/NetworkDriver.CreateNetwork', CREATE);
  const elements = async () => (await kernel.facts()).elements?.get('bridges')?.size;
  t.equal(await elements(), 1);
  kernel.flushFirewall();
  t.equal(await elements(), undefined);
  for (let i = 0; i < 400 && (await elements()) !== 1; i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(await elements(), 1);
});

function cnmd(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(import.meta.dirname, 'main.ts'), ...argv],
    {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    },
  );
  return { status, stdout, stderr };
}

t.test('the command line', (t) => {
  t.match(cnmd('--version'), { status: 0, stdout: /^cnmd \d+\.\d+\.\d+\n$/, stderr: '' });
  t.match(cnmd('--help'), { status: 0, stdout: /--state-dir/, stderr: '' });
  t.match(cnmd('--drivers', 'ipvlan'), {
    status: 2,
    stdout: '',
    stderr: /^cnmd: --drivers: there is no driver 'ipvlan'.*\n$/,
  });
  t.end();
});
