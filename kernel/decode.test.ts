/** Requests and answers have one form, so that the encoders, which are held to ip(8), make the messages here; tests/kernel decodes what Linux says. */
import t from 'tap';
import { decodeAddress, decodeLink, decodeRoute, sameRoute } from './decode.ts';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { createMacvlan, createVlan } from './sub-interface.ts';
import { addAddress, addRoute, changeLink, changePort, createBridge, createVeth } from './rtnetlink.ts';

function message(data: Uint8Array): Parameters<typeof decodeLink>[0] {
  return { type: 16, flags: 0, seq: 1, port: 0, data: Buffer.from(data) };
}

t.test('a link that was just made: our group, no alias', (t) => {
  const link = decodeLink(message(createBridge({ index: 7, name: 'br0' }).data));
  t.match(link, { name: 'br0', index: 7, kind: 'bridge', up: false, master: 0, mark: { network: '' } });
  const veth = createVeth({ index: 8, name: 'a', mtu: 1300 }, { index: 9, name: 'b' });
  t.match(decodeLink(message(veth.data)), { name: 'a', index: 8, kind: 'veth', mtu: 1300 });
  t.end();
});

t.test('the settings of a bridge’s port', (t) => {
  for (const flags of [
    { isolated: true, hairpin: false },
    { isolated: false, hairpin: true },
  ]) {
    const { data } = changePort(7, flags);
    t.match(decodeLink(message(data)), flags);
    // The same numbers mean something else in other masters.
    const bond = Buffer.from(Buffer.from(data).toString('latin1').replace('bridge', 'bondXX'), 'latin1');
    t.notOk('isolated' in decodeLink(message(bond)));
  }
  t.end();
});

t.test('links on another link', (t) => {
  const child = { index: 8, name: 'child' };
  for (const mode of ['bridge', 'vepa', 'private', 'passthru'] as const) {
    const { data } = createMacvlan(child, 7, { mode, promisc: false });
    t.match(decodeLink(message(data)), { kind: 'macvlan', peerIndex: 7, macvlanMode: mode });
  }
  const { data } = createVlan(child, 7, { id: 100, protocol: '802.1ad' });
  const vlan = { id: 100, protocol: '802.1ad' };
  t.match(decodeLink(message(data)), { kind: 'vlan', peerIndex: 7, vlan });
  // vlan_fill_info() has the protocol first; nothing says that it must.
  const hex = Buffer.from(data).toString('hex');
  const swapped = hex.replace(
    '0600050088a80000' + '0600010064000000',
    '0600010064000000' + '0600050088a80000',
  );
  t.not(swapped, hex);
  t.match(decodeLink(message(Buffer.from(swapped, 'hex'))), { vlan });
  t.end();
});

t.test('marks', (t) => {
  const marked = (alias: string): unknown => decodeLink(message(changeLink(1, { alias }).data)).mark;
  t.same(marked('cnm n'), { network: 'n' });
  t.same(marked('cnm n e'), { network: 'n', endpoint: 'e' });
  for (const alias of ['', 'cnm', 'cnm ', 'cnm a b c', 'xcnm n', 'my cnm n', 'CNM n']) {
    t.equal(marked(alias), undefined, JSON.stringify(alias));
  }
  t.equal(decodeLink(message(changeLink(1, { alias: 'uplink', group: 0x636e6d }).data)).mark, undefined);
  t.end();
});

t.test('a cut or odd attribute ends the reading, not the process', (t) => {
  const { data } = createBridge({ index: 7, name: 'br0' });
  for (let length = 16; length < data.length; length += 1) {
    t.equal(decodeLink(message(data.subarray(0, length))).index, 7);
  }
  t.end();
});

t.test('addresses and routes', (t) => {
  for (const text of ['10.0.0.1/24', 'fd00::1/64']) {
    t.same(decodeAddress(message(addAddress(3, prefix(text)).data)), { index: 3, prefix: text, ours: true });
  }
  const route = { to: prefix('0.0.0.0/0'), via: ip('10.0.0.2'), index: 3 };
  const decoded = decodeRoute(message(addRoute(route).data));
  t.same(decoded, { ...route, table: 254, ours: true });
  if (decoded === undefined) throw new Error('not decoded');
  t.ok(sameRoute(decoded, route));
  t.ok(sameRoute(decoded, { to: route.to, via: route.via }));
  t.notOk(sameRoute(decoded, { to: route.to, index: 3 }));
  t.notOk(sameRoute({ ...decoded, ours: false }, route));
  t.notOk(sameRoute({ ...decoded, table: 100 }, route));
  t.end();
});
