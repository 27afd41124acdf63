/** The command as people run it: a process, its output, its exit status; the daemon behind it is in memory. */
import { execFile } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';

interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function cnm(socket: string, ...args: readonly string[]): Promise<Ran> {
  const program = join(import.meta.dirname, 'cnm.ts');
  const env = { PATH: process.env['PATH'], CNM_SOCKET: socket };
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { env }, (error, stdout, stderr) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
  });
}

t.test('a socket deeper than an address can hold, as that of a managed plugin', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const folder = join(t.testdir(), 'x'.repeat(100));
  mkdirSync(folder);
  // A link's own path may be as long as any file's.
  symlinkSync(double.socket, join(folder, 'cnm.sock'));
  t.match(await cnm(join(folder, 'cnm.sock'), 'network', 'ls'), { status: 0, stdout: /NAME/ });
  const nowhere = join(folder, 'nowhere', 'cnm.sock');
  t.match(await cnm(nowhere, 'network', 'ls'), { status: 1, stderr: /^cnm: The daemon is not running.*\n$/ });
});

t.test('a session', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const run = (...args: readonly string[]) => cnm(double.socket, ...args);

  const create = ['--subnet', '10.88.0.0/24', '--ipv6', '--subnet=fd00:88::/64', '--ipv4=true', 'demo'];
  const dry = await run('network', 'create', '--dry-run', ...create);
  t.match(dry, { status: 0, stdout: /nothing was changed[^]*ip addr add 10\.88\.0\.1\/24 dev / });
  t.match(await run('network', 'create', ...create), { status: 0, stdout: /^[0-9a-f]{64}\n$/ });
  t.match(await run('network', 'create', 'demo'), { status: 1, stderr: /^cnm: .*demo exists already\n$/ });
  t.match(await run('sandbox', 'create', 'web'), { status: 0 });
  const joined = await run('sandbox', 'join', 'web', '--network', 'demo', '--ip', '10.88.0.9');
  t.match(joined, { status: 0, stdout: /^eth0 {2}up .* 10\.88\.0\.9\/24 {2}fd00:88::\S+\n$/ });

  t.match(await run('network', 'ls'), {
    stdout: /NAME +DRIVER[^]*demo +cnm-bridge +cnm +10\.88\.0\.0\/24 fd00:88::\/64 +1 /,
  });
  t.match(await run('endpoint', 'ls'), { stdout: /web +demo +10\.88\.0\.9\/24 .* sandbox web/ });
  t.match(await run('sandbox', 'ls'), { stdout: /web +demo / });
  t.match(await run('network', 'inspect', 'demo'), {
    status: 0,
    stdout: /^network demo\n[^]*sandbox web, endpoint /,
  });
  t.match(await run('sandbox', 'inspect', 'web'), { status: 0, stdout: /`-- network demo \(/ });
  t.match(await run('endpoint', 'inspect', 'web'), { status: 0, stdout: /^endpoint web\n/ });
  t.match(await run('version'), { status: 0, stdout: /daemon +0\.0\.0-test/ });

  const json = async (...args: readonly string[]) =>
    JSON.parse((await run(...args, '--json')).stdout) as unknown;
  t.match(await json('network', 'ls'), [{ name: 'demo', endpoints: 1 }]);
  t.match(await json('network', 'inspect', 'demo'), [{ name: 'demo', members: [{ name: 'web' }] }]);
  t.match(await json('endpoint', 'ls', '--network', 'demo'), [{ name: 'web', network: { name: 'demo' } }]);
  t.match(await json('sandbox', 'inspect', 'web'), [{ name: 'web', exists: true }]);
  t.match(await json('doctor'), { healthy: true });

  t.match(await run('endpoint', 'publish', 'web', '-p', '8080:80', '-p', '53/udp'), {
    status: 0,
    stdout:
      /^53\/udp -> 0\.0\.0\.0:(\d+)\n53\/udp -> \[::\]:\1\n80\/tcp -> 0\.0\.0\.0:8080\n80\/tcp -> \[::\]:8080\n$/,
  });
  t.match(await run('port'), { status: 0, stdout: /^web +demo +10\.88\.0\.\d+:80\/tcp +0\.0\.0\.0:8080$/m });
  t.match(await run('port', 'demo'), { status: 0, stdout: /^80\/tcp -> 0\.0\.0\.0:8080$/m });
  t.match(await run('port', 'web', '80'), { status: 0, stdout: '0.0.0.0:8080\n' });
  t.match(await run('port', 'web', '53'), { status: 1, stderr: /web publishes no port 53\/tcp/ });
  t.match(await json('port', 'web', '53/udp'), [{ proto: 'udp', port: 53 }]);
  t.match(await run('firewall', 'show', 'demo'), {
    status: 0,
    stdout: /10\.88\.0\.\d+:80\/tcp +0\.0\.0\.0:8080 +0 +0$/m,
  });
  t.match(await json('firewall', 'show'), {
    loaded: true,
    networks: [{ name: 'demo', ports: [{}, {}, {}, {}] }],
  });
  t.match(await run('firewall', 'show', 'demo', '--nft'), { status: 0, stdout: /chain into_bridge/ });
  t.match(await run('endpoint', 'unpublish', 'web'), { status: 0, stdout: '' });
  t.match(await run('port', 'web'), { status: 0, stdout: '' });

  const missing = await run('network', 'inspect', 'nope', 'demo');
  t.match(
    missing,
    { status: 1, stderr: /"nope"/, stdout: /^network demo/ },
    'goes on after one that is not there',
  );
  t.match(await run('network', 'rm', 'demo'), { status: 1, stderr: /active endpoints/ });
  t.match(await run('sandbox', 'rm', 'web'), { status: 0, stdout: 'web\n' });
  t.match(await run('network', 'rm', 'demo'), { status: 0, stdout: 'demo\n' });
  t.strictSame(await json('network', 'ls'), []);
});

t.test('the doctor tells by its exit status', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const run = (...args: readonly string[]) => cnm(double.socket, ...args);
  await run('network', 'create', '--subnet', '10.88.0.0/24', 'demo');
  t.match(await run('doctor'), { status: 0, stdout: 'Store and kernel agree.\n' });
  const device = (await double.client.network('demo')).bridgeName ?? '';
  double.kernel.destroyAddress(device, prefix('10.88.0.1/24'));
  t.match(await run('doctor'), { status: 3, stdout: /missing: ip addr add 10\.88\.0\.1\/24 dev / });
  const heal = double.kernel.failAt((step) => step.do === 'addr.add', 'EPERM');
  t.match(await run('doctor', '--fix'), { status: 3, stdout: /failed +.*EPERM/ });
  heal();
  t.match(await run('doctor', '--fix'), { status: 0, stdout: /repaired +network demo/ });
  t.match(await run('doctor', '--json'), { status: 0, stdout: /"healthy": true/ });
});

t.test('mistakes in usage are status 2, failures status 1', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const rows: readonly [args: readonly string[], status: number, says: RegExp][] = [
    [[], 2, /Usage: cnm/],
    [['nope'], 2, /unknown command 'nope'/],
    [['network'], 2, /Usage: cnm network/],
    [['network', 'create'], 2, /missing required argument 'name'/],
    [['network', 'create', '--ipv6=maybe', 'x'], 2, /--ipv6/],
    [['network', 'ls', '--nope'], 2, /unknown option '--nope'/],
    [['sandbox', 'join', 'web'], 2, /--network/],
    [['endpoint', 'publish', 'web'], 2, /required option '-p, --publish <port>'/],
    [['endpoint', 'publish', '--help'], 0, /in the place of all that it published[^]*\[HOSTIP:\]/],
    [['firewall'], 2, /Usage: cnm firewall/],
    [['--help'], 0, /Usage: cnm/],
    [['network', 'create', '--help'], 0, /--aux-address/],
    [['sandbox', 'inspect', ''], 1, /empty id or name/],
    [['network', 'create', '-o', '=x', 'n'], 1, /the key before "=" is missing/],
    [['sandbox', 'exec', 'nope', 'ip', '-br', 'addr', '--json'], 1, /No sandbox has the id or name "nope"/],
  ];
  for (const [args, status, says] of rows) {
    const { stdout, stderr, ...ran } = await cnm(double.socket, ...args);
    t.equal(ran.status, status, `cnm ${args.join(' ')}`);
    t.match(stdout + stderr, says, `cnm ${args.join(' ')}`);
    t.notMatch(stderr, /\.ts:\d/, 'no stack');
  }
  const dead = await cnm('/nonexistent/cnm.sock', 'network', 'ls');
  t.match(dead, { status: 1, stderr: /no socket \/nonexistent\/cnm\.sock\. Start it with/ });
  const named = await cnm('/nonexistent/cnm.sock', 'network', 'ls', '--socket', double.socket);
  t.equal(named.status, 0, '--socket wins over CNM_SOCKET');
});

t.test('addresses', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const run = (...args: readonly string[]) => cnm(double.socket, ...args);
  const folder = t.testdir({ 'bad.json': '{}' });
  await run('network', 'create', '--subnet=10.88.0.0/24', '--ipam-opt=reserved=10.88.0.128/25', 'demo');
  t.match(await run('ipam', 'ls'), {
    status: 0,
    stdout: /POOL +RANGE[^]*10\.88\.0\.0\/24 +cnm-local +demo +1 +126 +0 +127\n/,
  });
  t.match(await run('ipam', 'ls', '10.88.0.0/24'), { stdout: /10\.88\.0\.1 +gateway/ });
  t.match(await run('ipam', 'show', '10.88.0.200'), { stdout: /^10\.88\.0\.200\n[^]*state +reserved\n/ });
  t.match(await run('ipam', 'show', '10.88.0'), { status: 1, stderr: /^cnm: "10\.88\.0" is not an IP/ });
  t.match(await run('ipam', 'check'), { status: 0, stdout: /agree/ });
  const stray = { address: ip('10.88.0.7'), gateway: false, serial: false, name: 'lost' };
  await double.ipam.requestAddress('cnm-local/10.88.0.0/24', stray);
  const report = await run('ipam', 'check', '--json');
  t.equal(report.status, 3);
  const file = join(folder, 'report.json');
  writeFileSync(file, report.stdout);
  t.match(await run('ipam', 'release', '--from-report', file), {
    status: 0,
    stdout: 'released  10.88.0.7\n',
  });
  t.match(await run('ipam', 'release', '--from-report', file), { status: 3, stdout: /kept +10\.88\.0\.7: / });
  t.match(await run('ipam', 'release', '--from-report', join(folder, 'bad.json')), {
    status: 1,
    stderr: /bad\.json is not a report: make one with/,
  });
  t.match(await run('ipam', 'release', '--from-report', join(folder, 'none')), {
    status: 1,
    stderr: /ENOENT/,
  });
});
