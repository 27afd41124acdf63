/* `cnm dns` against the admin API of a daemon in memory: what is asked for, and what people see of it. */
import t from 'tap';
import type { QueryEvent } from '../dns/query-log.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';
import { askLines, dnsTables, logLine } from './render/dns.ts';
import { PLAIN } from './render/text.ts';

const world = async (t: { teardown(fn: () => Promise<void>): unknown }) => {
  const double = await standaloneDouble({ resolver: true });
  t.teardown(() => double.close());
  const { client } = double;
  const network = (name: string, subnet: string) =>
    client.createNetwork({
      name,
      driver: 'cnm-bridge',
      subnets: [subnet],
      gateways: [],
      ipRanges: [],
      auxAddresses: {},
      ipv4: true,
      ipv6: false,
      internal: false,
      options: {},
    });
  await network('demo', '10.88.0.0/24');
  await network('other', '10.89.0.0/24');
  for (const [name, on, ip] of [
    ['web', 'demo', '10.88.0.10'],
    ['db', 'demo', '10.88.0.11'],
    ['far', 'other', '10.89.0.10'],
  ] as const) {
    await client.createSandbox(name);
    await client.join(name, { network: on, ip, options: {}, aliases: [`${name}-too`] });
  }
  return double;
};

t.test('names, and those of one network', async (t) => {
  const { client } = await world(t);
  const text = dnsTables(await client.dns('demo'), PLAIN);
  t.match(text, /^NAME +NETWORK +ADDRESS +ALSO CALLED +PORTS\ndb +demo +10\.88\.0\.11 +db-too [0-9a-f]{12}/);
  t.notMatch(text, /far/);
  t.match(dnsTables(await client.dns(undefined), PLAIN), /far +other +10\.89\.0\.10/);
  await t.rejects(client.dns('nope'), /nope/);
});

t.test('a question, and why its answer is what it is', async (t) => {
  const { client, cnm } = await world(t);
  const ask = async (name: string, from?: string, type = 'A') =>
    askLines(await client.dnsQuery({ name, type, from }));
  t.match(
    await ask('db-too', 'web'),
    /NOERROR in .* ms\n.*rule +name: [^]*\n {2}db-too 10 A 10\.88\.0\.11\n$/,
  );
  t.match(await ask('db', 'far'), /NXDOMAIN[^]*single-label/, 'as that sandbox sees it');
  t.match(await ask('far.other'), /name\.network[^]*10\.89\.0\.10/, 'the host sees all');
  const web = cnm.sandboxes().find(({ name }) => name === 'web');
  t.match(await ask('db', web?.id.slice(0, 8)), /10\.88\.0\.11/, 'by the beginning of an id');
  t.match(await ask('11.0.88.10.in-addr.arpa', 'web', 'ptr'), /PTR db\.demo/);
  t.match(await ask('www.example', 'web'), /SERVFAIL[^]*answered by +none/, 'there are no servers');
  await t.rejects(client.dnsQuery({ name: 'db', type: 'A', from: 'nobody' }), /No sandbox .* "nobody"/);
  await t.rejects(client.dnsQuery({ name: 'db', type: 'WHAT' }), /"WHAT" is no type/);
  await t.rejects(client.dnsQuery({ name: 'a b', type: 'A' }), /"a b" cannot be a domain name/);
});

t.test('every query, as it is answered; and the figures', async (t) => {
  const { client, raw } = await world(t);
  const seen: QueryEvent[] = [];
  void client.dnsLog((event) => seen.push(event)).catch(() => undefined);
  for (let n = 0; n < 200 && seen.length === 0; n += 1)
    await client.dnsQuery({ name: 'nobody.demo', type: 'A', from: 'web' });
  const [first] = seen;
  if (first !== undefined)
    t.match(
      logLine(first),
      /^\d\d:\d\d:\d\d\.\d{3} {2}cnm dns query cnm {2}tcp {2}A {2}nobody\.demo {2}NXDOMAIN 0 {2}inside-network /,
    );
  t.ok(first);
  await client.dnsQuery({ name: 'db', type: 'A', from: 'web' });
  const { text } = await raw('GET', '/metrics');
  t.match(text, /# TYPE cnm_dns_answers_total counter/);
  t.match(text, /cnm_dns_answers_total\{network="demo",rcode="NOERROR"\} 1\n/);
  t.match(text, /cnm_dns_endpoints 3\n/);
});
