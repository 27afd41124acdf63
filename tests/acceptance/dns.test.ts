/*
 * Names of containers, asked for at three doors: our resolver inside the container (127.0.0.12), on the gateway, and Docker's own (127.0.0.11).
 *
 *   h1: dockerd 20.10 + cnm-bridge + the resolver
 *    ├── n1       10.70.0.0/24 fd00:70::/64   -o dns=on    beta, web, db …
 *    ├── br.net1  10.71.0.0/24                -o dns=on    c1.net1, web
 *    ├── far      10.72.0.0/24                             only-far
 *    ├── quiet    10.73.0.0/24 --internal     -o dns=on    in1, a DNS server of its own
 *    └── lo: servers that the host's resolv.conf names: 127.0.0.101 answers, .102 fails, .103 refuses, .104 is silent
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Running, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { dig, type Reply } from './dig.ts';
import { muslResolve, resolved } from './musl.ts';

const OWN = '@127.0.0.12';
const DOCKERS = '@127.0.0.11';
const GATEWAY = '@10.70.0.1';
const TYPES = join(REPOSITORY, 'tests/acceptance');

/** Network namespaces of containers, so that not every question asks Docker for one. */
const sandboxes = new Map<string, string>();

const ask = (container: string, ...words: string[]) => dig(sandboxes.get(container) ?? '', ...words);

async function upstream(h: DockerHost, address: string, way: string): Promise<Running> {
  const running = h.spawnNet([NODE, join(TYPES, 'dns-upstream.ts'), address, way]);
  await until(`the server on ${address}`, 20_000, () => running.stdout.includes('ready') || undefined);
  return running;
}

const asked = (server: Running) => server.stdout.split('\n').filter((line) => / /.test(line));

/** Writes the host's resolv.conf, and waits until the resolver has read it. */
async function servers(h: DockerHost, ...addresses: string[]): Promise<void> {
  const text = addresses.map((address) => `nameserver ${address}\n`).join('');
  await writeFile(h.outside('/etc/resolv.conf'), text);
  await until('the new servers', 20_000, async () => {
    const view = JSON.parse(await h.cnm('dns', 'ls', '--json')) as { upstreams: { address: string }[] };
    const there = view.upstreams.map(({ address }) => address);
    return there.toSorted().join() === addresses.toSorted().join() || undefined;
  });
}

const eventually = (container: string, words: string[], good: (reply: Reply) => boolean) =>
  until(`dig ${words.join(' ')}`, 20_000, async () => {
    const reply = await ask(container, ...words);
    return good(reply) ? reply : undefined;
  });

