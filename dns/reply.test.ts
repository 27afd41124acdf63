import * as packet from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { keyOf } from './name.ts';
import { parseQuery, type Question } from './question.ts';
import { encodeFailure, encodeQuery, encodeReply, type LocalAnswer, truncated } from './reply.ts';
import { RCODE, TYPE } from './wire.ts';

const hex = (text: string) => Buffer.from(text, 'hex');

function asked(message: Buffer): Question {
  const parsed = parseQuery(message);
  if (parsed === undefined || 'refused' in parsed) throw new Error('not a query');
  return parsed.question;
}

function query(name: string, type: packet.RecordType, size?: number, dnssec = false): Buffer {
  const opt = {
    type: 'OPT',
    name: '.',
    udpPayloadSize: size,
    flags: dnssec ? packet.DNSSEC_OK : 0,
    options: [],
  };
  return packet.encode({
    type: 'query',
    id: 0x1234,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type, name }],
    ...(size !== undefined && { additionals: [opt] }),
  } as unknown as packet.Packet);
}

const V6 = hex('fd000088000000000000000000000003');
const found = (...records: LocalAnswer['records']): LocalAnswer => ({ rcode: RCODE.NOERROR, records });

/** Answered by dnsmasq 2.90 with --local-ttl=10 to the query whose bytes they begin with: question and answer. */
const DNSMASQ: readonly (readonly [string, string, string, LocalAnswer])[] = [
  [
    'A, asked in other letters',
    '123401000001000000000000035765420464656d6f0000010001',
    '123485800001000100000000035765420464656d6f0000010001c00c000100010000000a00040a580003',
    found({ type: TYPE.A, address: 0x0a580003 }),
  ],
  [
    'AAAA',
    '123401000001000000000000037765620464656d6f00001c0001',
    '123485800001000100000000037765620464656d6f00001c0001c00c001c00010000000a0010fd000088000000000000000000000003',
    found({ type: TYPE.AAAA, address: V6 }),
  ],
  [
    'PTR',
    '1234010000010000000000000133013002383802313007696e2d61646472046172706100000c0001',
    '1234858000010001000000000133013002383802313007696e2d61646472046172706100000c0001c00c000c00010000000a000a037765620464656d6f00',
    found({ type: TYPE.PTR, name: keyOf('web.demo') }),
  ],
  [
    'SRV, its target told and pointed to',
    '123401000001000000000000035f3830045f746370037765620464656d6f0000210001',
    '123485800001000100000002035f3830045f746370037765620464656d6f0000210001c00c002100010000000a0010000000000050037765620464656d6f00c035000100010000000a00040a580003c035001c00010000000a0010fd000088000000000000000000000003',
    {
      ...found({ type: TYPE.SRV, port: 80, target: keyOf('web.demo') }),
      additional: [
        { type: TYPE.A, address: 0x0a580003, owner: keyOf('web.demo') },
        { type: TYPE.AAAA, address: V6, owner: keyOf('web.demo') },
      ],
    },
  ],
];

t.test('byte for byte what dnsmasq answers', (t) => {
  for (const [what, bytes, expected, answer] of DNSMASQ) {
    const message = hex(bytes);
    t.equal(encodeReply(message, asked(message), answer, 512).toString('hex'), expected, what);
  }
  t.end();
});

t.test('nothing: a SOA of the zone that the question is in (RFC 2308)', (t) => {
  const message = query('Nope.Demo', 'A', 1232, true);
  const suffix = keyOf('demo');
  const reply = packet.decode(
    encodeReply(message, asked(message), { rcode: RCODE.NXDOMAIN, records: [], soa: suffix.length }, 1232),
  );
  t.equal(reply.questions?.[0]?.name, 'Nope.Demo');
  t.match(reply.authorities, [
    {
      name: 'Demo',
      type: 'SOA',
      ttl: 5,
      data: { mname: 'cnm.internal', rname: 'hostmaster.cnm.internal', minimum: 5 },
    },
  ]);
  t.equal((reply.flags ?? 0) & 15, 3);
  t.match(reply.additionals, [{ type: 'OPT', udpPayloadSize: 4096, flag_do: true }], 'DO is repeated');
  const root = encodeReply(message, asked(message), { rcode: RCODE.NXDOMAIN, records: [], soa: 0 }, 1232);
  t.match(packet.decode(root).authorities, [{ name: '.' }]);
  t.end();
});

