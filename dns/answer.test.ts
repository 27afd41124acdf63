/*
 * The view of `web`, which is on two networks of four:
 *
 *   demo   10.88.0.0/24 fd00:88::/64   web, db, c1.net1          (aliases: api = web + db)
 *   br.net1  10.89.0.0/20                web, c1.net1
 *   app    10.90.0.0/24  web, called like a top-level domain
 *   far    10.91.0.0/24  db (another one); web is not on it
 *   quiet  10.92.0.0/24, internal: in1
 */
import * as packet from 'dns-packet';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { type Decision, decide } from './answer.ts';
import { parseQuery } from './question.ts';
import type { ZoneHost } from './record.ts';
import { encodeReply } from './reply.ts';
import { RCODE } from './wire.ts';
import { Zone } from './zone.ts';

function world(): Zone {
  const zone = new Zone();
  const network = (id: string, name: string, internal: boolean, ...subnets: string[]) => {
    zone.putNetwork({ id, name, internal, subnets: subnets.map(prefix) });
  };
  network('n1', 'demo', false, '10.88.0.0/24', 'fd00:88::/64');
  network('n2', 'br.net1', false, '10.89.0.0/20');
  network('n3', 'app', false, '10.90.0.0/24');
  network('n4', 'far', false, '10.91.0.0/24');
  network('n5', 'quiet', true, '10.92.0.0/24');
  const host = (
    network: string,
    owner: string,
    addresses: string[],
    names: string[],
    ports: ZoneHost['ports'] = [],
  ) =>
    zone.putHost({ id: `${owner}@${network}`, network, owner, names, addresses: addresses.map(ip), ports });
  host('n1', 'web', ['10.88.0.2', 'fd00:88::2'], ['web', 'api', 'Frontend'], [{ proto: 'tcp', port: 80 }]);
  host('n2', 'web', ['10.89.0.2'], ['web']);
  host('n3', 'web', ['10.90.0.2'], ['web']);
  host(
    'n1',
    'db',
    ['10.88.0.3'],
    ['db', 'api'],
    [
      { proto: 'tcp', port: 5432 },
      { proto: 'udp', port: 80 },
    ],
  );
  host('n1', 'c', ['10.88.0.4'], ['c1.net1']);
  host('n2', 'c', ['10.89.0.4'], ['c1.net1', 'c1']);
  host('n4', 'db2', ['10.91.0.3'], ['db', 'only-far']);
  host('n1', 'long', ['10.88.0.5'], ['x'.repeat(64)]);
  host('n1', 'long2', ['10.88.0.6'], ['x'.repeat(64), '0123456789ab']);
  host('n5', 'in', ['10.92.0.2'], ['in1']);
  return zone;
}

const zone = world();

interface Seen {
  readonly rule: string;
  readonly rcode?: string;
  readonly data?: readonly unknown[];
  readonly soa?: string;
}

/** The decision, with its answer sent over the wire and read by dns-packet. */
function ask(
  name: string,
  type: string,
  owner = 'web',
  zoned = zone,
): Seen & { readonly decision: Decision } {
  const message = packet.encode({ type: 'query', questions: [{ name, type: type as packet.RecordType }] });
  const parsed = parseQuery(message);
  if (parsed === undefined || 'refused' in parsed) throw new Error(`${name} is no question`);
  const view = owner === 'host' ? zoned.hostView() : zoned.viewOf(owner);
  const decision = decide(zoned, view, parsed.question);
  const { rule, answer, refuse } = decision;
  if (answer === undefined) {
    return {
      decision,
      rule,
      ...(refuse !== undefined && { rcode: Object.entries(RCODE).find(([, n]) => n === refuse)?.[0] ?? '' }),
    };
  }
  const reply = packet.decode(
    encodeReply(message, parsed.question, answer, 65535),
  ) as packet.DecodedPacket & { rcode: string };
  const data = (reply.answers ?? []).map((one) => ('data' in one ? one.data : undefined));
  const [soa] = reply.authorities ?? [];
  return { decision, rule, rcode: reply.rcode, data, ...(soa !== undefined && { soa: soa.name }) };
}

const FORWARD = { rule: 'forward', rcode: undefined };
type Row = readonly [what: string, name: string, type: string, expected: object, owner?: string];

