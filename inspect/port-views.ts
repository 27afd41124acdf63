/** Published ports, and whose they are. Pure. */
import { compareIp, type Ip } from '../address/ip.ts';
import { CnmError } from '../cnm/errors.ts';
import type { EndpointRecord, PublishedPort } from '../cnm/model.ts';
import { protocolName } from '../cnm/ports.ts';
import type { PacketCount } from '../kernel/kernel.ts';
import type { TransportProtocol } from '../kernel/step.ts';
import { byPrecedence, quote, several } from './refs.ts';
import { endpointSummary, type Names, networkName } from './summaries.ts';
import type { CountedPortView, Named, PortView } from './views.ts';

/** In order of port, protocol and address; a port that is published on several addresses is one. */
export function portViews(endpoint: EndpointRecord, names: Names): readonly PortView[] {
  const { external } = endpoint;
  if (external?.state !== 'ready') return [];
  const { id, name } = endpointSummary(endpoint, names);
  const whose = { endpoint: named(id, name), network: networkName(endpoint.network, names) };
  const ports = new Map<string, { port: PublishedPort; hosts: { ip: Ip; port: number }[] }>();
  for (const port of external.published) {
    const key = keyOf({ ip: port.ip, proto: protocolName(port.proto), port: port.port });
    const hosts = ports.get(key)?.hosts ?? [];
    if (port.hostIp !== undefined && port.hostPort !== undefined)
      hosts.push({ ip: port.hostIp, port: port.hostPort });
    ports.set(key, { port, hosts });
  }
  return [...ports.values()]
    .map(({ port: { proto, ip, port, via }, hosts }) => ({
      ...whose,
      // A driver publishes nothing else: it would have refused the request.
      proto: protocolName(proto) as TransportProtocol,
      ip,
      port,
      ...(via && { via }),
      hosts,
    }))
    .sort((a, b) => a.port - b.port || a.proto.localeCompare(b.proto) || compareIp(a.ip, b.ip));
}

export function counted(port: PortView, counters: ReadonlyMap<string, PacketCount>): CountedPortView {
  return { ...port, count: counters.get(keyOf({ ...port, ip: port.via ?? port.ip })) ?? null };
}

/** The key of the element in open4 or open6. */
function keyOf({
  ip,
  proto,
  port,
}: {
  readonly ip: Ip;
  readonly proto: string;
  readonly port: number;
}): string {
  return `${ip} . ${proto} . ${port}`;
}

/**
 * The endpoints that `ref` means: one by its id, those of a container or sandbox by its name, or those of a network.
 * @throws CnmError `endpoint-unknown`, or `request-invalid` when it means several things.
 */
export function endpointsMeant(
  ref: string,
  endpoints: readonly EndpointRecord[],
  networks: readonly { readonly id: string }[],
  names: Names,
): readonly EndpointRecord[] {
  const candidates = byPrecedence(ref, [
    ...endpoints.map((one) => ({ ...summaryNamed(one, names), owns: [one] })),
    ...networks.map(({ id }) => ({
      ...networkName(id, names),
      owns: endpoints.filter(({ network }) => network === id),
      network: true,
    })),
  ]);
  const [first] = candidates;
  if (first === undefined) {
    throw new CnmError(
      'endpoint-unknown',
      `No endpoint, container or network has the id or name ${quote(ref)}`,
    );
  }
  const ofOneName = candidates.every((one) => one.name === ref && !('network' in one));
  if (candidates.length > 1 && !ofOneName) throw several(ref, 'endpoints and networks', candidates);
  return candidates.flatMap(({ owns }) => owns);
}

function summaryNamed(endpoint: EndpointRecord, names: Names): Named {
  const { id, name } = endpointSummary(endpoint, names);
  return named(id, name);
}

function named(id: string, name: string | undefined): Named {
  return { id, ...(name !== undefined && { name }) };
}
