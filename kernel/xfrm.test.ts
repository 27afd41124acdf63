/** The bytes are those of `ip xfrm` of iproute2 6.1, taken from its sendmsg by strace; what comes after nlmsghdr. */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { parseGuards } from './guard.ts';
import type { XfrmPolicyAdd, XfrmStateAdd } from './step.ts';
import { addState, decodePolicy, decodeState, deletePolicy, deleteState, addPolicy } from './xfrm.ts';

const KEY = '000102030405060708090a0b0c0d0e0f10111213';
const STATE: XfrmStateAdd = {
  do: 'xfrm.state.add',
  src: ip('192.0.2.1'),
  dst: ip('192.0.2.2'),
  spi: 0x01020304,
  reqid: 0x63000046,
  cipher: 'gcm',
  key: KEY,
};
const CHAINED: XfrmStateAdd = {
  ...STATE,
  cipher: 'cbc',
  key: '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f',
};
const POLICY: XfrmPolicyAdd = {
  do: 'xfrm.policy.add',
  src: STATE.src,
  dst: STATE.dst,
  port: 4789,
  mark: 0x63000046,
  reqid: STATE.reqid,
};

const STATE4 = [
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000c00002020000000000000000000000000102030432000000c0000201000000000000000000000000',
  'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000000000000000000000000000',
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '000000000000000000000000000000004600006302000000800000000000000060001200726663343130362867636d28',
  '616573292900000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '00000000a000000080000000000102030405060708090a0b0c0d0e0f101112131c001700800000000000000000000000',
  '000000000000000000100000',
].join('');
const STATE6 = [
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '000000000000000020010db8000000000000000000000002010203043200000020010db8000000000000000000000001',
  'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000000000000000000000000000',
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '00000000000000000000000000000000460000630a000000800000000000000060001200726663343130362867636d28',
  '616573292900000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '00000000a000000080000000000102030405060708090a0b0c0d0e0f101112131c001700800000000000000000000000',
  '000000000000000000100000',
].join('');
const CHAINED4 = [
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000c00002020000000000000000000000000102030432000000c0000201000000000000000000000000',
  'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000000000000000000000000000',
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '00000000000000000000000000000000460000630200000000000000000000006c001400686d61632873686132353629',
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '000000000001000080000000101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f58000200',
  '636263286165732900000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000000000000000000080000000000102030405060708090a0b0c0d0e0f0800180002000000',
].join('');
const POLICY4 = [
  'c0000202000000000000000000000000c000020100000000000000000000000012b5ffff000000000200202011000000',
  '0000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000000000000000',
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  '00000000000000000000000000000000010000000000000044000500c000020200000000000000000000000000000000',
  '3200000002000000c00002010000000000000000000000004600006300000000ffffffffffffffffffffffff0c001500',
  '46000063ffffffff',
].join('');
const POLICY4_DELETE = [
  'c0000202000000000000000000000000c000020100000000000000000000000012b5ffff000000000200202011000000',
  '000000000000000000000000010000000c00150046000063ffffffff',
].join('');
const STATE4_DELETE = [
  'c0000202000000000000000000000000010203040200320014000d00c0000201000000000000000000000000',
].join('');

function message(data: Uint8Array, type: number) {
  return { type, flags: 0, seq: 1, port: 0, data: Buffer.from(data) };
}

t.test('the bytes of ip xfrm', (t) => {
  t.equal(Buffer.from(addState(STATE).data).toString('hex'), STATE4, 'state add');
  const six = { ...STATE, src: ip('2001:db8::1'), dst: ip('2001:db8::2') };
  t.equal(Buffer.from(addState(CHAINED).data).toString('hex'), CHAINED4, 'of AES-CBC');
  t.equal(Buffer.from(addState(six).data).toString('hex'), STATE6, 'of IPv6');
  t.equal(
    Buffer.from(addPolicy(POLICY).data).toString('hex'),
    POLICY4,
    'policy add; update has the same bytes',
  );
  t.equal(Buffer.from(deletePolicy(POLICY).data).toString('hex'), POLICY4_DELETE, 'policy delete');
  t.equal(Buffer.from(deleteState(STATE).data).toString('hex'), STATE4_DELETE, 'state delete');
  t.same(
    [addState(STATE), deleteState(STATE), addPolicy(POLICY), deletePolicy(POLICY)].map(({ type }) => type),
    [0x10, 0x11, 0x13, 0x14],
  );
  t.end();
});

t.test('what a dump shows is what was asked for', (t) => {
  const { src, dst, spi, reqid } = STATE;
  t.same(decodeState(message(addState(STATE).data, 0x10)), { src, dst, spi, reqid });
  t.same(decodePolicy(message(addPolicy(POLICY).data, 0x13)), {
    src,
    dst,
    port: 4789,
    mark: POLICY.mark,
    reqid,
  });
  t.equal(decodeState(message(Buffer.alloc(20), 0x10)), undefined);
  t.equal(decodePolicy(message(Buffer.alloc(20), 0x13)), undefined);
  t.end();
});

t.test('a guard whose rules somebody has taken out guards nothing', (t) => {
  const rule = { rule: {} };
  const map = { map: { elem: [[{ concat: [4789, 70] }, 1660944454]] } };
  const set = { set: { elem: [{ concat: [4789, 70] }] } };
  const text = (...parts: object[]) => JSON.stringify({ nftables: [{ metainfo: {} }, ...parts] });
  t.same([...parseGuards(text(set, map, rule, rule, rule))], ['4789 70 1660944454']);
  t.same([...parseGuards(text(set, map, rule, rule))], []);
  t.same([...parseGuards(text({ set: {} }, map, rule, rule, rule))], []);
  t.same([...parseGuards(text(set, { map: {} }, rule, rule, rule))], []);
  t.end();
});