const NAMES: readonly Row[] = [
  ['a name', 'db', 'A', { rule: 'name', data: ['10.88.0.3'] }],
  ['in other letters (D01)', 'dB', 'A', { rule: 'name', data: ['10.88.0.3'] }],
  ['both families', 'web', 'AAAA', { data: ['fd00:88::2'] }],
  ['the first network that knows it wins', 'web', 'A', { data: ['10.88.0.2'] }],
  ['an alias with letters', 'frontend', 'A', { data: ['10.88.0.2'] }],
  ['with its network', 'web.br.net1', 'A', { rule: 'name.network', data: ['10.89.0.2'] }],
  ['a name with a dot (D07)', 'c1.net1', 'A', { rule: 'name', data: ['10.88.0.4'] }],
  ['and its network (D07)', 'c1.net1.br.net1', 'A', { rule: 'name.network', data: ['10.89.0.4'] }],
  ['with a domain of others (D07)', 'c1.net1.br.net1.google.com', 'A', FORWARD],
  ['known, but not with that family (V06)', 'db', 'AAAA', { rcode: 'NOERROR', data: [], soa: 'db' }],
  ['known, other type (D03)', 'db', 'MX', { rcode: 'NOERROR', data: [], soa: 'db' }],
  ['SRV of a plain name (D03)', 'db', 'SRV', { rcode: 'NOERROR', data: [] }],
  ['of its network, other type', 'db.demo', 'TXT', { rcode: 'NOERROR', data: [], soa: 'demo' }],
  ['on another network (D04)', 'only-far', 'A', { rule: 'single-label', rcode: 'NXDOMAIN' }],
  [
    'with the name of another network (D04)',
    'db.far',
    'A',
    { rule: 'inside-network', rcode: 'NXDOMAIN', soa: 'far' },
  ],
  [
    'unknown in a network of ours',
    'nobody.demo',
    'A',
    { rule: 'inside-network', rcode: 'NXDOMAIN', soa: 'demo' },
  ],
  ['deep in a network of ours', 'a.b.nobody.br.net1', 'A', { rcode: 'NXDOMAIN', soa: 'br.net1' }],
  ['the network’s own name', 'br.net1', 'A', { rule: 'inside-network', rcode: 'NOERROR', soa: 'br.net1' }],
  ['unknown where the network is called like a domain', 'cash.app', 'A', FORWARD],
  ['known there', 'web.app', 'A', { data: ['10.90.0.2'] }],
  ['one label, unknown', 'nobody', 'A', { rule: 'single-label', rcode: 'NXDOMAIN', soa: 'nobody' }],
  ['a top-level domain, as a validator asks', 'com', 'DS', FORWARD],
  ['the root', '.', 'NS', FORWARD],
  ['anybody’s', 'www.example.com', 'A', FORWARD],
  [
    'seen from an internal network alone',
    'www.example.com',
    'A',
    { rule: 'internal', rcode: 'SERVFAIL' },
    'in',
  ],
  ['its own names', 'in1', 'A', { data: ['10.92.0.2'] }, 'in'],
  ['the host sees all', 'only-far', 'A', { rule: 'name', data: ['10.91.0.3'] }, 'host'],
  ['of any network', 'in1.quiet', 'A', { data: ['10.92.0.2'] }, 'host'],
  ['who is on no network', 'db', 'A', { rule: 'single-label', rcode: 'NXDOMAIN' }, 'stranger'],
  ['localhost', 'localhost', 'A', { rule: 'localhost', data: ['127.0.0.1'] }],
  ['inside of localhost', 'x.localhost', 'AAAA', { rule: 'localhost', data: ['::1'] }],
  ['its other types', 'localhost', 'MX', { rcode: 'NOERROR', data: [], soa: 'localhost' }],
  ['no localhost', 'notlocalhost', 'A', { rule: 'single-label' }],
];

const REVERSE: readonly Row[] = [
  ['IPv4 (D09)', '3.0.88.10.in-addr.arpa', 'PTR', { rule: 'reverse', data: ['db.demo'] }],
  [
    'IPv6 (D09)',
    '2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.8.0.0.0.0.d.f.ip6.arpa',
    'PTR',
    { data: ['web.demo'] },
  ],
  [
    'nobody has it (D09)',
    '99.0.88.10.in-addr.arpa',
    'PTR',
    { rule: 'own-subnet', rcode: 'NXDOMAIN', soa: '0.88.10.in-addr.arpa' },
  ],
  [
    'of a /20: whole labels',
    '9.1.89.10.in-addr.arpa',
    'PTR',
    { rcode: 'NXDOMAIN', soa: '89.10.in-addr.arpa' },
  ],
  ['on another network (D04)', '3.0.91.10.in-addr.arpa', 'PTR', { rule: 'own-subnet', rcode: 'NXDOMAIN' }],
  [
    'other type',
    '3.0.88.10.in-addr.arpa',
    'TXT',
    { rule: 'reverse', rcode: 'NOERROR', data: [], soa: '0.88.10.in-addr.arpa' },
  ],
  ['others’ addresses', '4.4.8.8.in-addr.arpa', 'PTR', FORWARD],
  ['a part of a reverse name', '88.10.in-addr.arpa', 'NS', FORWARD],
  [
    'a name of 64 characters and no other (D10)',
    '5.0.88.10.in-addr.arpa',
    'PTR',
    { rule: 'reverse', rcode: 'SERVFAIL' },
  ],
  [
    'a name of 64 characters and a short id (D10)',
    '6.0.88.10.in-addr.arpa',
    'PTR',
    { data: ['0123456789ab.demo'] },
  ],
];

