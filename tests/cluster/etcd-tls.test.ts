/**
 * TLS to a real etcd that wants to see its clients' certificates.
 *
 *     client ── etcd on loopback, its certificate and its clients' by an authority of the test's
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { good } from '../../store/cluster-suite.ts';
import { openEtcd } from '../../store/etcd.ts';
import { joinCluster } from '../../daemon/cluster.ts';
import { type Configuration, parseConfiguration } from '../../daemon/configuration.ts';
import { run, until } from '../lab/command.ts';
import { startEtcd } from './etcd-server.ts';

const folder = await mkdtemp(join(tmpdir(), 'cnm-tls-'));
t.teardown(() => rm(folder, { recursive: true, force: true }));
const file = (name: string) => join(folder, name);

async function authority(name: string): Promise<void> {
  await run([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-subj', `/CN=${name}`, '-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)],
  ]);
}

/** A certificate for 127.0.0.1, good for servers and clients. */
async function signed(name: string, by: string): Promise<void> {
  await run([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-CA', file(`${by}.pem`), '-CAkey', file(`${by}.key`), '-subj', `/CN=${name}`],
    ...['-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:false'],
    ...['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)],
  ]);
}

for (const name of ['ours', 'theirs']) await authority(name);
await signed('etcd', 'ours');
await signed('host', 'ours');
await signed('stranger', 'theirs');
const pem = (name: string) => readFile(file(`${name}.pem`));
const pair = async (name: string) => ({ cert: await pem(name), key: await readFile(file(`${name}.key`)) });

const server = await startEtcd(t, {
  arguments: [
    ...['--cert-file', file('etcd.pem'), '--key-file', file('etcd.key')],
    ...['--client-cert-auth', '--trusted-ca-file', file('ours.pem')],
  ],
  client: { ca: await pem('ours'), own: await pair('host') },
});

/** @param deadline of what is to fail: so long it takes */
async function attempt(t: Test, tls: Parameters<typeof openEtcd>[0]['tls'], deadline = 2000) {
  const store = openEtcd({ members: [server.member], deadline, ...(tls && { tls }) });
  t.teardown(() => store.close());
  return store.transact([], [{ put: 'x', value: 1 }]);
}

await t.test('with a certificate that etcd trusts, and one of etcd that we trust', async (t) => {
  good(await attempt(t, { ca: await pem('ours'), own: await pair('host') }, 60_000));
});

/** As a person says it to cnmd. */
function configured(flags: Readonly<Record<string, string>>): Configuration {
  const argv = Object.entries(flags).flatMap(([flag, value]) => [`--cluster${flag}`, value]);
  const request = parseConfiguration(argv, {}, ['bridge']);
  if (request.do !== 'run') throw new Error('not a configuration');
  return request.configuration;
}

await t.test('cnmd reads them from the files that its settings name', async (t) => {
  const url = `etcds://${server.member}`;
  const right = { '': url, '-ca': file('ours.pem'), '-cert': file('host.pem'), '-key': file('host.key') };
  const membership = await joinCluster(configured(right));
  t.teardown(() => membership?.store.close());
  const found = await until('etcd to answer', 30_000, async () => {
    const answer = await membership?.store.get('x');
    return answer?.ok === true ? answer : undefined;
  });
  t.match(found, { entry: { value: 1 } });

  const wrong: readonly (readonly [Readonly<Record<string, string>>, RegExp])[] = [
    [{ '-ca': file('none.pem') }, /^--cluster-ca: '.*none\.pem' cannot be used: ENOENT/],
    [{ '-ca': file('ours.key') }, /^--cluster-ca: '.*ours\.key' cannot be used: .*PEM/],
    [{ '-key': file('stranger.key') }, /^--cluster-key: '.*stranger\.key' is not the key of .*host\.pem\.$/],
  ];
  for (const [flags, message] of wrong)
    await t.rejects(joinCluster(configured({ ...right, ...flags })), { name: 'ConfigurationError', message });
});

await t.test(
  'nothing is sent to an etcd that we do not trust, and none of a stranger is taken',
  async (t) => {
    const tries = [
      { ca: await pem('theirs'), own: await pair('host') },
      { ca: await pem('ours'), own: await pair('stranger') },
      { ca: await pem('ours') },
      undefined,
    ];
    for (const tls of tries) t.match(await attempt(t, tls), { ok: false, reason: 'unreachable' });
  },
);
