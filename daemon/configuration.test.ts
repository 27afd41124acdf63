import t from 'tap';
import { ConfigurationError, parseConfiguration } from './configuration.ts';
import { usage } from './settings.ts';

const AVAILABLE = ['bridge'];
const run = (argv: string[], env: Record<string, string> = {}, available = AVAILABLE) => {
  const request = parseConfiguration(argv, env, available);
  if (request.do !== 'run') throw new Error(`expected a configuration, got ${request.do}`);
  return request.configuration;
};

t.test('nothing given: the defaults of a service', (t) => {
  t.strictSame(run([]), {
    drivers: ['bridge'],
    form: 'service',
    pluginDir: '/run/docker/plugins',
    stateDir: '/var/lib/cnm',
    runDir: '/run/cnm',
    adminSocket: '/run/cnm/cnm.sock',
    dockerSocket: '/run/docker.sock',
    defaultPools: [],
    addressRest: 60_000,
    resolvConf: '/etc/resolv.conf',
    dnsServeStale: 0,
    defaultSpace: 'cnm-local',
    overlayRekey: 3_600_000,
    dnsListen: [],
    clusterLease: 15,
    scope: 'local',
    logLevel: 'info',
    logFormat: 'text',
  });
  t.end();
});

t.test('every setting by flag, and a flag wins over its variable', (t) => {
  const env = { CNM_STATE_DIR: '/from/env', CNM_LOG_LEVEL: 'warn' };
  const given = run(
    ['--state-dir', '/s/', '--plugin-dir=/p', '--run-dir', '/r', '--admin-socket', '/a.sock'],
    env,
  );
  t.match(given, { stateDir: '/s', pluginDir: '/p', runDir: '/r', adminSocket: '/a.sock', logLevel: 'warn' });
  t.end();
});

t.test('where the host may ask for names', (t) => {
  t.equal(run(['--dns-serve-stale', '86400']).dnsServeStale, 86_400_000);
  t.match(run(['--overlay-keys', '/etc/cnm/keys', '--overlay-rekey', '3600']), {
    overlayKeys: '/etc/cnm/keys',
    overlayRekey: 3_600_000,
  });
  t.equal(run([]).clusterLease, 15);
  t.equal(run(['--cluster-lease', '3']).clusterLease, 3);
  t.throws(() => run(['--cluster-lease', '2']), /--cluster-lease: '2' must be .* from 3 to/);
  t.throws(
    () => run(['--overlay-rekey', '9']),
    /--overlay-rekey: '9' must be a whole number of seconds from 10 to/,
  );
  t.throws(
    () => run(['--dns-serve-stale', '1d']),
    /--dns-serve-stale: '1d' must be a whole number of seconds/,
  );
  t.strictSame(run(['--dns-listen', '127.0.0.54, ::1#5353']).dnsListen, [
    { address: '127.0.0.54', port: 53 },
    { address: '::1', port: 5353 },
  ]);
  for (const bad of ['localhost', '127.0.0.1#0', '127.0.0.1#99999', '127.0.0.1:53'])
    t.throws(() => run(['--dns-listen', bad]), new RegExp(`'${bad}' is no address to listen on`));
  t.end();
});

t.test('a cluster: members with their ports, and where this host is', (t) => {
  const given = run([
    '--cluster',
    'etcd://10.0.0.1,etcd-2.example:23790,[fd00::1]:2379',
    '--advertise',
    '192.0.2.10',
  ]);
  t.strictSame(given.cluster, ['10.0.0.1:2379', 'etcd-2.example:23790', '[fd00::1]:2379']);
  t.equal(given.advertise, '192.0.2.10');
  t.strictSame(run([], { CNM_CLUSTER: 'etcd://h' }).cluster, ['h:2379']);
  t.equal(given.defaultSpace, 'cnm-local');
  t.equal(run(['--default-space', 'cnm-global'], {}).defaultSpace, 'cnm-global');
  t.equal(run([], { DRIVER: 'bridge', ADVERTISE: '2001:DB8::1' }).advertise, '2001:db8::1');
  t.end();
});

t.test('an empty variable is one that is not set', (t) => {
  t.equal(run([], { CNM_STATE_DIR: '', DRIVER: '' }).stateDir, '/var/lib/cnm');
  t.end();
});

t.test('DRIVER makes it a managed plugin, with variables without a prefix', (t) => {
  const given = run([], { DRIVER: 'bridge', LOG_LEVEL: 'debug', CNM_LOG_LEVEL: 'error' });
  t.match(given, { form: 'managed', drivers: ['bridge'], logLevel: 'debug' });
  t.end();
});

t.test('several drivers, with and without the name that Docker knows', (t) => {
  const two = ['bridge', 'macvlan'];
  t.strictSame(run(['--drivers', 'cnm-macvlan, bridge'], {}, two).drivers, ['macvlan', 'bridge']);
  t.end();
});

t.test('help and version win over everything else', (t) => {
  t.equal(parseConfiguration(['--help', '--log-level', 'loud'], {}, AVAILABLE).do, 'help');
  t.equal(parseConfiguration(['--version'], {}, AVAILABLE).do, 'version');
  for (const word of ['--drivers', '--docker-socket', 'CNM_LOG_LEVEL', '/var/lib/cnm'])
    t.ok(usage(AVAILABLE).includes(word), `usage tells of ${word}`);
  t.end();
});

