/** What other hosts have of a network. Pure. */
import type { Remote, RemoteEndpoint, RemoteHost } from '../cnm/control.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import type { RemotesView } from './views.ts';

/** Undefined: the network is this host's alone, or its hosts have no records of each other. */
export function remotesView(
  { agreement }: NetworkRecord,
  remotes: readonly Remote[],
): RemotesView | undefined {
  if (agreement === undefined) return undefined;
  const { name, numbers } = agreement;
  const hosts = remotes.filter((remote): remote is RemoteHost => remote.kind === 'host');
  const endpoints = remotes.filter((remote): remote is RemoteEndpoint => remote.kind === 'endpoint');
  return {
    name,
    numbers,
    hosts: hosts
      .map(({ id, name: called, at, details }) => ({ id, name: called, at, details }))
      .sort((a, b) => a.name.localeCompare(b.name)),
    endpoints: endpoints
      .map(({ id, host, at, mac, addresses, names }) => ({ id, host, at, mac, addresses, names }))
      .sort((a, b) => (a.addresses[0] ?? '').localeCompare(b.addresses[0] ?? '', 'en', { numeric: true })),
  };
}
