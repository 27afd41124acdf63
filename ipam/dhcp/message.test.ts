import fc from 'fast-check';
import t from 'tap';
import { ip, ipFromBytes } from '../../address/ip.ts';
import { mac, macFromBytes } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import { ACK, DISCOVER, HEADERS } from './golden.ts';
import { type Lease, leasedOf, leaseOf } from './lease.ts';
import { type DhcpMessage, decodeMessage, encodeMessage, OPTION } from './message.ts';
import { classlessRoutes, maskLength, textOf } from './values.ts';
import { clientIdOf, messageFor } from './words.ts';

const MAC = mac('fe:44:9a:95:2f:cf');
const SERVER_MAC = mac('aa:5b:eb:4e:59:4e');

function messageOf(frame: Buffer): DhcpMessage {
  const message = decodeMessage(frame.subarray(HEADERS));
  if (message === undefined) throw new Error('no message');
  return message;
}

/** The server's answer with other options, given in hex; empty: without it. */
function ackWith(options: Readonly<Record<number, string>>): DhcpMessage {
  const all = new Map(messageOf(ACK).options);
  for (const [code, hex] of Object.entries(options)) {
    if (hex === '') all.delete(Number(code));
    else all.set(Number(code), Buffer.from(hex, 'hex'));
  }
  return { ...messageOf(ACK), options: all };
}

t.test('what is said is what Wireshark reads', (t) => {
  const identity = { mac: MAC, clientId: clientIdOf(MAC) };
  const discover = messageFor(identity, { say: 'discover' }, { xid: 0x71e1b057, secs: 0 });
  t.equal(encodeMessage(discover).toString('hex'), DISCOVER.subarray(HEADERS).toString('hex'));
  t.end();
});

t.test('what a server says', (t) => {
  const lease = leaseOf(messageOf(ACK), SERVER_MAC, 1_000_000, 0);
  t.same(lease, {
    address: '10.20.0.102/24',
    gateway: '10.20.0.9',
    routes: [{ destination: '10.99.0.0/16', nextHop: '10.20.0.77' }],
    mtu: 1400,
    dns: ['10.20.0.53'],
    server: '10.20.0.9',
    serverMac: SERVER_MAC,
    renewAt: 1_003_000,
    rebindAt: 1_006_000,
    expiresAt: 1_120_000,
  });
  t.end();
});

t.test('times that are not told, or cannot be', (t) => {
  const times = (options: Readonly<Record<number, string>>): readonly (number | undefined)[] => {
    const lease = leaseOf(ackWith(options), SERVER_MAC, 0, 0);
    return [lease?.renewAt, lease?.rebindAt, lease?.expiresAt];
  };
  t.same(times({ 58: '', 59: '' }), [60_000, 105_000, 120_000], 'half and seven eighths');
  t.same(times({ 58: '000000ff', 59: '000000ff' }), [60_000, 105_000, 120_000], 'later than the end');
  t.same(times({ 58: '00000064', 59: '00000050' }), [60_000, 80_000, 120_000], 'T1 after T2');
  t.same(times({ 51: 'ffffffff' }), Array(3).fill(Number.MAX_SAFE_INTEGER), 'for ever');
  t.equal(leaseOf(ackWith({ 51: '00000000' }), SERVER_MAC, 0, 0), undefined, 'no time at all');
  t.equal(leaseOf(ackWith({ 51: '' }), SERVER_MAC, 0, 0), undefined);
  t.equal(leaseOf(ackWith({ 54: '' }), SERVER_MAC, 0, 0), undefined, 'no server');
  const nobody = { ...messageOf(ACK), yiaddr: ip('0.0.0.0') };
  t.equal(leaseOf(nobody, SERVER_MAC, 0, 0), undefined, 'no address');
  t.end();
});

