/** The bytes of the self-test: what they are, and that no bytes of others harm. */
import fc from 'fast-check';
import t from 'tap';
import { ip } from '../../../address/ip.ts';
import { mac } from '../../../address/mac.ts';
import { decodeVxlan } from '../vxlan.ts';
import { replyTo } from './answer.ts';
import { CHECKSUM, PACKET_OVERHEAD, PROBE_PORT, probeDatagram, probeFrame, sum } from './frame.ts';
import { echoRequest, parseIcmp } from './icmp.ts';
import { type Ask, decodeMessage, encodeMessage } from './message.ts';

const FROM = mac('02:00:00:00:00:0a');
const TO = mac('02:00:00:00:00:0b');

const ask: Ask = {
  say: 'ask',
  id: 'abc',
  question: 3,
  from: ip('2001:db8::1'),
  vni: 70,
  port: 4789,
  way: 'tunnel',
  by: ['icmp', 'tunnel'],
  size: 1450,
};

t.test('a frame to another bridge, with sums that add up', (t) => {
  for (const length of [0, 1, 2, 77, 1422]) {
    const message = Buffer.alloc(length, 0xa5);
    const frame = probeFrame({ from: FROM, to: TO, message });
    t.equal(frame.length, 14 + 28 + length);
    t.equal(frame.subarray(0, 14).toString('hex'), '02000000000b02000000000a0800');
    t.equal(sum(frame.subarray(14, 34)), 0xffff, 'the header of IPv4 (RFC 1071)');
    t.equal(frame.subarray(26, 34).toString('hex'), '00000000ffffffff', 'from nobody to everybody');
    t.equal(frame.readUInt16BE(36), PROBE_PORT);
    const pseudo = Buffer.concat([frame.subarray(26, 34), Buffer.of(0, 17), frame.subarray(38, 40)]);
    t.equal(sum(Buffer.concat([pseudo, frame.subarray(34)])), 0xffff, 'that of UDP (RFC 768)');
    const unfinished = probeFrame({ from: FROM, to: TO, message, unfinished: true });
    t.equal(
      unfinished.readUInt16BE(CHECKSUM.start + CHECKSUM.offset),
      sum(pseudo),
      'and that of its pseudo header',
    );
  }
  const datagram = probeDatagram(70, { from: FROM, to: TO, message: Buffer.from('x') });
  const decoded = decodeVxlan(datagram);
  t.match(decoded, { vni: 70 });
  t.end();
});

t.test('ICMP: requests, and what routers say of our datagrams', (t) => {
  const request = echoRequest(4, 7, Buffer.from('data'));
  t.equal(sum(request), 0xffff);
  t.match(parseIcmp(4, request), { kind: 'request', data: Buffer.from('data') });
  t.match(parseIcmp(6, echoRequest(6, 7, Buffer.from('data'))), { kind: 'request' });
  // Written down from RFC 792: type 3 code 4 with an MTU of 1400, about UDP from 198.51.100.10 to 192.0.2.3 port 4789.
  const original = Buffer.from('4500001c000040004011000' + '0c633640ac0000203' + 'd43112b500080000', 'hex');
  const said = (code: number, rest: string) =>
    Buffer.concat([Buffer.of(3, code, 0, 0), Buffer.from(rest, 'hex'), original]);
  const to = { to: '192.0.2.3', port: 4789 };
  t.same(parseIcmp(4, said(4, '00000578')), { kind: 'unreachable', why: 'too-big', ...to, mtu: 1400 });
  t.same(parseIcmp(4, said(3, '00000000')), { kind: 'unreachable', why: 'port', ...to });
  t.same(parseIcmp(4, said(13, '00000000')), { kind: 'unreachable', why: 'prohibited', ...to });
  t.same(parseIcmp(4, said(1, '00000000')), { kind: 'unreachable', why: 'host', ...to });
  // RFC 4443 section 3.2: packet too big, 1280.
  const inner6 =
    '6000000000081140' +
    '20010db8000000000000000000000001' +
    '20010db8000000000000000000000002' +
    'd43112b500080000';
  const tooBig = Buffer.concat([
    Buffer.of(2, 0, 0, 0),
    Buffer.from('00000500', 'hex'),
    Buffer.from(inner6, 'hex'),
  ]);
  t.same(parseIcmp(6, tooBig), {
    kind: 'unreachable',
    why: 'too-big',
    to: '2001:db8::2',
    port: 4789,
    mtu: 1280,
  });
  t.end();
});

t.test('messages: whole, filled up, and nothing else', (t) => {
  t.same(decodeMessage(encodeMessage(ask)), ask);
  t.equal(encodeMessage(ask, 1400).length, 1400);
  t.same(decodeMessage(encodeMessage(ask, 1400)), ask);
  t.same(decodeMessage(encodeMessage({ ...ask, vni: 0x1000000 })), undefined, 'a VNI has 24 bits');
  t.same(decodeMessage(Buffer.from('cnm-check/1 {"say":"ask"}')), undefined);
  t.same(decodeMessage(Buffer.from('cnm-check/1 {')), undefined);
  const evil = encodeMessage({ ...ask, from: 'not an address' as Ask['from'] });
  t.same(decodeMessage(evil), undefined);
  t.end();
});

t.test('any bytes: an answer, never an error', (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(4 as const, 6 as const),
      (bytes, family) => {
        const buffer = Buffer.from(bytes);
        decodeMessage(buffer);
        decodeMessage(Buffer.concat([Buffer.from('cnm-check/1 '), buffer]));
        parseIcmp(family, buffer);
        parseIcmp(family, Buffer.concat([Buffer.of(family === 4 ? 3 : 1, 4), buffer]));
      },
    ),
  );
  t.end();
});

t.test('the list of endpoints is as long as an answer through the tunnel can be', (t) => {
  const six = (n: number) => `2001:db8:1234:5678:9abc:def0:1234:${(0x1000 + n).toString(16)}`;
  const list = Array.from({ length: 500 }, (_, n) => [six(n), '02:42:0a:01:00:02'] as const);
  const pools = Array.from({ length: 8 }, (_, n) => `2001:db8:1234:${(0x1000 + n).toString(16)}::/64`);
  for (const mtu of [1230, 1450, 8950, 65_000]) {
    const here = { peers: [ask.from], local: ip('2001:db8::2'), mtu };
    const keys = { lasts: 43_200_000, period: 41_000, prints: ['01234567', '89abcdef', '01234567'] };
    const own = { vni: 70, port: 4789, hosts: [], pools, ranges: pools, encrypted: true, keys, here };
    const tunnels = [own] as unknown as Parameters<typeof replyTo>[3];
    const { inside } = replyTo(
      { ...ask, entries: true },
      'tunnel',
      undefined,
      tunnels,
      Date.now(),
      () => list,
    );
    if (inside === undefined) throw new Error('no answer');
    const bytes = encodeMessage({ ...inside.answer, way: 'offload' });
    t.ok(bytes.length + PACKET_OVERHEAD <= mtu, `${bytes.length} bytes, MTU ${mtu}`);
    const heard = decodeMessage(bytes);
    t.ok(heard?.say === 'answer' && heard.entries !== undefined, `read, MTU ${mtu}`);
    if (mtu >= 1450) t.ok((inside.answer.entries?.length ?? 0) > 0, `some, MTU ${mtu}`);
  }
  t.end();
});