t.test('a bad value names the flag and what would be right', (t) => {
  const cases: readonly [argv: string[], env: Record<string, string>, says: RegExp][] = [
    [['--drivers', 'brigde'], {}, /^--drivers: there is no driver 'brigde'.*bridge/],
    [['--drivers', ''], {}, /^--drivers: there is no driver ''/],
    [['--drivers', 'bridge,cnm-bridge'], {}, /^--drivers: 'bridge' is named twice/],
    [[], { CNM_DRIVERS: 'x' }, /^CNM_DRIVERS: there is no driver 'x'/],
    [[], { DRIVER: 'ipvlan' }, /^DRIVER: there is no driver 'ipvlan'/],
    [['--drivers', 'bridge'], { DRIVER: 'bridge' }, /^Both --drivers and DRIVER/],
    [['--state-dir', 'cnm'], {}, /^--state-dir: 'cnm' is not an absolute path/],
    [[], { CNM_PLUGIN_DIR: './p' }, /^CNM_PLUGIN_DIR: '\.\/p' is not an absolute path/],
    [['--admin-socket', `/${'x'.repeat(107)}`], {}, /^--admin-socket: .* 108 bytes long.* 107/],
    [['--log-level', 'loud'], {}, /^--log-level: 'loud' .*debug/],
    [['--log-format', 'xml'], {}, /^--log-format: 'xml' .*json/],
    [[], { DRIVER: 'bridge', LOG_LEVEL: 'loud' }, /^LOG_LEVEL: 'loud'/],
    [['--cluster', 'http://h:2379'], {}, /^--cluster: 'http:\/\/h:2379' is no etcd; it must be as etcd:/],
    [
      ['--default-space', 'global'],
      {},
      /^--default-space: 'global' is unknown; it must be one of cnm-local, cnm-global/,
    ],
    [['--cluster', 'etcdx://h'], {}, /^--cluster: 'etcdx:\/\/h' is no etcd/],
    [['--cluster', 'etcd://h', '--cluster-ca', '/ca'], {}, /^--cluster-ca: it is for --cluster etcds:/],
    [['--cluster-key', '/k'], {}, /^--cluster-key: it is for --cluster etcds:/],
    [
      ['--cluster', 'etcds://h', '--cluster-cert', '/c'],
      {},
      /^--cluster-cert: --cluster-cert and --cluster-key must be given both/,
    ],
    [['--cluster', 'etcds://h', '--cluster-ca', 'ca'], {}, /^--cluster-ca: 'ca' is not an absolute path/],
    [['--cluster', 'etcd://'], {}, /^--cluster: '' is not a host, or host:port/],
    [['--cluster', 'etcd://h:2379,h:0'], {}, /^--cluster: 'h:0' is not a host/],
    [['--cluster', 'etcd://h:2379/x'], {}, /^--cluster: 'h:2379\/x' is not a host/],
    [['--cluster', 'etcd://fd00::1'], {}, /^--cluster: 'fd00::1' is not a host/],
    [[], { CNM_CLUSTER: 'consul://h' }, /^CNM_CLUSTER: 'consul:/],
    [['--advertise', 'eth0'], {}, /^--advertise: 'eth0' must be an address/],
    [[], { CNM_ADVERTISE: '10.0.0.1/24' }, /^CNM_ADVERTISE: /],
    [[], { CNM_ADVERTISE: '127.0.0.1' }, /^CNM_ADVERTISE: '127\.0\.0\.1' must be/],
    [['--verbose'], {}, /--verbose.*cnmd --help/],
    [['--state-dir'], {}, /--state-dir.*cnmd --help/],
    [['start'], {}, /start.*cnmd --help/],
  ];
  for (const [argv, env, says] of cases)
    t.throws(
      () => run(argv, env),
      { name: 'ConfigurationError', message: says },
      `${argv.join(' ')} ${JSON.stringify(env)}`,
    );
  t.end();
});

t.test('a managed plugin serves one driver', (t) => {
  t.throws(() => run([], { DRIVER: 'bridge,macvlan' }, ['bridge', 'macvlan']), ConfigurationError);
  t.end();
});

t.test('by which address other hosts reach this one', (t) => {
  t.equal(run(['--advertise', '2001:DB8::1']).advertise, '2001:db8::1');
  t.notOk('advertise' in run([]));
  t.end();
});

t.test('where subnets come from, and how long addresses rest', (t) => {
  const pools = 'base=10.64.0.0/12,size=24; base=fd00:1::/48,size=64';
  t.match(run(['--default-address-pools', pools, '--address-rest', '300']), {
    defaultPools: [
      { base: '10.64.0.0/12', size: 24 },
      { base: 'fd00:1::/48', size: 64 },
    ],
    addressRest: 300_000,
  });
  t.match(run([], { CNM_DEFAULT_ADDRESS_POOLS: 'size=26,base=10.0.0.0/8' }).defaultPools, [
    { base: '10.0.0.0/8', size: 26 },
  ]);
  const wrong: readonly (readonly [text: string, says: RegExp])[] = [
    ['10.0.0.0/8', /'10\.0\.0\.0\/8' must be as base=/],
    ['base=10.0.0.0/8', /must be as base=/],
    ['base=10.0.0.1/8,size=24', /host bits set; the subnet is 10\.0\.0\.0\/8/],
    ['base=10.0.0.0/8,size=7', /size=7 .* from 8 to 32/],
    ['base=10.0.0.0/8,size=33', /size=33/],
    ['base=fd00::/48,size=129', /from 48 to 128/],
    ['base=10.0.0.0/8,size=24;', /'' must be as/],
  ];
  for (const [text, says] of wrong) t.throws(() => run(['--default-address-pools', text]), says, text);
  for (const text of ['-1', '1.5', 'x', '700000'])
    t.throws(() => run([`--address-rest=${text}`]), /'.*' must be a whole number of seconds/, text);
  t.end();
});