t.test('an answer that is too long', (t) => {
  const records = Array.from({ length: 60 }, (_, i) => ({ type: TYPE.A, address: i }));
  for (const [size, limit, count] of [
    [undefined, 512, 30],
    [1232, 1232, 60],
    [undefined, 65535, 60],
  ] as const) {
    const message = query('all', 'A', size);
    const reply = encodeReply(message, asked(message), found(...records), limit);
    const { answers, flag_tc: cut } = packet.decode(reply);
    t.ok(reply.length <= limit);
    t.equal(answers?.length, count, `${limit} bytes`);
    t.equal(cut, count < 60, 'TC');
  }
  t.end();
});

t.test('failures and refusals', (t) => {
  const message = query('x', 'A', 1232);
  const failed = packet.decode(encodeFailure(message, asked(message), RCODE.SERVFAIL));
  t.match(failed, {
    rcode: 'SERVFAIL',
    id: 0x1234,
    questions: [{ name: 'x' }],
    flag_aa: false,
    flag_ra: true,
  });
  const version = encodeFailure(message, asked(message), RCODE.BADVERS);
  t.match(
    packet.decode(version),
    { rcode: 'NOERROR', additionals: [{ extendedRcode: 1 }] },
    '16, in two parts',
  );
  t.end();
});

t.test('what is sent on', (t) => {
  // dig +cookie +subnet +dnssec
  const message = hex(
    '1234012000010000000000010161076578616d706c65000001000100002904d00000800000170008000700011800c00002000a00080102030405060708',
  );
  const sent = packet.decode(encodeQuery(message, asked(message), 0x4321));
  t.match(sent, { id: 0x4321, flag_rd: true, flag_ad: true, questions: [{ name: 'a.example' }] });
  const [opt] = sent.additionals ?? [];
  t.match(opt, { flag_do: true, udpPayloadSize: 1232 });
  t.same(
    (opt as { options: { code: number }[] }).options.map(({ code }) => code),
    [8],
    'the cookie is ours and the asker’s (RFC 7873 section 5)',
  );
  const plain = query('A.Example', 'TXT');
  t.equal(
    encodeQuery(plain, asked(plain), 7).toString('hex'),
    Buffer.concat([hex('0007'), plain.subarray(2)]).toString('hex'),
    'without EDNS: as it came, but its number',
  );
  t.end();
});

t.test('another server’s reply cut to TC', (t) => {
  const message = query('big', 'TXT', 512);
  const long = packet.encode({
    type: 'response',
    id: 0x1234,
    questions: [{ type: 'TXT', name: 'big' }],
    answers: [{ type: 'TXT', name: 'big', data: 'x'.repeat(250) }],
  });
  const short = packet.decode(truncated(long, asked(message), 512));
  t.match(short, { flag_tc: true, questions: [{ name: 'big' }], answers: [] });
  t.equal(short.additionals?.length, 1);
  t.end();
});

t.test('whatever the answer and the room: readable, within the room, whole records', (t) => {
  const label = fc.stringMatching(/^[a-z0-9-]{1,40}$/);
  const key = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => keyOf(labels.join('.')));
  const record = fc.oneof(
    fc.record({ type: fc.constant(TYPE.A), address: fc.nat(0xffffffff) }),
    fc.record({ type: fc.constant(TYPE.AAAA), address: fc.uint8Array({ minLength: 16, maxLength: 16 }) }),
    fc.record({ type: fc.constant(TYPE.PTR), name: key }),
    fc.record({ type: fc.constant(TYPE.SRV), port: fc.nat(65535), target: key }),
  );
  fc.assert(
    fc.property(
      fc.array(record, { maxLength: 80 }),
      fc.integer({ min: 512, max: 4096 }),
      fc.boolean(),
      (records, limit, edns) => {
        const message = query('some.name', 'NULL', edns ? limit : undefined);
        const reply = encodeReply(message, asked(message), found(...records), limit);
        const decoded = packet.decode(reply);
        const whole = decoded.answers?.length === records.length;
        return reply.length <= limit && decoded.flag_tc === !whole && packet.decode.bytes === reply.length;
      },
    ),
  );
  t.end();
});
