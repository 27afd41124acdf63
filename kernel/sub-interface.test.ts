/** Golden bytes are those of ip(8) of iproute2 6.1, taken as those of rtnetlink.test.ts, where p0 has index 1001. */
import t from 'tap';
import { mac } from '../address/mac.ts';
import type { NetlinkRequest } from './netlink.ts';
import { createMacvlan, createVlan } from './sub-interface.ts';

const MESSAGES: readonly (readonly [command: string, request: NetlinkRequest, hex: string])[] = [
  [
    'link add link p0 index 1002 name m0 group 6516333 address 02:42:00:00:00:02 type macvlan mode bridge',
    createMacvlan({ index: 1002, name: 'm0', mac: mac('02:42:00:00:00:02') }, 1001, { mode: 'bridge' }),
    '60000000100005067bf7016b0000000000000000ea030000000000000000000008001b006d6e63000a000100024200000002000008000500e9030000070003006d3000001c0012000b0001006d6163766c616e000c0002000800010004000000',
  ],
  [
    'link add link p0 index 1002 name m1 group 6516333 type macvlan mode passthru nopromisc',
    createMacvlan({ index: 1002, name: 'm1' }, 1001, { mode: 'passthru', promisc: false }),
    '5c000000100005067bf7016b0000000000000000ea030000000000000000000008001b006d6e630008000500e9030000070003006d310000240012000b0001006d6163766c616e001400020008000100080000000600020001000000',
  ],
  [
    'link add link p0 index 1003 name p0.100 group 6516333 type vlan id 100',
    createVlan({ index: 1003, name: 'p0.100' }, 1001, { id: 100, protocol: '802.1q' }),
    '54000000100005067bf7016b0000000000000000eb030000000000000000000008001b006d6e630008000500e90300000b00030070302e31303000001800120008000100766c616e0c0002000600010064000000',
  ],
  [
    'link add link p0 index 1003 name p0.4094 group 6516333 type vlan protocol 802.1ad id 4094',
    createVlan({ index: 1003, name: 'p0.4094' }, 1001, { id: 4094, protocol: '802.1ad' }),
    '5c000000100005067bf7016b0000000000000000eb030000000000000000000008001b006d6e630008000500e90300000c00030070302e34303934002000120008000100766c616e140002000600050088a8000006000100fe0f0000',
  ],
];

t.test('messages are those of ip(8)', (t) => {
  for (const [command, { type, flags, data }, hex] of MESSAGES) {
    const bytes = Buffer.from(hex, 'hex');
    t.equal(type, bytes.readUInt16LE(4));
    t.equal(flags, bytes.readUInt16LE(6) & ~0x5);
    t.equal(Buffer.from(data).toString('hex'), bytes.subarray(16).toString('hex'), command);
  }
  t.end();
});
