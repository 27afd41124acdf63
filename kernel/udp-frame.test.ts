import fc from 'fast-check';
import t from 'tap';
import { ip, ipFromBytes } from '../address/ip.ts';
import { mac, macFromBytes } from '../address/mac.ts';
import { ACK, DISCOVER, HEADERS } from '../ipam/dhcp/golden.ts';
import type { FrameAddress } from './kernel.ts';
import { readUdpFrame, udpFrame } from './udp-frame.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const address = (): fc.Arbitrary<FrameAddress> =>
  fc.record({
    mac: bytes(6).map((value) => macFromBytes(value)),
    address: bytes(4).map((value) => ipFromBytes(value)),
    port: fc.nat(65_535),
  });
const datagram = () =>
  fc.record({ from: address(), to: address(), payload: fc.uint8Array({ maxLength: 1472 }) });

t.test('a frame as Wireshark finds it right', (t) => {
  const from = { mac: mac('fe:44:9a:95:2f:cf'), address: ip('0.0.0.0'), port: 68 };
  const to = { mac: mac('ff:ff:ff:ff:ff:ff'), address: ip('255.255.255.255'), port: 67 };
  const payload = Uint8Array.from(DISCOVER.subarray(HEADERS));
  t.equal(udpFrame({ from, to, payload }).toString('hex'), DISCOVER.toString('hex'));
  t.same(readUdpFrame(DISCOVER), { from, to, payload });
  t.same(readUdpFrame(ACK)?.from, { mac: mac('aa:5b:eb:4e:59:4e'), address: ip('10.20.0.9'), port: 67 });
  t.end();
});

t.test('what is framed is read back, with or without what Ethernet adds to short frames', (t) => {
  fc.assert(
    fc.property(datagram(), fc.nat(20), (one, padding) => {
      const frame = Buffer.concat([udpFrame(one), Buffer.alloc(padding)]);
      t.same(readUdpFrame(frame), one);
    }),
    { numRuns: 50 },
  );
  t.end();
});

t.test('a stranger’s bytes are a datagram or none', (t) => {
  fc.assert(
    fc.property(datagram(), fc.nat(), fc.nat(255), fc.nat(1600), (one, at, value, length) => {
      const frame = udpFrame(one);
      frame[at % frame.length] = value;
      readUdpFrame(frame.subarray(0, length));
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (frame) => void readUdpFrame(frame)));
  const fragment = Buffer.from(DISCOVER);
  fragment.writeUInt16BE(0x2000, 20);
  t.equal(readUdpFrame(fragment), undefined, 'a fragment');
  const broken = Buffer.from(DISCOVER);
  broken.writeUInt16BE(0, 24);
  t.equal(readUdpFrame(broken), undefined, 'a header with a wrong sum');
  t.end();
});
