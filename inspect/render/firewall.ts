/** What the firewall does for a network, for a person at 3 a.m. Pure. */
import type { CountedPortView, FamilyFirewallView, FirewallView, NetworkFirewallView } from '../views.ts';
import { at } from './ports.ts';
import { fields, table } from './table.ts';
import { called, type Paint, printable, short } from './text.ts';

export function firewallText({ loaded, networks }: FirewallView, paint: Paint): string {
  const warning = loaded
    ? []
    : [
        paint.red(
          'The table inet cnm is not there, or not the one of this version. Load it with: cnm doctor --fix',
        ),
        '',
      ];
  const parts = networks.map((network) => networkText(network, paint));
  const body = parts.length === 0 ? 'There are no networks.' : parts.join('\n\n');
  return [...warning, body].join('\n') + '\n';
}

function networkText(network: NetworkFirewallView, paint: Paint): string {
  const { bridge, driver, filtered } = network;
  const heading = `network ${paint.bold(printable(called(network)))}  ${short(network.id)}  ${driver}  bridge ${bridge}`;
  return [
    heading,
    // What the table would do without its elements is nothing, and must not read as if it did.
    ...(filtered
      ? []
      : [paint.red(`  NOT FILTERED: the table does not hold ${bridge}. Put it back with: cnm doctor --fix`)]),
    ...fields([...(filtered ? decisions(network) : []), ...acceptRows(network)]),
    ...portRows(network.ports, paint),
  ].join('\n');
}

function decisions(network: NetworkFirewallView): readonly (readonly [string, string])[] {
  return [
    ...network.families.map((family) => [`IPv${family.family}`, familyText(family)] as const),
    ['inside', insideText(network)],
    ...network.trusted.map(
      (name) => ['trusted', `${name}: may ask published ports at the container's own address`] as const,
    ),
  ];
}

function sourceText(source: FamilyFirewallView['source']): string {
  if (source === 'interface') return 'the address of the interface they leave by';
  return source === 'own' ? 'their own addresses' : source;
}

const HOST_TOO = " where the host's own input policy lets them (firewall=host)";

function familyText({ mode, source, obeysHost }: FamilyFirewallView): string {
  const out = `containers go out with ${sourceText(source)}`;
  switch (mode) {
    case 'nat':
      return `nat: ${out}; published ports come in${obeysHost ? HOST_TOO : ''}, all else is dropped`;
    case 'nat-unprotected':
      return `nat-unprotected: ${out}; everything comes in that has a route${obeysHost ? `, published ports${HOST_TOO}` : ''}`;
    case 'routed':
      return `routed: ${out}; published container ports and ICMP come in, all else is dropped`;
    case 'internal':
      return 'internal: nothing goes out, nothing comes in';
    case 'isolated':
      return 'isolated: nothing goes out, nothing comes in, the host has no address there';
  }
}

function insideText({ icc }: NetworkFirewallView): string {
  return icc
    ? 'containers of the network reach each other'
    : 'containers of the network do not reach each other directly (icc=false)';
}

const STATES = {
  there: 'accepts the bridge',
  missing: 'MISSING: a FORWARD policy of DROP drops its packets; put it back with: cnm doctor --fix',
  'no chain': 'there is no such chain: nothing to accept',
} as const;

function acceptRows({ accepts }: NetworkFirewallView): readonly (readonly [string, string])[] {
  const [four, six] = accepts;
  if (four !== undefined && four.state === six?.state) return [['DOCKER-USER', STATES[four.state]]];
  return accepts.map(({ family, state }) => ['DOCKER-USER', `IPv${family}: ${STATES[state]}`] as const);
}

function portRows(ports: readonly CountedPortView[], paint: Paint): readonly string[] {
  if (ports.length === 0) return ['', '  no published ports'];
  const rows = ports.map((port) => [
    called(port.endpoint),
    `${at(port.ip, port.port)}/${port.proto}`,
    port.hosts.map((host) => at(host.ip, host.port)).join(' ') || '(routed)',
    port.count === null ? 'MISSING' : String(port.count.packets),
    port.count === null ? '' : String(port.count.bytes),
  ]);
  const text = table(['ENDPOINT', 'CONTAINER PORT', 'HOST', 'PACKETS IN', 'BYTES IN'], rows, paint);
  return [
    '',
    ...text
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}`),
  ];
}
