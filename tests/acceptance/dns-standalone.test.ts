/*
 * The resolver with no Docker at all, and what it does to its host.
 *
 *   h1 (cnmd --dns-listen 127.0.0.54,127.0.0.55#5355)
 *    ├── demo   10.88.0.0/24 fd00:88::/64   web, db (alias api), web2 (alias api)
 *    ├── quiet  10.90.0.0/24 --internal     in1
 *    └── lo: 127.0.0.101, the server of the host's resolv.conf
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { GATEWAY_DNS_PORT } from '../../address/dns-port.ts';
import { until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { muslResolve, resolved } from './musl.ts';

const exec = async (h: CnmHost, sandbox: string, ...words: string[]) =>
  (await h.tryCnm('sandbox', 'exec', sandbox, '--', ...words)).stdout.trim();
/** In its namespace, without its resolv.conf: quicker than `cnm sandbox exec`. */
async function dig(h: CnmHost, sandbox: string, ...words: string[]): Promise<string> {
  const path = paths.get(sandbox) ?? '';
  const server = words.some((word) => word.startsWith('@')) ? [] : ['@127.0.0.11'];
  const ask = ['dig', '+tries=1', '+time=10', '+short', ...server, ...words];
  return (await h.tryRun(['nsenter', `--net=${path}`, '--', ...ask])).stdout.trim();
}

/** Namespaces of sandboxes. */
const paths = new Map<string, string>();

async function enter(
  h: CnmHost,
  name: string,
  network: string,
  create: string[],
  ...more: string[]
): Promise<void> {
  const { path } = JSON.parse(await h.cnm('sandbox', 'create', name, '--json', ...create)) as {
    path: string;
  };
  paths.set(name, path);
  await h.cnm('sandbox', 'join', name, '--network', network, ...more);
}

