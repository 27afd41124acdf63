/** Golden frames are as `tshark -V` (Wireshark 4.0) reads them: "ARP Probe", and a neighbour solicitation whose checksum is good. */
import fc from 'fast-check';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { announcement } from './announcement.ts';
import { claimOf, groupMac, probeFrame } from './probe.ts';

const MAC = mac('02:42:0a:01:00:02');
const [V4, V6] = [ip('10.1.0.2'), ip('fd00:1::2')];

t.test('questions', (t) => {
  t.equal(
    probeFrame(V4, MAC).toString('hex'),
    'ffffffffffff02420a010002' + '0806' + '000108000604000102420a010002000000000000000000000a010002',
  );
  t.equal(
    probeFrame(V6, MAC).toString('hex'),
    '3333ff00000202420a010002' +
      '86dd' +
      '6000000000183aff00000000000000000000000000000000ff0200000000000000000001ff000002' +
      '87007da200000000fd000001000000000000000000000002',
  );
  t.equal(groupMac(V6), '33:33:ff:00:00:02');
  t.end();
});

t.test('who says that an address is his', (t) => {
  for (const address of [V4, V6]) {
    t.same(claimOf(announcement(address, MAC)), { address, mac: MAC }, 'who announces it');
    t.same(claimOf(probeFrame(address, MAC)), { address, mac: MAC }, 'who wants it at the same time');
  }
  const question = Buffer.from(announcement(V4, MAC));
  question.set([10, 1, 0, 99], 38);
  t.same(claimOf(question), { address: V4, mac: MAC }, 'who asks for somebody else');
  const reply = Buffer.from(probeFrame(V4, MAC));
  reply.writeUInt16BE(2, 20);
  t.equal(claimOf(reply), undefined, 'an answer of nobody');
  const routed = Buffer.from(announcement(V6, MAC));
  routed.writeUInt8(64, 21);
  t.equal(claimOf(routed), undefined, 'what has passed a router');
  t.end();
});

t.test('a stranger’s bytes claim something or nothing', (t) => {
  fc.assert(
    fc.property(fc.constantFrom(V4, V6), fc.nat(), fc.nat(255), fc.nat(100), (address, at, value, length) => {
      const frame = Buffer.from(announcement(address, MAC));
      frame[at % frame.length] = value;
      claimOf(frame.subarray(0, length));
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (frame) => void claimOf(frame)));
  t.end();
});