const SERVICES: readonly Row[] = [
  [
    'by number',
    '_80._tcp.web',
    'SRV',
    { rule: 'service', data: [{ priority: 0, weight: 0, port: 80, target: 'web.demo' }] },
  ],
  [
    'by name',
    '_postgresql._tcp.db',
    'SRV',
    { data: [{ priority: 0, weight: 0, port: 5432, target: 'db.demo' }] },
  ],
  [
    'as Docker means it',
    '80.tcp.web',
    'SRV',
    { data: [{ priority: 0, weight: 0, port: 80, target: 'web.demo' }] },
  ],
  [
    'of an alias: who serves it',
    '_80._tcp.api',
    'SRV',
    { data: [{ priority: 0, weight: 0, port: 80, target: 'web.demo' }] },
  ],
  ['another protocol', '_80._udp.web', 'SRV', { rcode: 'NXDOMAIN', data: [] }],
  ['a port that nobody serves', '_81._tcp.web.demo', 'SRV', { rcode: 'NXDOMAIN', soa: 'demo' }],
  ['another type', '_80._tcp.web', 'TXT', { rcode: 'NOERROR', data: [] }],
  ['others’ services', '_ldap._tcp.example.com', 'SRV', FORWARD],
];

for (const [title, rows] of Object.entries({ names: NAMES, addresses: REVERSE, services: SERVICES })) {
  t.test(title, (t) => {
    for (const [what, name, type, expected, owner] of rows)
      t.match(ask(name, type, owner), expected, `${what}: ${name} ${type}`);
    t.end();
  });
}

t.test('an alias of two: both, in an order that varies (D05)', (t) => {
  const orders = new Set(Array.from({ length: 40 }, () => (ask('api', 'A').data ?? []).join(' ')));
  t.same([...orders].sort(), ['10.88.0.2 10.88.0.3', '10.88.0.3 10.88.0.2']);
  t.same(
    ask('api', 'A').decision.members?.map(({ host }) => host.id),
    ['web@n1', 'db@n1'],
  );
  t.end();
});

t.test('what we cannot answer', (t) => {
  const message = packet.encode({
    type: 'query',
    questions: [{ name: 'version.bind', type: 'TXT', class: 'CH' }],
  });
  const parsed = parseQuery(message);
  if (parsed === undefined || 'refused' in parsed) throw new Error('no question');
  t.match(decide(zone, zone.hostView(), parsed.question), { rule: 'class', refuse: RCODE.REFUSED });
  const edns = { ...parsed.question, class: 1, edns: { size: 512, version: 1, dnssec: false } };
  t.match(decide(zone, zone.hostView(), edns), { refuse: RCODE.BADVERS });
  t.end();
});

t.test('a network without a name, or with one that is no domain name, still has names (D24)', (t) => {
  const zone = new Zone();
  zone.putNetwork({ id: 'n', internal: false, subnets: [prefix('10.1.0.0/24')] });
  zone.putHost({ id: 'e', network: 'n', owner: 'o', names: ['one'], addresses: [ip('10.1.0.2')], ports: [] });
  t.match(ask('one', 'A', 'o', zone), { data: ['10.1.0.2'] });
  zone.putNetwork({ id: 'n', name: 'n'.repeat(115), internal: false, subnets: [prefix('10.1.0.0/24')] });
  t.match(ask('one', 'A', 'o', zone), { data: ['10.1.0.2'] });
  t.match(ask('2.0.1.10.in-addr.arpa', 'PTR', 'o', zone), { data: ['one'] });
  zone.putNetwork({ id: 'n', name: 'late', internal: false, subnets: [prefix('10.1.0.0/24')] });
  t.match(ask('one.late', 'A', 'o', zone), { data: ['10.1.0.2'] }, 'Docker tells later');
  t.match(ask('2.0.1.10.in-addr.arpa', 'PTR', 'o', zone), { data: ['one.late'] });
  t.end();
});
