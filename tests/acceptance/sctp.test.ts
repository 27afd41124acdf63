// lab: vm sctp nf_conntrack nft_chain_nat
/*
 * T02: a published port of SCTP, which needs a kernel that has it.
 *
 *   r 198.51.100.11 ── uplink ── eth0 h1 (cnmd) ── n1 10.91.0.0/24, fd00:91::/64 ── web (SCTP 9001; 9000 of the host)
 */
import t from 'tap';
import { until } from '../lab/command.ts';
import { openLab } from '../lab/lab.ts';

t.test('SCTP', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost({ name: 'h1' });
  const r = await lab.peer({ name: 'r' });
  await h.cnm('network', 'create', '--subnet=10.91.0.0/24', '--ipv6', '--subnet=fd00:91::/64', 'n1');
  await h.cnm('sandbox', 'create', 'web');
  await h.cnm('sandbox', 'join', 'web', '--network', 'n1', '-p', '9000:9001/sctp');
  for (const family of [4, 6]) {
    // The server says whom it sees.
    const server = h.spawn([
      'cnm',
      'sandbox',
      'exec',
      'web',
      '--',
      'socat',
      `SCTP${family}-LISTEN:9001,fork`,
      'SYSTEM:echo $SOCAT_PEERADDR',
    ]);
    const address = family === 4 ? h.address : `[${h.address6}]`;
    const ask = (port: number) =>
      r.tryNet('socat', '-T3', '-', `SCTP${family}-CONNECT:${address}:${port},connect-timeout=3`);
    const seen = await until(
      'the server to answer',
      20_000,
      async () => (await ask(9000)).stdout.trim() || undefined,
    );
    t.equal(seen.replace(/[[\]]/g, ''), seen.startsWith('[') ? full(r.address6) : r.address, `IPv${family}`);
    t.equal((await ask(9001)).stdout, '', 'the port of the container is not one of the host');
    await server.kill();
  }
  const other = ['socat', 'SCTP4-LISTEN:9000', '-'];
  t.match((await h.tryRun(other, { timeout: 10_000 })).stderr, 'Address already in use', 'the port is held');
  await h.cnm('sandbox', 'rm', 'web');
  t.equal(
    (await r.tryNet('socat', '-T3', '-', `SCTP4-CONNECT:${h.address}:9000,connect-timeout=3`)).stdout,
    '',
  );
  await h.cnm('network', 'rm', 'n1');
});

/** As socat writes an IPv6 address. */
function full(address: string): string {
  const [head = '', tail = ''] = address.split('::');
  const [left, right] = [head.split(':'), tail.split(':')];
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].map((part) => part.padStart(4, '0')).join(':');
}
