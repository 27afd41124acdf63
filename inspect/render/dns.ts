/** The resolver's names, answers and queries for people. Pure. */
import type { QueryEvent } from '../../dns/query-log.ts';
import type { AskView } from '../../dns/service.ts';
import type { DnsView } from '../views.ts';
import { fields, table } from './table.ts';
import { type Paint, printable } from './text.ts';

export function dnsTables({ names, servers, upstreams }: DnsView, paint: Paint): string {
  const rows = names.map(({ network, networkName, names, addresses, ports }) => [
    names[0] ?? '(no name yet)',
    networkName ?? network.slice(0, 12),
    addresses.join(' '),
    names.slice(1).join(' '),
    ports.join(' '),
  ]);
  const parts = [
    table(['NAME', 'NETWORK', 'ADDRESS', 'ALSO CALLED', 'PORTS'], rows.sort(byNetworkAndName), paint),
  ];
  if (servers.length > 0)
    parts.push(
      table(
        ['RESOLVER', 'ADDRESS', 'STATE'],
        servers.map(({ name, address, port, error }) => [name, `${address}#${port}`, error ?? 'answers']),
        paint,
      ),
    );
  if (upstreams.length > 0)
    parts.push(
      table(
        ['FORWARDS TO', 'STATE', 'ASKED', 'ANSWERED', 'FAILED', 'TIME'],
        upstreams.map(
          ({ address, port, state, asked, answered, refused, timedOut, unreachable, roundTrip }) => [
            port === 53 ? address : `${address}#${port}`,
            state,
            String(asked),
            String(answered),
            String(refused + timedOut + unreachable),
            roundTrip === undefined ? '' : `${roundTrip} ms`,
          ],
        ),
        paint,
      ),
    );
  return parts.join('\n');
}

function byNetworkAndName(a: readonly string[], b: readonly string[]): number {
  return (a[1] ?? '').localeCompare(b[1] ?? '') || (a[0] ?? '').localeCompare(b[0] ?? '');
}

const WHY: Readonly<Record<string, string>> = {
  name: 'a name on a network of the asker',
  'name.network': 'a name, with the network that it is on',
  reverse: 'the address of an endpoint',
  service: 'a port that endpoints of this name publish or expose',
  localhost: 'localhost is everybody’s own (RFC 6761)',
  'inside-network':
    'inside the name of a network of ours, where nobody else knows names; nobody there is called so, or the asker is not on it',
  'own-subnet': 'an address of a subnet of ours, that nobody has or whose network the asker is not on',
  'single-label':
    'one label: only a container could be called so, and none that the asker sees is; never forwarded',
  class: 'not of class IN',
  forward: 'not ours: forwarded',
  internal: 'not ours, and the asker is on internal networks alone: nothing is forwarded for it',
  'edns-version': 'a version of EDNS that is not 0',
  loop: 'our own question, which came back',
};

export function askLines({
  name,
  type,
  rcode,
  rule,
  network,
  upstream,
  endpoints,
  ms,
  records,
}: AskView): string {
  const rows: [string, string][] = [
    ['answer', `${rcode} in ${ms} ms`],
    ['rule', `${rule ?? ''}: ${WHY[rule ?? ''] ?? ''}`],
  ];
  if (network !== undefined) rows.push(['network', network.slice(0, 12)]);
  if (endpoints !== undefined) rows.push(['endpoints', endpoints.map((id) => id.slice(0, 12)).join(' ')]);
  if (upstream !== undefined) rows.push(['answered by', upstream]);
  const lines = [`${name} ${type}`, ...fields(rows), ...records.map((record) => `  ${record}`)];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

/** `12:00:00.123 web@10.0.0.2 udp  A db.demo  NOERROR 1  name  0.05 ms`. */
export function logLine({
  at,
  door,
  client,
  transport,
  type,
  name,
  rcode,
  answers,
  rule,
  upstream,
  ms,
}: QueryEvent): string {
  const by = upstream === undefined ? (rule ?? '') : `${rule ?? ''} ${upstream}`;
  return `${printable([at.slice(11, 23), `${door} ${client}`, transport, type, name, `${rcode} ${answers}`, by, `${ms} ms`].join('  '))}\n`;
}
