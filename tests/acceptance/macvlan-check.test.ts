/*
 * `cnm network check` of macvlan networks: frames with a container's MAC on a LAN that answers them, on one that drops foreign MACs, and on
 * one where nobody is.
 *
 *   h: cnmd ── eth1 ══ eth1 r: 10.50.0.9, fd00:50::9, with no answer to foreign MACs for a while
 */
import t from 'tap';
import type { Test } from 'tap';
import type { CheckView } from '../../inspect/views.ts';
import { admin } from '../faults/crash-host.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';

t.test('cnm network check', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost({ drivers: ['bridge', 'macvlan'] });
  const r = await lab.peer({ name: 'r', uplink: false });
  await lab.link(
    { host: h, link: 'eth1', addresses: ['10.50.0.2/24'] },
    { host: r, link: 'eth1', addresses: ['10.50.0.9/24', 'fd00:50::9/64'] },
  );
  // The first sandbox makes the folder for all, the first bridge turns forwarding on.
  await admin(h, 'POST', '/v1/sandboxes', { name: 'first' });
  await admin(h, 'DELETE', '/v1/sandboxes/first');
  await admin(h, 'POST', '/v1/networks', { name: 'first' });
  await remove(h, 'first');
  const before = await snapshot(h);
  await create(h, 'lan', { parent: 'eth1' }, '10.50.0.9', 'fd00:50::9');
  await t.test('a LAN that answers', (t) => answers(t, h));
  await t.test('a LAN that drops foreign MACs', (t) => drops(t, h, r));
  await t.test('nobody to ask, nobody who answers, no LAN', (t) => nobody(t, h));
  await t.test('what is not tested', (t) => untested(t, h));
  await assertRestored(t, h, before);
});

async function create(
  h: CnmHost,
  name: string,
  options: Readonly<Record<string, string>>,
  ...gateways: readonly string[]
): Promise<void> {
  const subnets = ['10.50.0.0/24', ...(gateways.length > 1 ? ['fd00:50::/64'] : [])];
  const wanted = { name, driver: 'cnm-macvlan', subnets, gateways, ipv6: gateways.length > 1, options };
  const { status, text } = await admin(h, 'POST', '/v1/networks', wanted);
  if (status >= 300) throw new Error(text);
}

async function remove(h: CnmHost, name: string): Promise<void> {
  await admin(h, 'DELETE', `/v1/networks/${name}`);
}

type Findings = CheckView['findings'];

async function ask(h: CnmHost, name: string, ...addresses: readonly string[]): Promise<Findings> {
  const { body, status, text } = await admin(h, 'POST', `/v1/networks/${name}/check`, { ask: addresses });
  if (status !== 200) throw new Error(text);
  return (body as CheckView).findings;
}

function frames(findings: Findings): readonly string[] {
  return findings.filter(({ what }) => what === 'frames').map(({ result, detail }) => `${result}: ${detail}`);
}

async function answers(t: Test, h: CnmHost): Promise<void> {
  const { code, stdout } = await h.tryCnm('network', 'check', 'lan');
  t.equal(code, 0);
  t.match(
    stdout,
    /^ok +parent +eth1 is up and has a carrier\nok +NIC +eth1 \(veth\): nothing is known against it\n/,
  );
  t.match(stdout, /\nok +promiscuous +eth1 is not: /);
  for (const address of ['10.50.0.9', 'fd00:50::9'])
    t.match(stdout, `a frame with a container's MAC left by eth1, and ${address} (`);
  const json = JSON.parse(
    await h.cnm('network', 'check', 'lan', '--json', '--ask', '10.50.0.9'),
  ) as CheckView;
  t.match(json, { network: { name: 'lan' }, findings: [{ what: 'parent', result: 'ok' }] });
  await h.net('ip', 'link', 'set', 'eth1', 'promisc', 'on');
  const promiscuous = (await ask(h, 'lan')).find(({ what }) => what === 'promiscuous');
  t.match(promiscuous?.detail, 'eth1 is, because it was set so');
  await h.net('ip', 'link', 'set', 'eth1', 'promisc', 'off');
}

/** As a port of a switch that knows one MAC. */
async function drops(t: Test, h: CnmHost, r: Host): Promise<void> {
  const [{ address: mac = '' } = {}] = JSON.parse(await h.net('ip', '-j', 'link', 'show', 'eth1')) as {
    address?: string;
  }[];
  const rules = `table netdev port {
    chain in { type filter hook ingress device eth1 priority 0; ether saddr != ${mac} drop; }
  }`;
  await r.sh('nft -f -', { input: rules });
  const { code, stdout } = await h.tryCnm('network', 'check', 'lan');
  t.equal(code, 3);
  t.match(
    stdout,
    /failed +frames +10\.50\.0\.9 answers the MAC of eth1 and not a container's, whose frame left by eth1: the NIC, .* drops foreign MACs\n/,
  );
  t.match(stdout, /failed +frames +fd00:50::9 answers the MAC of eth1/);
  await r.sh('nft delete table netdev port');
  t.match(frames(await ask(h, 'lan')), [/^ok: .*10\.50\.0\.9/, /^ok: .*fd00:50::9/]);
}

async function nobody(t: Test, h: CnmHost): Promise<void> {
  await remove(h, 'lan');
  await create(h, 'mute', { parent: 'eth1' });
  t.match(frames(await ask(h, 'mute')), [
    /^unknown: nobody to ask: .* name an address of the LAN with --ask$/,
  ]);
  t.match(frames(await ask(h, 'mute', '10.50.0.77', '10.50.0.9')), [
    /^unknown: nobody answered for 10\.50\.0\.77, neither a container's MAC \(whose frame left by eth1\) nor the one of eth1/,
    /^ok: .*10\.50\.0\.9/,
  ]);
  await h.net('ip', 'link', 'set', 'eth1', 'down');
  const down = await h.tryCnm('network', 'check', 'mute', '--ask=10.50.0.9');
  t.match(down, { code: 3, stdout: /^failed +parent +eth1 is down/ });
  await h.net('ip', 'link', 'set', 'eth1', 'up');
  await remove(h, 'mute');
}

async function untested(t: Test, h: CnmHost): Promise<void> {
  await create(h, 'alone', { macvlan_mode: 'private' });
  t.match(await ask(h, 'alone'), [
    { what: 'parent', result: 'ok', detail: 'none: the network leads nowhere' },
  ]);
  await remove(h, 'alone');
  await admin(h, 'POST', '/v1/networks', { name: 'inner', subnets: ['10.51.0.0/24'] });
  t.same(await ask(h, 'inner'), []);
  const { status, text } = await admin(h, 'POST', '/v1/networks/inner/check', { ask: ['nonsense'] });
  t.equal(status, 400);
  t.match(text, 'must be an IP address');
  await remove(h, 'inner');
  t.equal((await admin(h, 'POST', '/v1/networks/none/check', {})).status, 404);
}
