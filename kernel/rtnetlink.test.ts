/**
 * Golden bytes are those of ip(8) of iproute2 6.1 (6.15 where it says `addr add … proto`), taken with `strace -e trace=sendmsg -e write=3` in a namespace where
 * br0 has index 1001, v0 1002, and vx0 (Linux 6.18) 1005; each message without its length, sequence number and port, and without the flags REQUEST and ACK.
 */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { ANY_MAC } from './entry.ts';
import { addForwarding, deleteForwarding } from './forwarding.ts';
import type { NetlinkRequest } from './netlink.ts';
import * as rt from './rtnetlink.ts';
import { golden, type Message } from '../tests/kernel/golden.ts';

function ours({ type, flags, data }: NetlinkRequest): Message {
  const padding = Buffer.alloc((4 - (data.length % 4)) % 4);
  return { type, flags, data: Buffer.concat([data, padding]).toString('hex') };
}

const MESSAGES: readonly (readonly [command: string, request: NetlinkRequest, hex: string])[] = [
  [
    'link add index 1001 name br0 group 6516333 address 02:42:00:00:00:01 type bridge',
    rt.createBridge({ index: 1001, name: 'br0', mac: mac('02:42:00:00:00:01') }),
    '4c00000010000506136f016b0000000000000000e9030000000000000000000008001b006d6e63000a00010002420000000100000800030062723000100012000a0001006272696467650000',
  ],
  [
    'link add index 1002 name v0 group 6516333 mtu 1400 type veth peer index 1003 name v1 group 6516333 address 02:42:00:00:00:09 mtu 1400',
    rt.createVeth(
      { index: 1002, name: 'v0', mtu: 1400 },
      { index: 1003, name: 'v1', mtu: 1400, mac: mac('02:42:00:00:00:09') },
    ),
    '8000000010000506136f016b0000000000000000ea030000000000000000000008001b006d6e6300080004007805000007000300763000004800120008000100766574683c0002003800010000000000eb030000000000000000000008001b006d6e63000a000100024200000009000008000400780500000700030076310000',
  ],
  [
    'link add index 1004 name i1 group 6516333 type ifb',
    rt.createIfb({ index: 1004, name: 'i1' }),
    '3c000000100005061ba9016b0000000000000000ec030000000000000000000008001b006d6e630007000300693100000c001200070001006966620' +
      '0',
  ],
  [
    'neigh change 10.0.0.2 lladdr 02:42:0a:00:00:02 nud stale dev v0',
    rt.changeNeighbour(1001, ip('10.0.0.2'), mac('02:42:0a:00:00:02')),
    '300000001c0005011da9016b0000000002000000e903000004000000080001000a0000020a00020002420a0000020000',
  ],
  [
    'neigh change fd00::2 lladdr 02:42:0a:00:00:02 nud stale dev v0',
    rt.changeNeighbour(1001, ip('fd00::2'), mac('02:42:0a:00:00:02')),
    '3c0000001c0005011da9016b000000000a000000e90300000400000014000100fd0000000000000000000000000000020a00020002420a0000020000',
  ],
  [
    'link add index 1005 name vx0 group 6516333 address 02:42:00:00:00:0a type vxlan id 4097 local 192.0.2.1 learning dstport 4789',
    rt.createVxlan(
      { index: 1005, name: 'vx0', mac: mac('02:42:00:00:00:0a') },
      { vni: 4097, local: ip('192.0.2.1'), port: 4789, learning: true },
    ),
    '70000000100005067df8016b0000000000000000ed030000000000000000000008001b006d6e63000a00010002420000000a00000800030076783000340012000900010076786c616e00000024000200080001000110000008000400c0000201050007000100000006000f0012b50000',
  ],
  [
    'link add index 1006 name vx1 group 6516333 type vxlan id 4098 local 2001:db8::1 nolearning dstport 4789',
    rt.createVxlan(
      { index: 1006, name: 'vx1' },
      { vni: 4098, local: ip('2001:db8::1'), port: 4789, learning: false },
    ),
    '70000000100005067df8016b0000000000000000ee030000000000000000000008001b006d6e63000800030076783100400012000900010076786c616e0000003000020008000100021000001400110020010db8000000000000000000000001050007000000000006000f0012b50000',
  ],
  [
    'bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.2',
    addForwarding(1005, ANY_MAC, ip('192.0.2.2')),
    '300000001c00050c7ef8016b0000000007000000ed030000c00002000a000200000000000000000008000100c0000202',
  ],
  [
    'bridge fdb append 00:00:00:00:00:00 dev vx1 dst 2001:db8::2',
    addForwarding(1006, ANY_MAC, ip('2001:db8::2')),
    '3c0000001c00050c7ff8016b0000000007000000ee030000c00002000a00020000000000000000001400010020010db8000000000000000000000002',
  ],
  [
    'bridge fdb replace 02:42:0a:01:00:03 dev vx0 dst 192.0.2.3',
    addForwarding(1005, mac('02:42:0a:01:00:03'), ip('192.0.2.3')),
    '300000001c0005057ef8016b0000000007000000ed030000c00002000a00020002420a010003000008000100c0000203',
  ],
  [
    'bridge fdb del 02:42:0a:01:00:03 dev vx0 dst 192.0.2.3',
    deleteForwarding(1005, mac('02:42:0a:01:00:03'), ip('192.0.2.3')),
    '300000001d0005007ef8016b0000000007000000ed030000c00002000a00020002420a010003000008000100c0000203',
  ],
  [
    'link set dev v0 master br0',
    rt.changeLink(1002, { master: 1001 }),
    '2800000010000500f86e016b0000000000000000ea030000000000000000000008000a00e9030000',
  ],
  [
    'link set dev v0 nomaster',
    rt.changeLink(1002, { master: 0 }),
    '2800000010000500136f016b0000000000000000ea030000000000000000000008000a0000000000',
  ],
  [
    'link set dev v0 up',
    rt.changeLink(1002, { up: true }),
    '2000000010000500f86e016b0000000000000000ea0300000100000001000000',
  ],
  [
    'link set dev v0 down',
    rt.changeLink(1002, { up: false }),
    '2000000010000500136f016b0000000000000000ea0300000000000001000000',
  ],
  [
    'link set dev v0 arp off',
    rt.changeLink(1002, { noArp: true }),
    '2000000010000500bdb2016b0000000000000000ea0300008000000080000000',
  ],
  [
    "link set dev v0 alias 'cnm n e'",
    rt.changeLink(1002, { alias: 'cnm n e' }),
    // ip(8) leaves out the NUL at the end (length 0b); the codec counts it, as the kernel does in its answers.
    '2c00000010000500f86e016b0000000000000000ea03000000000000000000000c001400636e6d206e206500',
  ],
  [
    'link set dev v0 mtu 1300',
    rt.changeLink(1002, { mtu: 1300 }),
    '2800000010000500f86e016b0000000000000000ea03000000000000000000000800040014050000',
  ],
  [
    'link set dev v0 address 02:42:00:00:00:07',
    rt.changeLink(1002, { mac: mac('02:42:00:00:00:07') }),
    '2c00000010000500146f016b0000000000000000ea03000000000000000000000a0001000242000000070000',
  ],
  [
    'link set dev v0 group 5',
    rt.changeLink(1002, { group: 5 }),
    '2800000010000500136f016b0000000000000000ea030000000000000000000008001b0005000000',
  ],
  [
    'link set dev v0 addrgenmode none',
    rt.changeLink(1002, { noLinkLocal: true }),
    '3000000010000500f86e016b0000000000000000ea030000000000000000000010001a000c000a000500080001000000',
  ],
  ['link del v0', rt.deleteLink(1002), '2000000011000500f86e016b0000000000000000ea0300000000000000000000'],
  [
    'link del group 77',
    rt.deleteGroup(77),
    '2800000011000500136f016b000000000000000000000000000000000000000008001b004d000000',
  ],
  [
    'addr add 10.0.0.1/24 dev br0 proto 110',
    rt.addAddress(1001, prefix('10.0.0.1/24')),
    '300000001400050614ae016b0000000002180000e9030000080002000a00000105000b006e000000080001000a000001',
  ],
  [
    'addr add fd00::1/64 dev br0 nodad proto 110',
    rt.addAddress(1001, prefix('fd00::1/64')),
    '480000001400050625ae016b000000000a400200e903000014000200fd00000000000000000000000000000105000b006e00000014000100fd000000000000000000000000000001',
  ],
  [
    'addr del 10.0.0.1/24 dev br0',
    rt.deleteAddress(1001, prefix('10.0.0.1/24')),
    '2800000015000500f86e016b0000000002180000e9030000080002000a000001080001000a000001',
  ],
  [
    'route add 192.0.2.0/24 via 10.0.0.2 proto 110',
    rt.addRoute({ to: prefix('192.0.2.0/24'), via: ip('10.0.0.2') }),
    '2c00000018000506f86e016b0000000002180000fe6e00010000000008000100c0000200080005000a000002',
  ],
  [
    'route add default via 10.0.0.2 dev br0 proto 110',
    rt.addRoute({ to: prefix('0.0.0.0/0'), via: ip('10.0.0.2'), index: 1001 }),
    '2c00000018000506f86e016b0000000002000000fe6e000100000000080005000a00000208000400e9030000',
  ],
  [
    'route add 198.51.100.0/24 dev br0 proto 110',
    rt.addRoute({ to: prefix('198.51.100.77/24'), index: 1001 }),
    '2c00000018000506f86e016b0000000002180000fe6efd010000000008000100c633640008000400e9030000',
  ],
  [
    '-6 route add fd01::/64 via fd00::2 dev br0 proto 110',
    rt.addRoute({ to: prefix('fd01::/64'), via: ip('fd00::2'), index: 1001 }),
    '4c00000018000506f86e016b000000000a400000fe6e00010000000014000100fd01000000000000000000000000000014000500fd00000000000000000000000000000208000400e9030000',
  ],
];

