// lab: vm sctp
/*
 * Published ports of SCTP, which takes a kernel that has it, without Docker:
 *
 *   r 198.51.100.x, 2001:db8:1::x ── uplink ── eth0 h (cnmd): 198.51.100.y, 2001:db8:1::y
 *                                               └── n1 10.91.0.0/24, fd00:91::/64 ── web, next (SCTP 9001; 9000 of the host)
 *
 * Every answer is the server's name and the client's address as the server saw it.
 */
import t, { type Test } from 'tap';
import { ip } from '../../address/ip.ts';
import { type Running, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { ask as askDaemon, call, ready } from './encrypted.ts';

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];

/** What `next` publishes. */
const PORT = { ports: ['9000:9001/sctp'] };

/** Where a client's associations come from, so that the next one has the same addresses and ports. */
const CLIENT_PORT = 7000;

t.test('T02: SCTP', async (t) => {
  const lab = await openLab(t);
  const [h, r] = await Promise.all([lab.bareHost(), lab.peer()]);
  await ready(h);
  await call(h, 'POST', '/networks', { name: 'n1', subnets: ['10.91.0.0/24', 'fd00:91::/64'], ipv6: true });
  const web = await serve(h, 'web', '9000:9001/sctp');
  const next = await serve(h, 'next');

  await t.test('a client elsewhere is served, and the server sees its address', async (t) => {
    for (const family of FAMILIES) {
      const address = family === 4 ? r.address : r.address6;
      t.equal(await ask(r, h, family, 9000), `web ${address}`, `IPv${family}`);
      t.equal(await ask(r, h, family, 9001), 'refused', 'the container’s own number is not one of the host');
    }
  });
  await t.test('the port is held', (t) => assertHeld(t, h));
  await t.test('it changes hands', (t) => changesHands(t, h, r));
  await Promise.all([...web, ...next].map((server) => server.kill('SIGKILL')));
  for (const name of ['web', 'next']) await call(h, 'DELETE', `/sandboxes/${name}`);
  t.equal(await tracked(h), '', 'nothing of it is left: no association,');
  t.notMatch(await h.net('cat', '/proc/net/sctp/eps'), ' 9000 ', 'no socket');
});

/** A sandbox on n1 with a server for each family, which keeps its associations until the client ends them. */
async function serve(h: CnmHost, name: string, ...ports: string[]): Promise<readonly Running[]> {
  const { path } = (await call(h, 'POST', '/sandboxes', { name })) as { path: string };
  await call(h, 'POST', `/sandboxes/${name}/join`, { network: 'n1', ports });
  const servers = FAMILIES.map((family) => {
    const listen = `SCTP${family}-LISTEN:9001,fork${family === 6 ? ',ipv6only' : ''}`;
    const answer = `SYSTEM:echo ${name} $SOCAT_PEERADDR; exec cat`;
    return h.spawn(['nsenter', `--net=${path}`, '--', 'socat', listen, answer]);
  });
  const listening = async () =>
    (await h.run(['nsenter', `--net=${path}`, '--', 'cat', '/proc/net/sctp/eps'])).split(' 9001 ').length ===
      3 || undefined;
  await until(`${name} to listen`, 10_000, listening);
  return servers;
}

/** Opens an association that stays. */
function associate(from: Host, to: Host, family: Family, port: number, options = ''): Running {
  const address = family === 4 ? to.address : `[${to.address6}]`;
  return from.spawnNet(['socat', '-u', `SCTP${family}-CONNECT:${address}:${port}${options}`, '-']);
}

/** What the first line of an association's answer says; `refused` where there is no server. */
async function answerOf(association: Running): Promise<string> {
  return until('an answer', 10_000, () => {
    const [, name, address] = /^(\S+) (\S+)\n/.exec(association.stdout) ?? [];
    // socat writes an IPv6 address in full and in brackets.
    if (name !== undefined && address !== undefined) return `${name} ${ip(address.replace(/[[\]]/g, ''))}`;
    if (association.alive) return undefined;
    return association.stderr.includes('Connection refused') ? 'refused' : association.stderr;
  });
}

async function ask(from: Host, to: Host, family: Family, port: number): Promise<string> {
  const association = associate(from, to, family, port);
  try {
    return await answerOf(association);
  } finally {
    await association.kill('SIGKILL');
  }
}

async function assertHeld(t: Test, h: CnmHost): Promise<void> {
  for (const family of FAMILIES) {
    const bind = ['socat', '-u', `SCTP${family}-LISTEN:9000,reuseaddr`, '-'];
    const { code, stderr } = await h.tryNet(...bind);
    t.equal(code, 1, `IPv${family}`);
    t.match(stderr, /Address already in use/);
  }
  const second = await askDaemon(h, 'POST', '/endpoints/next/publish', PORT);
  t.ok(second.status >= 400);
  t.match(second.text, /Port 9000\/sctp on 0\.0\.0\.0.* is not free: .*web/);
}

/**
 * An SCTP client that starts anew takes the same port again as a rule (RFC 9260 §5.2), so that its packets look like those of the
 * association that was: they must not be led to the former owner of the port.
 */
async function changesHands(t: Test, h: CnmHost, r: Host): Promise<void> {
  const from = `,sourceport=${CLIENT_PORT}`;
  const old = associate(r, h, 4, 9000, from);
  t.equal(await answerOf(old), `web ${r.address}`);
  t.match(
    await tracked(h),
    new RegExp(`sport=${CLIENT_PORT} dport=9000 `),
    'the kernel follows the association',
  );
  await call(h, 'POST', '/endpoints/web/unpublish');
  t.equal(await tracked(h), '', 'and has forgotten it');
  await old.kill('SIGKILL');
  for (const family of FAMILIES)
    t.equal(await ask(r, h, family, 9000), 'refused', `IPv${family}: nobody has the port`);
  const { code, stdout } = await h.tryNet('timeout', '1', 'socat', '-u', 'SCTP4-LISTEN:9000', '-');
  t.same({ code, stdout }, { code: 124, stdout: '' }, 'so that another process may take it');
  await call(h, 'POST', '/endpoints/next/publish', PORT);
  for (const family of FAMILIES) {
    const association = associate(r, h, family, 9000, from);
    t.equal(await answerOf(association), `next ${family === 4 ? r.address : r.address6}`, `IPv${family}`);
    await association.kill('SIGKILL');
  }
}

/** Associations that conntrack knows, to ports of the host. */
async function tracked(h: CnmHost): Promise<string> {
  const { stdout } = await h.tryNet('conntrack', '-L', '-p', 'sctp');
  return stdout
    .split('\n')
    .filter((line) => line.includes('dport=9000 '))
    .join('\n');
}