t.test('names', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const good = await upstream(h, '127.0.0.101', '192.0.2.101');
  await servers(h, '127.0.0.101');
  const create = (name: string, subnet: string, ...more: string[]) =>
    h.docker('network', 'create', '-d', 'cnm-bridge', '--subnet', subnet, ...more, name);
  await create('n1', '10.70.0.0/24', '--ipv6', '--subnet', 'fd00:70::/64', '-o', 'dns=on');
  await create('br.net1', '10.71.0.0/24', '-o', 'dns=on');
  await create('far', '10.72.0.0/24');
  await create('quiet', '10.73.0.0/24', '--internal', '-o', 'dns=on');
  const locate = async (name: string) => sandboxes.set(name, await h.sandbox(name));
  const run = async (name: string, network: string, ...more: string[]) => {
    const servers = more.includes('--dns') ? [] : ['--dns', '127.0.0.12'];
    const words = ['--name', name, '--network', network, ...servers, ...more];
    const id = await h.docker('run', '-d', ...words, 'cnm-lab');
    await locate(name);
    return id;
  };
  const beta = await run(
    'beta',
    'n1',
    '--hostname',
    'beta-host',
    '--ip',
    '10.70.0.20',
    '--ip6',
    'fd00:70::20',
    '--expose',
    '80',
  );
  await run('web', 'n1', '--network-alias', 'api', '--ip', '10.70.0.21');
  await run('only-far', 'far', '--ip', '10.72.0.20');
  await eventually('web', [OWN, 'beta'], ({ status }) => status === 'NOERROR');
  const doors = [OWN, GATEWAY, DOCKERS];

  t.test('D01 a name in any letters, at every door', async (t) => {
    for (const door of doors)
      for (const name of ['beta', 'BeTa', 'beta.n1', 'beta-host', beta.slice(0, 12)]) {
        const reply = await ask('web', door, name);
        t.match(reply, { status: 'NOERROR', question: name, answers: ['10.70.0.20'] }, `${name} ${door}`);
        t.match(reply.flags, /\bra\b/);
      }
    t.match(await ask('web', OWN, 'beta', 'AAAA'), { answers: ['fd00:70::20'] });
    t.match(
      await h.exec('web', 'getent', 'ahostsv4', 'beta'),
      /^10\.70\.0\.20 /,
      'glibc, through 127.0.0.11',
    );
    t.match(await h.exec('web', 'ping', '-4', '-c1', '-W3', 'beta'), '(10.70.0.20)');
  });

  t.test('D03 types that a name has not stay here', async (t) => {
    const before = asked(good).length;
    for (const door of [OWN, GATEWAY])
      for (const type of ['MX', 'TXT', 'SRV', 'HTTPS', 'NS']) {
        const reply = await ask('web', door, 'beta', type);
        t.match(reply, { status: 'NOERROR', answers: [] }, `${type} ${door}`);
        t.match(reply.raw, /SOA/, 'with a SOA to remember it by');
      }
    t.match(await ask('web', DOCKERS, 'beta', 'MX'), { status: 'NOERROR', answers: [] });
    t.match((await ask('web', OWN, '_80._tcp.beta', 'SRV')).answers, ['0 0 80 beta.n1.']);
    t.match((await ask('web', OWN, 'nobody')).status, 'NXDOMAIN');
    t.match((await ask('web', OWN, 'nobody.n1')).status, 'NXDOMAIN');
    t.same(asked(good).slice(before), [], 'nothing of it was asked of others');
  });

  t.test('D04 another network’s names and addresses are not to be had', async (t) => {
    for (const door of [OWN, GATEWAY]) {
      t.match(await ask('web', door, 'only-far'), { status: 'NXDOMAIN' });
      t.match(await ask('web', door, 'only-far.far'), { status: 'NXDOMAIN' });
      t.match(await ask('web', door, '-x', '10.72.0.20'), { status: 'NXDOMAIN' });
    }
    // Of its start we may hear later than of the others'.
    await eventually(
      'only-far',
      ['@10.72.0.1', 'only-far'],
      ({ answers }) => answers.join() === '10.72.0.20',
    );
    t.match(await ask('only-far', '@10.72.0.1', 'beta'), { status: 'NXDOMAIN' });
  });

  t.test('D05 S02 an alias of two: in varying order, while they run', async (t) => {
    await run('web2', 'n1', '--network-alias', 'api', '--ip', '10.70.0.22');
    for (const door of doors) {
      await eventually('beta', [door, 'api'], ({ answers }) => answers.length === 2);
      const { stdout } = await h.tryInContainer(
        'beta',
        {},
        'dig',
        '+short',
        door,
        ...Array<string>(20).fill('api'),
      );
      const lines = stdout.trim().split('\n');
      const orders = new Set(
        lines.flatMap((one, n) => (n % 2 === 0 ? [`${one} ${lines[n + 1] ?? ''}`] : [])),
      );
      t.same([...orders].sort(), ['10.70.0.21 10.70.0.22', '10.70.0.22 10.70.0.21'], door);
    }
    await h.docker('stop', '-t', '1', 'web2');
    for (const door of doors)
      t.same((await ask('beta', door, 'api')).answers, ['10.70.0.21'], `one is stopped: ${door}`);
    await h.docker('stop', '-t', '1', 'web');
    t.match(await ask('beta', OWN, 'api'), { status: 'NXDOMAIN', answers: [] });
    await h.docker('start', 'web');
    await locate('web');
    await eventually('beta', [OWN, 'api'], ({ answers }) => answers.join() === '10.70.0.21');
    await h.docker('rm', '-f', 'web2');
  });

  t.test('D06 an alias is of its network, until it is left', async (t) => {
    await h.docker('network', 'connect', '--alias', 'there', 'br.net1', 'web');
    await run('peer', 'br.net1');
    await eventually('peer', [OWN, 'there'], ({ answers }) => answers.length === 1);
    t.match(await ask('beta', OWN, 'there'), { status: 'NXDOMAIN' });
    const id = (await h.docker('inspect', '-f', '{{.Id}}', 'web')).slice(0, 12);
    t.match((await ask('peer', OWN, id)).status, 'NOERROR', 'short id');
    await h.docker('network', 'disconnect', 'br.net1', 'web');
    t.match(await ask('peer', OWN, 'there'), { status: 'NXDOMAIN' }, 'at once');
    t.match((await ask('beta', OWN, id)).answers, ['10.70.0.21']);
  });

  t.test('D07 names and networks with dots', async (t) => {
    await run('c1.net1', 'br.net1', '--ip', '10.71.0.30');
    for (const name of ['c1.net1', 'c1.net1.br.net1']) {
      await eventually('peer', [OWN, name], ({ answers }) => answers.join() === '10.71.0.30');
      t.match(await ask('peer', DOCKERS, name), { answers: ['10.71.0.30'] });
    }
    const others = await ask('peer', OWN, 'c1.net1.br.net1.google.com');
    t.match(others, { answers: ['192.0.2.101'] }, 'not ours: the host’s server answered');
  });

  t.test('the C libraries, musl and glibc, at every door', async (t) => {
    const program = await muslResolve(h);
    const at = (container: string, server: string, more = '') =>
      h.docker('exec', container, 'sh', '-c', `printf 'nameserver ${server}\n${more}' > /etc/resolv.conf`);
    const musl = async (container: string, ...names: string[]) =>
      resolved(await h.exec(container, '/resolve', ...names));
    const glibc = async (...names: string[]) => {
      const each = 'for n in "$@"; do echo $n $(getent ahosts $n | cut -d " " -f 1 | sort -u); done';
      return resolved(await h.exec('web', 'sh', '-c', each, 'sh', ...names));
    };
    for (const name of ['web', 'peer']) await h.docker('cp', program, `${name}:/resolve`);
    const both = '10.70.0.20 fd00:70::20';
    for (const door of ['127.0.0.11', '127.0.0.12', '10.70.0.1']) {
      await at('web', door, 'search n1\n');
      t.same(
        await musl('web', 'beta', 'BeTa', 'beta.n1', 'nobody', 'nobody.n1', 'musl.example'),
        {
          beta: both,
          BeTa: both,
          'beta.n1': both,
          nobody: 'Name does not resolve',
          'nobody.n1': 'Name does not resolve',
          'musl.example': '192.0.2.101',
        },
        `musl, ${door}`,
      );
      t.same(
        await glibc('beta', 'BeTa', 'beta.n1', 'nobody', 'nobody.n1', 'glibc.example'),
        {
          beta: both,
          BeTa: both,
          'beta.n1': both,
          nobody: '',
          'nobody.n1': '',
          'glibc.example': '192.0.2.101',
        },
        `glibc, ${door}`,
      );
    }
    // IPv4 alone: that there is no AAAA must not make musl give up.
    for (const door of ['127.0.0.11', '127.0.0.12', '10.71.0.1']) {
      await at('peer', door);
      t.same(await musl('peer', 'c1.net1', 'c1.net1.br.net1'), {
        'c1.net1': '10.71.0.30',
        'c1.net1.br.net1': '10.71.0.30',
      });
    }
    await at('web', '127.0.0.11');
  });

  t.test('D08 renamed, and a hostname', async (t) => {
    await h.docker('rename', 'only-far', 'far-away');
    await locate('far-away');
    await eventually(
      'far-away',
      ['@10.72.0.1', 'far-away'],
      ({ answers }) => answers.join() === '10.72.0.20',
    );
    t.match(await ask('far-away', '@10.72.0.1', 'only-far'), { status: 'NXDOMAIN' });
    t.match((await ask('web', OWN, 'beta-host')).answers, ['10.70.0.20']);
  });

  t.test('D09 addresses', async (t) => {
    const before = asked(good).length;
    for (const door of doors) {
      t.same((await ask('web', door, '-x', '10.70.0.20')).answers, ['beta.n1.'], door);
      t.same((await ask('web', door, '-x', 'fd00:70::20')).answers, ['beta.n1.'], door);
    }
    t.match(await ask('web', OWN, '-x', '10.70.0.99'), { status: 'NXDOMAIN', answers: [] });
    t.same(asked(good).slice(before), [], 'our subnets are asked of nobody');
  });

  t.test('D10 a name of 64 characters', async (t) => {
    const id = await run('x'.repeat(64), 'n1', '--ip', '10.70.0.64', '--hostname', 'short');
    await eventually('web', [OWN, 'short'], ({ answers }) => answers.length === 1);
    t.match(
      (await ask('web', OWN, '-x', '10.70.0.64')).answers,
      [`${id.slice(0, 12)}.n1.`],
      'told by a name that can be one',
    );
    t.match(h.cnmd.log, /no domain name, and left out/);
    await h.docker('rm', '-f', 'x'.repeat(64));
    t.match((await ask('web', OWN, 'beta')).answers, ['10.70.0.20'], 'alive');
  });

  t.test('D21 aliases that cannot be names', async (t) => {
    await run(
      'odd',
      'n1',
      '--network-alias',
      'a b',
      '--network-alias',
      'a,b',
      '--network-alias',
      'a\nb',
      '--network-alias',
      'fine',
      '--ip',
      '10.70.0.65',
    );
    await eventually('web', [OWN, 'fine'], ({ answers }) => answers.join() === '10.70.0.65');
    t.match((await ask('web', OWN, 'odd')).answers, ['10.70.0.65']);
    await h.docker('rm', '-f', 'odd');
  });

  t.test('S04 an address under new names', async (t) => {
    for (const name of ['first', 'second', 'third']) {
      await run(name, 'n1', '--ip', '10.70.0.66');
      await eventually('web', [OWN, name], ({ answers }) => answers.join() === '10.70.0.66');
      t.same((await ask('web', OWN, '-x', '10.70.0.66')).answers, [`${name}.n1.`]);
      await h.docker('rm', '-f', name);
      t.match(await ask('web', OWN, name), { status: 'NXDOMAIN' });
      t.match(await ask('web', OWN, '-x', '10.70.0.66'), { status: 'NXDOMAIN' });
    }
  });

  t.test('D11 others’ NXDOMAIN, with its SOA', async (t) => {
    for (const door of doors) {
      const reply = await ask('web', door, 'no.example');
      t.match(reply.status, 'NXDOMAIN', door);
      t.match(reply.raw, /SOA\s+ns\.example\. root\.example\. 7/, door);
    }
  });

  t.test('D12 D19 servers that fail, and a resolv.conf that changes', async (t) => {
    await upstream(h, '127.0.0.102', 'servfail');
    await upstream(h, '127.0.0.103', 'refused');
    const silent = await upstream(h, '127.0.0.104', 'silent');
    const linkLocal =
      /inet6 (fe80\S+)\/64/.exec(
        await h.net('ip', '-6', 'address', 'show', 'dev', 'eth0', 'scope', 'link'),
      )?.[1] ?? '';
    await upstream(h, `${linkLocal}%eth0`, '192.0.2.106');
    let n = 0;
    const quickest: number[] = [];
    for (const bad of ['127.0.0.102', '127.0.0.103', '127.0.0.104']) {
      await servers(h, bad, '127.0.0.101');
      for (const door of doors)
        for (const transport of ['+notcp', '+tcp']) {
          const reply = await ask('web', door, `d12-${(n += 1)}.example`, transport);
          // dig gives up after 5 s: no query took longer.
          t.match(reply, { answers: ['192.0.2.101'] }, `${bad} ${door} ${transport}`);
          if (door !== DOCKERS) quickest.push(reply.took);
        }
      const took = Math.min(...quickest.splice(0));
      t.ok(took < 3_000, `${bad}: ${took} ms`);
    }
    const names = Array.from({ length: 20 }, (_, more) => `d12-more-${more}.example`);
    const { stdout } = await h.tryInContainer('web', {}, 'dig', '+short', OWN, ...names);
    t.same(stdout.trim().split('\n'), Array<string>(20).fill('192.0.2.101'));
    const many = asked(silent).length;
    t.ok(many < 13, `of 26 questions few went to the dead server: ${many}`);
    await servers(h, `${linkLocal}%eth0`);
    t.match(await ask('web', OWN, 'd19.example'), { answers: ['192.0.2.106'] }, 'link-local');
    await servers(h, '127.0.0.101');
  });

  t.test('D14 several questions on one connection', async (t) => {
    const { stdout } = await h.tryInContainer(
      'web',
      {},
      'dig',
      '+tcp',
      '+keepopen',
      '+short',
      OWN,
      'beta',
      'web',
      'three.example',
    );
    t.same(stdout.trim().split('\n'), ['10.70.0.20', '10.70.0.21', '192.0.2.101']);
  });

  t.test('D17 an internal network: no servers of others, but one of its own', async (t) => {
    await run('in1', 'quiet', '--ip', '10.73.0.20');
    await eventually('in1', [OWN, 'in1'], ({ answers }) => answers.length === 1);
    const before = asked(good).length;
    t.match(await ask('in1', OWN, '+time=2', 'www.example'), { status: 'SERVFAIL' }, 'at once');
    t.same(asked(good).slice(before), [], 'nothing was asked of others');
    const inside = ['nsenter', `--net=${await h.sandbox('in1')}`, '--'];
    const own = h.spawnNet([...inside, NODE, join(TYPES, 'dns-upstream.ts'), '10.73.0.20', '192.0.2.73']);
    await until('the server inside', 20_000, () => own.stdout.includes('ready') || undefined);
    await run('in2', 'quiet', '--dns', '10.73.0.20');
    t.match(await ask('in2', DOCKERS, 'www.example'), { answers: ['192.0.2.73'] });
  });

  t.test('D23 a host that lets nothing in', async (t) => {
    await h.sh('iptables -P INPUT DROP && iptables -A INPUT -i lo -j ACCEPT');
    for (const door of [OWN, DOCKERS])
      t.match(await ask('web', door, 'beta'), { answers: ['10.70.0.20'] }, door);
    t.match(await ask('web', DOCKERS, 'd23.example'), { answers: ['192.0.2.101'] });
    await h.sh('iptables -P INPUT ACCEPT && iptables -F INPUT');
  });

  t.test('D24 a network’s name of 115 characters; one container’s own servers', async (t) => {
    const long = 'n'.repeat(115);
    await create(long, '10.75.0.0/24', '-o', 'dns=on');
    await run('l1', long, '--ip', '10.75.0.20');
    await run('l2', long, '--dns', '127.0.0.104');
    await eventually('l1', [OWN, 'l2'], ({ answers }) => answers.length === 1);
    t.match(
      (await ask('l1', OWN, 'd24.example')).answers,
      ['192.0.2.101'],
      'the other’s servers are its own',
    );
    await h.docker('rm', '-f', 'l1', 'l2');
    await h.docker('network', 'rm', long);
  });

  t.test('D22 2000 questions that hang, and local names', async (t) => {
    await servers(h, '127.0.0.104');
    const load = [NODE, join(TYPES, 'dns-load.ts'), '127.0.0.12', '2000', 'web'];
    const { stdout } = await h.tryInContainer('beta', { timeout: 120_000 }, ...load);
    t.equal(stdout.trim(), '200', 'all local names are answered');
    await servers(h, '127.0.0.101');
  });

  t.test('scenario 6: service discovery, step by step', async (t) => {
    const conf = await h.docker(
      'run',
      '--rm',
      '--network',
      'n1',
      '--dns',
      '127.0.0.12',
      '--dns-search',
      'n1',
      '--dns-search',
      'dev.example',
      'cnm-lab',
      'cat',
      '/etc/resolv.conf',
    );
    t.match(conf, /^nameserver 127\.0\.0\.11$/m);
    t.match(conf, /^search n1 dev\.example$/m);
    const search = ['--dns', '127.0.0.12', '--dns-search', 'n1', '--dns-search', 'dev.example'];
    const found = ['run', '--rm', '--network', 'n1', ...search, 'cnm-lab', 'getent', 'ahostsv4'];
    t.match(await h.docker(...found, 'six'), /^192\.0\.2\.101 /, 'as six.dev.example, which others know');
    t.ok(asked(good).includes('udp A six.dev.example'), 'by way of the search list');
    t.notOk(
      asked(good).some((line) => / six(?:\.n1)?$/.test(line)),
      'and not before',
    );
    const view = JSON.parse(await h.cnm('dns', 'query', 'web', '--from', 'beta', '--json')) as object;
    t.match(view, { rule: 'name', rcode: 'NOERROR', records: ['web 10 A 10.70.0.21'] });
    t.match(JSON.parse(await h.cnm('dns', 'query', 'six.example', '--from', 'beta', '--json')), {
      rule: 'forward',
      upstream: '127.0.0.101',
    });
    const none = await h.tryCnm('dns', 'query', 'far-away', '--from', 'beta');
    t.match(none, { code: 1, stdout: /single-label/ }, 'names are of their network');
    t.match(await h.exec('beta', 'ping', '-4', '-c1', '-W3', 'web.n1'), '(10.70.0.21)');
  });

  t.test('a restart of the daemon', async (t) => {
    await h.killPlugin('SIGKILL');
    await h.startPlugin();
    await eventually('web', [OWN, 'beta'], ({ answers }) => answers.join() === '10.70.0.20');
    await eventually('web', [GATEWAY, 'beta'], ({ answers }) => answers.join() === '10.70.0.20');
    t.pass('names are learned again');
  });
});
