import * as packet from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { nameText } from './name.ts';
import { parseQuery, sizeLimit } from './question.ts';
import { RCODE } from './wire.ts';

const hex = (text: string) => Buffer.from(text, 'hex');

/** Sent by dig 9.18.49; the options of the command stand beside them. */
const DIG: readonly (readonly [string, string, object])[] = [
  [
    '+nocookie WeB3.demo AAAA',
    '12340120000100000000000104576542330464656d6f00001c000100002904d0000000000000',
    {
      id: 0x1234,
      name: '\x04web3\x04demo',
      type: 28,
      class: 1,
      edns: { size: 1232, version: 0, dnssec: false },
    },
  ],
  [
    '+noedns +norec MX c1.net1',
    '123400200001000000000000026331046e65743100000f0001',
    { name: '\x02c1\x04net1', type: 15, edns: undefined },
  ],
  [
    '+cookie=0102030405060708 +subnet=192.0.2.0/24 +dnssec a.example',
    '1234012000010000000000010161076578616d706c65000001000100002904d00000800000170008000700011800c00002000a00080102030405060708',
    { name: '\x01a\x07example', edns: { dnssec: true, subnet: hex('0008000700011800c00002') } },
  ],
  [
    '+ednsopt=10 +edns=1 +noednsneg x',
    '1234012000010000000000010178000001000100002904d0000100000010000a0008159bf372ca9818c1000a0000',
    { name: '\x01x', edns: { version: 1 } },
  ],
];

t.test('what dig sends', (t) => {
  for (const [options, bytes, expected] of DIG) {
    const parsed = parseQuery(hex(bytes));
    t.match(parsed, { question: expected }, options);
  }
  t.end();
});

const GOOD = DIG[1]?.[1] ?? '';
t.test('what is no query', (t) => {
  const table: readonly (readonly [string, string, number | undefined])[] = [
    ['nothing', '', undefined],
    ['less than a header', GOOD.slice(0, 22), undefined],
    ['an answer', GOOD.replace('0020', '8020'), undefined],
    ['another opcode', GOOD.replace('0020', '2820'), RCODE.NOTIMP],
    ['no question', '123400200000000000000000', RCODE.FORMERR],
    ['two questions', GOOD.replace('00010000', '00020000'), RCODE.FORMERR],
    ['a name that goes on', `${GOOD.slice(0, 24)}3f6331`, RCODE.FORMERR],
    ['a pointer to itself', `${GOOD.slice(0, 24)}c00c00010001`, RCODE.FORMERR],
    ['an extended label', `${GOOD.slice(0, 24)}4100010001`, RCODE.FORMERR],
    [
      'a name of 256 bytes',
      `${GOOD.slice(0, 24)}${`3f${'61'.repeat(63)}`.repeat(4)}0000010001`,
      RCODE.FORMERR,
    ],
    ['no class', GOOD.slice(0, -2), RCODE.FORMERR],
    ['a record that is not there', GOOD.replace('0000000000', '0000000001'), RCODE.FORMERR],
    [
      'two OPT records',
      `${GOOD.replace('0000000000', '0000000002')}${'00002904d0000000000000'.repeat(2)}`,
      RCODE.FORMERR,
    ],
    [
      'an OPT of a name',
      `${GOOD.replace('0000000000', '0000000001')}016100002904d0000000000000`,
      RCODE.FORMERR,
    ],
    [
      'an option cut off',
      `${GOOD.replace('0000000000', '0000000001')}00002904d0000000000003000a00`,
      RCODE.FORMERR,
    ],
  ];
  for (const [what, bytes, rcode] of table) {
    const parsed = parseQuery(hex(bytes));
    if (rcode === undefined) t.equal(parsed, undefined, what);
    else t.match(parsed, { refused: rcode, id: 0x1234 }, what);
  }
  t.end();
});

t.test('how long an answer may be', (t) => {
  const asked = (size?: number) => {
    const parsed = parseQuery(
      packet.encode({
        questions: [{ type: 'A', name: 'x' }],
        ...(size !== undefined && {
          additionals: [{ type: 'OPT', name: '.', udpPayloadSize: size, flags: 0, options: [] }],
        }),
      } as unknown as packet.Packet),
    );
    if (parsed === undefined || 'refused' in parsed) throw new Error('not parsed');
    return parsed.question;
  };
  t.equal(sizeLimit(asked(), 'udp'), 512);
  t.equal(sizeLimit(asked(100), 'udp'), 512, 'RFC 6891 section 6.2.3');
  t.equal(sizeLimit(asked(1232), 'udp'), 1232);
  t.equal(sizeLimit(asked(65535), 'udp'), 4096);
  t.equal(sizeLimit(asked(512), 'tcp'), 65535);
  t.end();
});

t.test('agrees with dns-packet on every query that dns-packet writes', (t) => {
  const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/);
  const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
  fc.assert(
    fc.property(
      name,
      fc.constantFrom('A', 'AAAA', 'PTR', 'SRV', 'MX', 'TXT'),
      fc.nat(0xffff),
      (name, type, id) => {
        const message = packet.encode({
          type: 'query',
          id,
          flags: packet.RECURSION_DESIRED,
          questions: [{ name, type: type }],
        });
        const parsed = parseQuery(message);
        if (parsed === undefined || 'refused' in parsed) return false;
        return (
          nameText(parsed.question.name) === name.toLowerCase() &&
          parsed.question.id === id &&
          parsed.question.end === message.length
        );
      },
    ),
  );
  t.end();
});

t.test('no bytes make it throw or read past their end', (t) => {
  const noise = fc.uint8Array({ minLength: 0, maxLength: 300 });
  fc.assert(
    fc.property(noise, (bytes) => {
      const parsed = parseQuery(Buffer.from(bytes));
      return parsed === undefined || 'refused' in parsed || parsed.question.end <= bytes.length;
    }),
    { numRuns: 5000 },
  );
  // Of a good query, one byte at a time.
  const good = hex(DIG[2]?.[1] ?? '');
  for (let at = 0; at < good.length; at += 1) {
    for (let value = 0; value < 256; value += 1) {
      const bytes = Buffer.from(good);
      bytes[at] = value;
      parseQuery(bytes);
    }
    parseQuery(good.subarray(0, at));
  }
  t.end();
});
