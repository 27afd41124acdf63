import fc from 'fast-check';
import t from 'tap';
import { ipFromValue } from '../address/ip.ts';
import { networkOf, prefixOf } from '../address/prefix.ts';
import { attributes } from './attribute.ts';
import { decodeElement, encodeElement, keyLength } from './element.ts';
import type { ElementText, FieldType, SetType } from './element.ts';
import { batch, changesOf } from './element-batch.ts';
import { KernelError } from './kernel.ts';

/** The value of an attribute from its own bytes. */
function payload(bytes: Buffer): Buffer {
  const [only] = attributes(bytes);
  return only?.data ?? Buffer.alloc(0);
}

/**
 * Oracle: nft 1.0.6 on Linux 6.18, `strace -e trace=sendmsg -xx -s 9999 nft add element inet cnm …`: what stands in
 * NFTA_SET_ELEM_LIST_ELEMENTS (0x8003), after its own header. The command is above each.
 */
const GOLDEN: readonly { type: SetType; element: ElementText; hex: string }[] = [
  {
    // bridges { cnm-0123456789a }
    type: { key: ['ifname'] },
    element: { key: ['cnm-0123456789a'] },
    hex: '1c0001801800018014000100 636e6d2d303132333435363738396100',
  },
  {
    // same_bridge { br0 . br1 }
    type: { key: ['ifname', 'ifname'] },
    element: { key: ['br0', 'br1'] },
    hex: '2c0001802800018024000100 62723000000000000000000000000000 62723100000000000000000000000000',
  },
  {
    // v6 { 2001:db8::1 . 443 }
    type: { key: ['ipv6_addr', 'inet_service'] },
    element: { key: ['2001:db8::1', '443'] },
    hex: '200001801c00018018000100 20010db8000000000000000000000001 01bb0000',
  },
  {
    // dnat4 { 192.0.2.1 . tcp . 8000-8010 : 10.0.0.2 . 80 }, a map with flags interval
    type: { key: ['ipv4_addr', 'inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
    element: { key: ['192.0.2.1', 'tcp', '8000-8010'], data: ['10.0.0.2', '80'] },
    hex:
      '3c000180 1400018010000100 c0000201 06000000 1f400000' +
      '14000a8010000100 c0000201 06000000 1f4a0000 100002800c000100 0a000002 00500000',
  },
];

t.test('elements as nft sends them', (t) => {
  for (const { type, element, hex } of GOLDEN) {
    const bytes = encodeElement(type, element);
    t.equal(bytes.toString('hex'), hex.replaceAll(' ', ''), element.key.join(' . '));
    t.same(decodeElement(type, payload(bytes)), element);
  }
  t.end();
});

/**
 * Oracle: as above, `nft add element inet cnm same_bridge { br0 . br1 }`, the whole datagram, without the sequence
 * numbers (netlink.ts fills them in) and without NFTA_SET_ELEM_LIST_SET_ID, which is for sets of the same transaction.
 */
t.test('a transaction as nft sends it', (t) => {
  const requests = batch(changesOf(false, [{ set: 'same_bridge', key: ['br0', 'br1'] }]));
  t.same(
    requests.map(({ type, data }) => [type.toString(16), Buffer.from(data).toString('hex')]),
    [
      ['10', '0000000a'],
      [
        'a0c',
        '01000000' +
          '08000100636e6d00' +
          '1000020073616d655f62726964676500' +
          '300003802c0001802800018024000100' +
          '62723000000000000000000000000000' +
          '62723100000000000000000000000000',
      ],
      ['11', '0000000a'],
    ],
  );
  t.end();
});

t.test('as few messages as an attribute’s 16 bits allow, in order', (t) => {
  const steps = Array.from({ length: 5000 }, (_, i) => ({ set: 'bridges' as const, key: [`b${i}`] }));
  const changes = changesOf(true, [...steps, { set: 'internal', key: ['b0'] }]);
  t.same(
    changes.map(({ set, remove }) => [set, remove]),
    [...Array.from({ length: 3 }, () => ['bridges', true]), ['internal', true]],
  );
  t.same(
    changes.flatMap(({ elements }) => elements.map(({ key }) => key[0])).slice(0, 5000),
    steps.map(({ key }) => key[0]),
  );
  for (const { data } of batch(changes)) t.ok(data.length < 65536);
  t.end();
});

const fields: Readonly<Record<FieldType, fc.Arbitrary<string>>> = {
  ifname: fc.stringMatching(/^[A-Za-z0-9_.@-]{1,15}$/),
  ipv4_addr: fc.integer({ min: 0, max: 0xffffffff }).map((value) => ipFromValue(4, BigInt(value))),
  ipv6_addr: fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ipFromValue(6, value)),
  inet_proto: fc.constantFrom('tcp', 'udp', 'sctp', 'icmp', 'ipv6-icmp', '0', '47', '255'),
  inet_service: fc.oneof(
    fc.integer({ min: 0, max: 65535 }).map(String),
    fc
      .tuple(fc.integer({ min: 0, max: 65534 }), fc.integer({ min: 1, max: 65535 }))
      .filter(([first, last]) => first < last)
      .map(([first, last]) => `${first}-${last}`),
  ),
};

t.test('any element comes back as it went', (t) => {
  const element = fc
    .array(fc.constantFrom(...(Object.keys(fields) as FieldType[])), { minLength: 1, maxLength: 4 })
    .chain((types) => fc.tuple(fc.constant(types), fc.tuple(...types.map((type) => fields[type]))));
  fc.assert(
    fc.property(element, ([key, text]) => {
      const bytes = encodeElement({ key }, { key: text });
      t.same(decodeElement({ key }, payload(bytes)).key, text);
      const [value] = attributes(payload(bytes));
      t.equal(payload(value?.data ?? Buffer.alloc(0)).length, keyLength({ key }));
    }),
  );
  t.end();
});

t.test('subnets are ranges of addresses', (t) => {
  const type: SetType = { key: ['ipv4_addr', 'inet_service'] };
  for (const length of [0, 1, 8, 24, 31]) {
    const subnet = networkOf(prefixOf(ipFromValue(4, 0x0a010203n), length));
    const bytes = encodeElement(type, { key: [subnet, '80'] });
    t.same(decodeElement(type, payload(bytes)).key, [subnet, '80']);
  }
  t.end();
});

t.test('text that is not of the type', (t) => {
  const wrong: readonly (readonly [readonly FieldType[], readonly string[]])[] = [
    [['ifname'], ['']],
    [['ifname'], ['0123456789abcdef']],
    [['ifname'], ['a b']],
    [['ifname'], ['a/b']],
    [['ifname'], ['a', 'b']],
    [['ipv4_addr'], ['2001:db8::1']],
    [['ipv4_addr'], ['10.0.0']],
    [['ipv6_addr'], ['10.0.0.1']],
    [['inet_proto'], ['tcpp']],
    [['inet_proto'], ['256']],
    [['inet_service'], ['65536']],
    [['inet_service'], ['1-2-3']],
    [['inet_service'], ['-1']],
    [['inet_service'], ['']],
  ];
  for (const [key, text] of wrong) {
    const error = t.throws(() => encodeElement({ key }, { key: text }), KernelError);
    t.match(error, { errno: 'EINVAL' }, `${key.join(' . ')}: ${text.join(' . ')}`);
  }
  t.end();
});

t.test('attributes that lie about their length end the walk', (t) => {
  for (const hex of ['', '0400', '0300010000000000', 'ff00010000000000', '00000000']) {
    t.same([...attributes(Buffer.from(hex, 'hex'))], [], hex);
  }
  t.end();
});