t.test('requests are the bytes that ip(8) sends', (t) => {
  for (const [command, request, hex] of MESSAGES) t.same(ours(request), golden(hex), `ip ${command}`);
  t.end();
});

t.test('a route is deleted whatever its scope, but only one of ours', (t) => {
  // ip(8) leaves the type open (0); with ours given the kernel compares it, and ours are all unicast.
  const { data } = ours(rt.deleteRoute({ to: prefix('198.51.100.0/24'), index: 1001 }));
  const ips = golden(
    '2c00000019000500f86e016b0000000002180000fe6eff000000000008000100c633640008000400e9030000',
  ).data;
  t.equal(data, `${ips.slice(0, 14)}01${ips.slice(16)}`);
  t.end();
});

t.test('settings of a port as ip(8) sends them, under the name that the kernel gives them', (t) => {
  const { type, flags, data } = ours(rt.changePort(1002, { isolated: true, hairpin: false }));
  const ips = golden(
    '48000000100005003c83016b0000000000000000ea03000000000000000000002800120010000100' +
      '6272696467655f736c6176651400050005002100010000000500040000000000',
  );
  t.same([type, flags], [ips.type, ips.flags]);
  // ip(8) calls the link's kind `bridge_slave`, which there is none of; IFLA_INFO_SLAVE_KIND is what dumps have.
  const settings = (hex: string): string => hex.slice(hex.indexOf('14000500'));
  t.equal(settings(data), settings(ips.data));
  const suppressed = ours(rt.changePort(1005, { isolated: false, hairpin: false, suppress: true })).data;
  t.equal(
    suppressed.slice(suppressed.indexOf('1c000500')),
    '1c000500050021000000000005000400000000000500200001000000',
  );
  t.end();
});