t.test('names, with no Docker', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost({ arguments: ['--dns-listen', '127.0.0.54,127.0.0.55#5355'] });
  const server = async (address: string, answer: string) => {
    const program = join(REPOSITORY, 'tests/acceptance/dns-upstream.ts');
    const running = h.spawnNet([NODE, program, address, answer]);
    await until(`the server on ${address}`, 20_000, () => running.stdout.includes('ready') || undefined);
    return running;
  };
  const upstream = await server('127.0.0.101', '192.0.2.101');
  await writeFile(
    h.outside('/etc/resolv.conf'),
    'nameserver 127.0.0.101\nsearch corp.example\noptions edns0\n',
  );
  await h.cnm('network', 'create', '--ipv6', '--subnet', '10.88.0.0/24', '--subnet', 'fd00:88::/64', 'demo');
  await h.cnm('network', 'create', '--subnet', '10.90.0.0/24', '--internal', 'quiet');
  await enter(h, 'web', 'demo', [], '--ip', '10.88.0.10', '--publish', '8080:80');
  await enter(
    h,
    'db',
    'demo',
    ['--dns-search', 'demo', '--dns-option', 'ndots:2'],
    '--ip',
    '10.88.0.11',
    '--alias',
    'api',
  );
  await enter(h, 'web2', 'demo', [], '--ip', '10.88.0.12', '--alias', 'api');
  await enter(h, 'in1', 'quiet', [], '--ip', '10.90.0.10');
  await until(
    'the resolver in web',
    20_000,
    async () => (await dig(h, 'web', 'db')) === '10.88.0.11' || undefined,
  );

  t.test('resolv.conf of a sandbox, and names through it', async (t) => {
    await until(
      'the host’s search list',
      20_000,
      async () => /corp\.example/.test(await exec(h, 'web', 'cat', '/etc/resolv.conf')) || undefined,
    );
    const own = await exec(h, 'web', 'cat', '/etc/resolv.conf');
    t.match(
      own,
      /^nameserver 127\.0\.0\.11\nsearch corp\.example\noptions edns0 ndots:0$/m,
      'the host’s, and ndots',
    );
    t.match(await exec(h, 'db', 'cat', '/etc/resolv.conf'), /search demo\noptions ndots:2$/m, 'its own');
    t.notMatch(await h.sh('cat /etc/resolv.conf'), '127.0.0.11', 'the host’s is as it was');
    t.match(await exec(h, 'web', 'getent', 'ahostsv4', 'db'), /^10\.88\.0\.11 /);
    t.match(await exec(h, 'web', 'ping', '-4', '-c1', '-W10', 'db'), '(10.88.0.11)');
    t.equal(await dig(h, 'web', '+tcp', 'db.demo'), '10.88.0.11');
    t.equal(await dig(h, 'web', '-x', 'fd00:88::3').then((name) => /\.demo\.$/.test(name)), true);
    t.same((await dig(h, 'web', 'api')).split('\n').sort(), ['10.88.0.11', '10.88.0.12']);
    t.equal(await dig(h, 'web', '_80._tcp.web', 'SRV'), '0 0 80 web.demo.', 'published');
    t.equal(await dig(h, 'web', 'any.example'), '192.0.2.101');
  });

  t.test('musl: by itself, by way of search, and a name that is none', async (t) => {
    const program = await muslResolve(h);
    t.same(resolved(await exec(h, 'db', program, 'web', 'web.demo', 'api', 'in1', 'any.example')), {
      web: '10.88.0.10 fd00:88::2',
      'web.demo': '10.88.0.10 fd00:88::2',
      api: '10.88.0.11 10.88.0.12 fd00:88::3 fd00:88::4',
      in1: 'Name does not resolve',
      'any.example': '192.0.2.101',
    });
  });

  t.test('on the gateway, and seen from there by who asks', async (t) => {
    t.equal(await dig(h, 'web', '@10.88.0.1', 'db'), '10.88.0.11');
    t.equal(await dig(h, 'web', '@fd00:88::1', '+tcp', 'db'), '10.88.0.11');
    t.equal(await dig(h, 'in1', '@10.90.0.1', 'in1'), '10.90.0.10', 'on an internal network too');
    t.match(await exec(h, 'in1', 'dig', '+tries=1', 'any.example'), /SERVFAIL/);
    t.match(await h.net('nft', 'list', 'set', 'inet', 'cnm', 'dns4'), '10.88.0.1');
  });

  t.test(
    'on a bridge that was there before, with an address of its own; and servers of its own',
    async (t) => {
      const own = await server('127.0.0.102', '192.0.2.102');
      await h.sh('ip link add pre0 up type bridge && ip address add 198.18.0.1/24 dev pre0');
      const name = 'com.docker.network.bridge.name=pre0';
      const options = ['-o', name, '-o', 'dns.servers=127.0.0.102'];
      await h.cnm('network', 'create', '--subnet', '10.92.0.0/24', ...options, 'pre');
      await enter(h, 'p1', 'pre', [], '--ip', '10.92.0.10');
      for (const transport of ['+notcp', '+tcp'])
        t.equal(await dig(h, 'p1', '@10.92.0.1', transport, 'p1'), '10.92.0.10', transport);
      t.equal(await dig(h, 'p1', 'own.example'), '192.0.2.102', 'asked of the network’s own servers');
      t.equal(await dig(h, 'web', 'own.example'), '192.0.2.101', 'and others of the host’s');
      await h.cnm('sandbox', 'rm', 'p1');
      await h.cnm('network', 'rm', 'pre');
      await h.sh('ip link del pre0');
      await own.kill('SIGKILL');
    },
  );

  t.test('for the host itself', async (t) => {
    t.equal((await h.net('dig', '+short', '@127.0.0.54', 'db')).trim(), '10.88.0.11');
    t.equal((await h.net('dig', '+short', '@127.0.0.54', '+tcp', 'in1.quiet')).trim(), '10.90.0.10');
  });

  t.test('packets from port 0, where nobody can be answered', async (t) => {
    // UDP with its header (from 0, to 53, 20 bytes, no checksum) around half a query, which is to be refused.
    const bytes = String.raw`\0\0\0\x35\0\x14\0\0\0\1\1\0\0\0\0\0\0\0\0\0`;
    const send = (address: string) => `printf '${bytes}' | socat -u - IP4-SENDTO:${address}:17`;
    await h.net('bash', '-c', send('127.0.0.54'));
    await h.run(['nsenter', `--net=${paths.get('web') ?? ''}`, '--', 'bash', '-c', send('127.0.0.11')]);
    t.equal(await dig(h, 'web', 'db'), '10.88.0.11', 'the daemon lives');
    t.equal((await h.net('dig', '+short', '@127.0.0.54', 'db')).trim(), '10.88.0.11');
  });

  t.test('a server that leads back to us is left out', async (t) => {
    await writeFile(h.outside('/etc/resolv.conf'), 'nameserver 127.0.0.54\nnameserver 127.0.0.101\n');
    await until('the loop to be seen', 20_000, () => /asks us what we ask it/.test(h.cnmd.log) || undefined);
    t.equal(await dig(h, 'web', 'loop.example'), '192.0.2.101');
    t.match(await h.cnm('dns', 'ls'), /127\.0\.0\.54 +loop/);
    await writeFile(h.outside('/etc/resolv.conf'), 'nameserver 127.0.0.101\n');
  });

  const log = h.spawn([
    NODE,
    join(REPOSITORY, 'inspect/cnm.ts'),
    'dns',
    'log',
    '--follow',
    '--name',
    'logged',
  ]);
  t.test('the log and the figures', async (t) => {
    await until('a line of the log', 20_000, async () => {
      await dig(h, 'web', 'logged.demo');
      return (
        /sandbox web .* udp {2}A {2}logged\.demo {2}NXDOMAIN 0 {2}inside-network/.test(log.stdout) ||
        undefined
      );
    });
    t.notMatch(log.stdout, /any\.example/);
    const figures = await h.sh('curl -s --unix-socket /run/cnm/cnm.sock http://cnm/metrics');
    t.match(figures, /cnm_dns_answers_total\{network="demo",rcode="NOERROR"\} [1-9]/);
    t.match(figures, /cnm_dns_upstream_total\{upstream="127\.0\.0\.101",outcome="answered"\} [1-9]/);
    t.match(await h.cnm('dns', 'ls'), /web +demo +10\.88\.0\.10/);
  });

  t.test('D20 port 53 of the host is taken, or is published', async (t) => {
    await upstream.kill('SIGKILL');
    await h.cnm('sandbox', 'leave', 'web2', '--network', 'demo');
    await h.killPlugin('SIGTERM');
    t.match(await log.exited, { code: 0 }, 'who follows the log is sent away, and not waited for');
    const holders = ['UDP4-RECV:53,bind=0.0.0.0', 'TCP4-LISTEN:53,bind=0.0.0.0,fork'].map((what) =>
      h.spawnNet(['socat', '-u', what, '/dev/null']),
    );
    await until(
      'port 53 to be taken',
      15_000,
      async () => /0\.0\.0\.0:53\b/.test(await h.net('ss', '-Hlun')) || undefined,
    );
    await h.startPlugin();
    await h.cnm('network', 'create', '--subnet', '10.91.0.0/24', 'busy');
    await enter(h, 'b1', 'busy', [], '--ip', '10.91.0.10');
    for (const transport of ['+notcp', '+tcp'])
      await until(
        `an answer ${transport}`,
        20_000,
        async () => (await dig(h, 'b1', '@10.91.0.1', transport, 'b1')) === '10.91.0.10' || undefined,
      );
    t.match(await h.cnm('dns', 'ls'), /host +127\.0\.0\.54#53 +.*EADDRINUSE/, 'what cannot be had is said');
    for (const holder of holders) await holder.kill('SIGKILL');
    await h.cnm('sandbox', 'join', 'web2', '--network', 'demo', '--publish', '10.88.0.1:53:53/udp');
    t.equal(
      await dig(h, 'web', '@10.88.0.1', 'db'),
      '10.88.0.11',
      'a container publishes port 53, and the gateway still answers',
    );
    await h.cnm('sandbox', 'rm', 'web2');
    await until(
      'the host’s own',
      20_000,
      async () =>
        (await h.tryNet('dig', '+short', '+tries=1', '+time=1', '@127.0.0.54', 'db')).stdout.trim() ===
          '10.88.0.11' || undefined,
    );
  });

  t.test('nothing stays', async (t) => {
    for (const name of ['web', 'db', 'in1', 'b1']) await h.cnm('sandbox', 'rm', name);
    for (const name of ['demo', 'quiet', 'busy']) await h.cnm('network', 'rm', name);
    t.equal(await h.sh('ls /run/cnm/resolv'), '');
    t.notMatch(await h.net('nft', 'list', 'set', 'inet', 'cnm', 'dns4'), /10\./);
    await until(
      'the doors to be closed',
      15_000,
      async () => !new RegExp(`:${GATEWAY_DNS_PORT}\\b`).test(await h.net('ss', '-Hlun')) || undefined,
    );
  });
});