t.test('options that are special', (t) => {
  t.equal(maskLength(ackWith({ 1: 'fffffff0' })), 28);
  t.equal(maskLength(ackWith({ 1: 'ff00ff00' })), 8, 'no mask: that of the class');
  t.equal(textOf(ackWith({ 15: Buffer.from('lan\u0000\n').toString('hex') }), OPTION.domainName), 'lan');
  t.equal(classlessRoutes(ackWith({ 121: '21' })), undefined, 'cut off');
  t.equal(classlessRoutes(ackWith({ 121: '21ffffffff0a140009' })), undefined, 'wider than an address');
  t.same(
    classlessRoutes(ackWith({ 121: '190a00ff8500000000' })),
    [{ destination: '10.0.255.128/25' }],
    'on link',
  );
  const router = leaseOf(ackWith({ 121: '', 3: '0a14000a' }), SERVER_MAC, 0, 0);
  t.equal(router?.gateway, '10.20.0.10', 'option 3 where there is no 121');
  t.equal(leaseOf(ackWith({ 26: '0010' }), SERVER_MAC, 0, 0)?.mtu, undefined, 'an MTU that cannot be');
  t.end();
});

t.test('a router beside the subnet is reached on the link', (t) => {
  const lease = leaseOf(ackWith({ 1: 'ffffffff', 121: '', 3: '0a140009' }), SERVER_MAC, 0, 0);
  t.match(leasedOf(lease as Lease), {
    gateway: '10.20.0.9',
    routes: [{ destination: prefix('10.20.0.9/32') }],
  });
  const inside = leaseOf(ackWith({ 121: '' }), SERVER_MAC, 0, 0);
  t.same(leasedOf(inside as Lease).routes, []);
  t.end();
});

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const address = () => bytes(4).map((value) => ipFromBytes(value));
const message = (): fc.Arbitrary<DhcpMessage> =>
  fc.record({
    op: fc.constantFrom(1, 2),
    xid: fc.nat(0xffffffff),
    secs: fc.nat(0xffff),
    broadcast: fc.boolean(),
    ciaddr: address(),
    yiaddr: address(),
    siaddr: address(),
    giaddr: address(),
    chaddr: bytes(6).map((value) => macFromBytes(value)),
    options: fc
      .array(fc.tuple(fc.integer({ min: 1, max: 254 }), fc.uint8Array({ maxLength: 600 })), { maxLength: 6 })
      .map((list) => new Map(list.filter(([code]) => code !== OPTION.overload))),
  });

t.test('what is encoded is decoded, long options too', (t) => {
  fc.assert(
    fc.property(message(), (one) => {
      const read = decodeMessage(encodeMessage(one));
      const options = (of: DhcpMessage | undefined) =>
        [...(of?.options ?? [])].map(([code, value]) => [code, Buffer.from(value).toString('hex')]);
      t.same({ ...read, options: options(read) }, { ...one, options: options(one) });
    }),
    { numRuns: 50 },
  );
  t.end();
});

t.test('options in the fields of other things', (t) => {
  const whole = encodeMessage({
    ...messageOf(DISCOVER),
    options: new Map([[OPTION.overload, Buffer.of(3)]]),
  });
  whole.set([OPTION.mtu, 2, 5, 0x78, 255], 108);
  whole.set([OPTION.hostName, 1, 0x61, 255], 44);
  t.same([...(decodeMessage(whole)?.options.keys() ?? [])], [OPTION.overload, OPTION.mtu, OPTION.hostName]);
  t.end();
});

t.test('a stranger’s bytes are a message or none', (t) => {
  const whole = encodeMessage(messageOf(ACK));
  fc.assert(
    fc.property(fc.nat(), fc.nat(255), fc.nat(400), (at, value, length) => {
      const broken = Buffer.from(whole);
      broken[at % broken.length] = value;
      const read = decodeMessage(broken.subarray(0, length));
      if (read !== undefined) leaseOf(read, SERVER_MAC, 0, 0);
    }),
    { numRuns: 2000 },
  );
  t.end();
});
