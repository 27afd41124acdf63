/** The listings for people, and the plan of a dry run. Pure. */
import type { EndpointSummary, NetworkSummary, PlanView, SandboxSummary } from '../views.ts';
import { table } from './table.ts';
import { called, type Paint, printable, short, subnetLine } from './text.ts';

export function networkTable(networks: readonly NetworkSummary[], paint: Paint): string {
  const rows = networks.map((network) => [
    short(network.id),
    network.name ?? '-',
    network.driver,
    network.origin,
    network.subnets.map((subnet) => subnet.pool).join(' ') || '-',
    String(network.endpoints),
    [
      network.state,
      ...(network.internal ? ['internal'] : []),
      ...(network.published ? ['published'] : []),
    ].join(', '),
  ]);
  return table(['ID', 'NAME', 'DRIVER', 'MADE BY', 'SUBNETS', 'ENDPOINTS', 'STATE'], rows, paint);
}

export function endpointTable(endpoints: readonly EndpointSummary[], paint: Paint): string {
  const rows = endpoints.map((endpoint) => [
    short(endpoint.id),
    endpoint.name ?? '-',
    called(endpoint.network),
    endpoint.addresses.join(' ') || '-',
    endpoint.mac,
    joinedTo(endpoint),
    endpoint.state,
  ]);
  return table(['ID', 'NAME', 'NETWORK', 'ADDRESSES', 'MAC', 'JOINED TO', 'STATE'], rows, paint);
}

export function sandboxTable(sandboxes: readonly SandboxSummary[], paint: Paint): string {
  const rows = sandboxes.map((sandbox) => [
    short(sandbox.id),
    sandbox.name,
    sandbox.endpoints.map((endpoint) => called(endpoint.network)).join(' ') || '-',
    sandbox.endpoints.flatMap((endpoint) => endpoint.addresses).join(' ') || '-',
    sandbox.path,
    sandbox.state,
  ]);
  return table(['ID', 'NAME', 'NETWORKS', 'ADDRESSES', 'NAMESPACE', 'STATE'], rows, paint);
}

export function planText({ name, driver, subnets, plan }: PlanView): string {
  const lines = [
    `network ${printable(name)} (${driver}) would be made with these steps; nothing was changed`,
    ...subnets.map((subnet) => `  subnet ${subnetLine(subnet)}`),
    ...plan.map(({ command }, index) => `${String(index + 1).padStart(4)}  ${printable(command)}`),
  ];
  return lines.join('\n') + '\n';
}

function joinedTo({ attachment }: EndpointSummary): string {
  if (attachment === undefined) return '-';
  const kind = attachment.kind === 'cnm' ? 'sandbox' : 'container';
  return `${kind} ${attachment.name ?? attachment.key}`;
}
