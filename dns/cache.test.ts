import * as packet from 'dns-packet';
import t from 'tap';
import { Cache, cacheKey, lifetime } from './cache.ts';
import { parseQuery, type Question } from './question.ts';

function asked(name: string, type: packet.RecordType = 'A', more: Partial<packet.Packet> = {}): Question {
  const parsed = parseQuery(packet.encode({ type: 'query', questions: [{ name, type }], ...more }));
  if (parsed === undefined || 'refused' in parsed) throw new Error('no question');
  return parsed.question;
}

function reply(name: string, more: Partial<packet.Packet>, type: packet.RecordType = 'A'): Buffer {
  return packet.encode({ type: 'response', questions: [{ name, type }], ...more });
}

const a = (ttl: number, name = 'a.example'): packet.Answer => ({ type: 'A', name, ttl, data: '192.0.2.1' });
const soa = (ttl: number, minimum: number): packet.Answer => ({
  type: 'SOA',
  name: 'example',
  ttl,
  data: { mname: 'm', rname: 'r', serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});
const NXDOMAIN = 3;

t.test('how long a reply is kept (RFC 2308)', (t) => {
  const q = asked('a.example');
  const table: readonly (readonly [string, Partial<packet.Packet>, number | undefined])[] = [
    ['the least of its TTLs', { answers: [a(300), a(60)] }, 60],
    ['an hour at most', { answers: [a(864_000)] }, 3600],
    ['not at all', { answers: [a(0)] }, 0],
    ['a TTL with the top bit is zero (RFC 2181 section 8)', { answers: [a(0x8000_0001)] }, 0],
    ['no such name: the SOA’s minimum', { flags: NXDOMAIN, authorities: [soa(900, 30)] }, 30],
    ['or its own TTL', { flags: NXDOMAIN, authorities: [soa(20, 30)] }, 20],
    ['five minutes at most', { flags: NXDOMAIN, authorities: [soa(9000, 9000)] }, 300],
    ['no such type', { authorities: [soa(900, 30)] }, 30],
    [
      'an alias that leads nowhere',
      {
        answers: [{ type: 'CNAME', name: 'a.example', ttl: 10, data: 'b.example' }],
        authorities: [soa(900, 30)],
      },
      10,
    ],
    ['a negative answer without a SOA', { flags: NXDOMAIN }, undefined],
    ['SERVFAIL', { flags: 2, answers: [a(300)] }, undefined],
    ['a cut answer', { flags: packet.TRUNCATED_RESPONSE, answers: [a(300)] }, undefined],
  ];
  for (const [what, more, seconds] of table)
    t.equal(lifetime(reply('a.example', more), q)?.seconds, seconds, what);
  const cut = reply('a.example', { answers: [a(300)] });
  t.equal(lifetime(cut.subarray(0, -3), q), undefined, 'cut off in the middle of a record');
  t.end();
});

t.test('a kept reply has less time left, and none at its end', (t) => {
  const cache = new Cache();
  const q = asked('a.example');
  const key = cacheKey(q) ?? '';
  cache.put(key, reply('a.example', { answers: [a(60)], authorities: [soa(5, 5)] }), q, 1000);
  const ttls = (now: number) => {
    const kept = cache.get(key, now);
    if (kept === undefined) return undefined;
    const { answers = [], authorities = [] } = packet.decode(kept);
    return [...answers, ...authorities].map((one) => ('ttl' in one ? one.ttl : undefined));
  };
  t.same(ttls(1000), [60, 5]);
  t.same(ttls(11_500), [50, 0], 'whole seconds, and never below zero');
  t.equal(ttls(61_000), undefined);
  t.equal(cache.entries, 0);
  t.end();
});

t.test('an expired reply, for want of a better one (RFC 8767)', (t) => {
  const cache = new Cache(undefined, 100_000);
  const q = asked('a.example');
  const key = cacheKey(q) ?? '';
  const put = (now: number) => {
    cache.put(key, reply('a.example', { answers: [a(60), a(120)] }), q, now);
  };
  const ttls = (kept: Buffer | undefined) =>
    kept && packet.decode(kept).answers?.map((one) => ('ttl' in one ? one.ttl : undefined));
  put(0);
  t.equal(cache.get(key, 60_000), undefined, 'it is not given without need');
  t.ok(cache.has(key, 60_000));
  t.same(ttls(cache.getStale(key, 61_000)), [30, 30]);
  t.same(ttls(cache.get(key, 90_999)), [30, 30], 'and half a minute from then on');
  t.equal(cache.get(key, 91_000), undefined);
  put(92_000);
  t.same(ttls(cache.get(key, 93_000)), [59, 119], 'a new one is better');
  t.ok(cache.getStale(key, 92_000 + 159_999));
  t.equal(cache.getStale(key, 92_000 + 160_000), undefined, 'it does not stay for ever');
  t.equal(cache.entries, 0);
  const none = new Cache();
  none.put(key, reply('a.example', { answers: [a(60)] }), q, 0);
  t.equal(none.getStale(key, 60_000), undefined, 'unless it is asked for, nothing that has expired is kept');
  t.end();
});

t.test('different questions have different keys', (t) => {
  const opt = (more: object) =>
    ({
      additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [], ...more }],
    }) as unknown as Partial<packet.Packet>;
  const keys = [
    asked('a.example'),
    asked('a.example', 'AAAA'),
    asked('b.example'),
    asked('a.example', 'A', opt({})),
    asked('a.example', 'A', opt({ flags: packet.DNSSEC_OK })),
    asked('a.example', 'A', { flags: packet.CHECKING_DISABLED }),
  ].map(cacheKey);
  t.equal(new Set(keys).size, keys.length);
  t.equal(cacheKey(asked('A.exAMple')), keys[0], 'letters do not count');
  const subnet = opt({ options: [{ code: 8, family: 1, sourcePrefixLength: 24, ip: '192.0.2.0' }] });
  t.equal(cacheKey(asked('a.example', 'A', subnet)), undefined, 'for its asker alone');
  t.end();
});

t.test('bounded: the longest unused goes first', (t) => {
  const cache = new Cache(4_000);
  const put = (name: string) => {
    const q = asked(name);
    cache.put(cacheKey(q) ?? '', reply(name, { answers: [a(60, name)] }), q, 0);
  };
  const has = (name: string) => cache.get(cacheKey(asked(name)) ?? '', 0) !== undefined;
  put('first.example');
  for (let n = 0; n < 100; n += 1) {
    put(`n${n}.example`);
    t.ok(has('first.example'), 'used all the time');
  }
  t.ok(cache.entries < 14);
  t.notOk(has('n0.example'));
  t.end();
});
