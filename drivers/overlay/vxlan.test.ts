/**
 * The codec against bytes that others made. GOLDEN: what Linux 6.18 sent on UDP 4789 from a VXLAN device (`ip link add vx0 type vxlan id
 * 1193046 …`, a ping between two namespaces, tcpdump on the veth between them); the VNI beside each is what tshark 4.0.17 reads in it.
 * What this codec sends is read by the kernel and by tshark in tests/acceptance/overlay-vtep.test.ts.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  decodeVxlan,
  encodeVxlan,
  ETHERNET_HEADER_BYTES,
  malformedVxlan,
  VNI_LIMIT,
  vniOf,
  VXLAN_HEADER_BYTES,
  writeVxlanHeader,
} from './vxlan.ts';

const GOLDEN = [
  {
    name: 'ARP request, broadcast',
    vni: 0x123456,
    bytes:
      '0800000012345600 ffffffffffff02420a0100020806 000108000604000102420a0100020a0100020000000000000a010003',
  },
  {
    name: 'ARP reply',
    vni: 0x123456,
    bytes:
      '0800000012345600 02420a01000202420a0100030806 000108000604000202420a0100030a01000302420a0100020a010002',
  },
  {
    name: 'ICMP echo request',
    vni: 0x123456,
    bytes:
      '0800000012345600 02420a01000302420a0100020800 4500002cf9f7400040012cd30a0100020a010003' +
      '0800f8aa0990000171eb016b000000007e6d040000000000',
  },
].map((golden) => ({ ...golden, bytes: Buffer.from(golden.bytes.replaceAll(' ', ''), 'hex') }));

/** Any datagram with the I flag that is long enough: flags, 3 reserved bytes, VNI, 1 reserved byte, frame. */
const vni = fc.integer({ min: 0, max: VNI_LIMIT - 1 });
const frame = fc.uint8Array({ minLength: ETHERNET_HEADER_BYTES, maxLength: 9000 });

t.test('the bytes of the kernel', (t) => {
  for (const golden of GOLDEN) {
    const decoded = decodeVxlan(golden.bytes);
    if (decoded.malformed !== undefined) throw new Error(`${golden.name}: ${decoded.malformed}`);
    t.equal(decoded.vni, golden.vni, golden.name);
    t.same(Buffer.from(decoded.frame), golden.bytes.subarray(8), `${golden.name}: the frame`);

    const buffer = Buffer.alloc(100 + decoded.frame.length, 0xee);
    buffer.set(decoded.frame, 50);
    const sent = encodeVxlan(buffer, 50, 50 + decoded.frame.length, golden.vni);
    t.same(Buffer.from(sent), golden.bytes, `${golden.name}: encoded again`);
    t.ok(buffer.subarray(0, 42).every((byte) => byte === 0xee) && buffer.at(-1) === 0xee, 'nothing else');
  }
  t.end();
});

t.test('the ends of the VNI', (t) => {
  for (const [value, hex] of [
    [0, '0800000000000000'],
    [1, '0800000000000100'],
    [0x100, '0800000000010000'],
    [0xffffff, '08000000ffffff00'],
  ] as const) {
    const header = Buffer.alloc(VXLAN_HEADER_BYTES, 0xff);
    writeVxlanHeader(header, 0, value);
    t.equal(header.toString('hex'), hex);
    t.equal(vniOf(header), value);
  }
  for (const value of [-1, VNI_LIMIT, 1.5, NaN, Infinity])
    t.throws(
      () => {
        writeVxlanHeader(Buffer.alloc(8), 0, value);
      },
      { name: 'RangeError', message: `VNI ${value}` },
    );
  t.end();
});

t.test('no room for a header is an error, and nothing is written', (t) => {
  for (const start of [-1, 0, 7, 33, NaN]) {
    const buffer = Buffer.alloc(24, 0xee);
    t.throws(() => encodeVxlan(buffer, start, 24, 1), { name: 'RangeError' });
    t.ok(buffer.every((byte) => byte === 0xee));
  }
  t.end();
});

t.test('there and back: the same VNI and the same bytes', (t) => {
  fc.assert(
    fc.property(vni, frame, fc.nat(64), (value, inner, headroom) => {
      const start = VXLAN_HEADER_BYTES + headroom;
      const buffer = new Uint8Array(start + inner.length);
      buffer.set(inner, start);
      const datagram = encodeVxlan(buffer, start, buffer.length, value);
      const decoded = decodeVxlan(datagram);
      if (decoded.malformed !== undefined) return false;
      // A view, not a copy, both times.
      const shared = datagram.buffer === buffer.buffer && decoded.frame.buffer === buffer.buffer;
      return shared && decoded.vni === value && Buffer.compare(decoded.frame, inner) === 0;
    }),
  );
  t.end();
});

t.test('whatever the reserved bits are, they mean nothing; sent, they are zero', (t) => {
  fc.assert(
    fc.property(
      vni,
      frame,
      fc.nat(0xff),
      fc.nat(0xffffff),
      fc.nat(0xff),
      (value, inner, flags, middle, last) => {
        const datagram = Buffer.alloc(8 + inner.length);
        datagram[0] = flags | 0x08;
        datagram.writeUIntBE(middle, 1, 3);
        datagram.writeUIntBE(value, 4, 3);
        datagram[7] = last;
        datagram.set(inner, 8);
        const decoded = decodeVxlan(datagram);
        if (decoded.malformed !== undefined || decoded.vni !== value) return false;
        const again = Buffer.from(datagram);
        writeVxlanHeader(again, 0, decoded.vni);
        return again[0] === 0x08 && again.readUIntBE(1, 3) === 0 && again[7] === 0;
      },
    ),
  );
  t.end();
});

t.test('what is wrong is named', (t) => {
  const whole = Buffer.alloc(22);
  writeVxlanHeader(whole, 0, 7);
  t.equal(malformedVxlan(whole), undefined);
  for (let length = 0; length < 22; length += 1)
    t.equal(malformedVxlan(whole.subarray(0, length)), length < 8 ? 'short' : 'runt', `${length} bytes`);
  for (let flags = 0; flags < 256; flags += 1) {
    whole[0] = flags;
    const expected = (flags & 0x08) === 0 ? 'no-vni' : undefined;
    if (malformedVxlan(whole) !== expected) t.fail(`flags ${flags}`);
  }
  t.end();
});

t.test('any bytes: an answer, never an exception, and the bytes stay as they are', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const before = Buffer.from(bytes);
      const decoded = decodeVxlan(bytes);
      if (Buffer.compare(before, bytes) !== 0) return false;
      if (decoded.malformed === undefined) {
        const { frame, vni } = decoded;
        return frame.length === bytes.length - 8 && frame.length >= 14 && vni >= 0 && vni < VNI_LIMIT;
      }
      // The three reasons, each only where it is true, in this order.
      if (bytes.length < 8) return decoded.malformed === 'short';
      if (((bytes[0] ?? 0) & 0x08) === 0) return decoded.malformed === 'no-vni';
      return decoded.malformed === 'runt' && bytes.length < 22;
    }),
    { numRuns: 5000 },
  );
  t.end();
});
