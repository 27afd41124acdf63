/**
 * The resolver alone, as the daemon runs it: `dns-server.ts ADDRESS PORT NAMES SERVER`, with NAMES endpoints `n0` … on a network
 * `bench` that the client is not on by address (10.128.0.0/9). Prints `ready` and, at SIGUSR2, its resident memory in MiB.
 */
import { ip, ipFromValue } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { Forwarder } from '../dns/forwarder.ts';
import { QueryLog } from '../dns/query-log.ts';
import { Resolver } from '../dns/resolver.ts';
import { serveTcp, serveUdp } from '../dns/server.ts';
import { Upstreams } from '../dns/upstream.ts';
import { Zone } from '../dns/zone.ts';
import { bindSockets } from '../kernel/bound-sockets.ts';
import { Datagrams } from '../kernel/datagrams.ts';
import { loadSyscalls } from '../kernel/syscall.ts';

const [address = '127.0.0.1', port = '53', names = '10', server = ''] = process.argv.slice(2);
const zone = new Zone();
zone.putNetwork({ id: 'bench', name: 'bench', internal: false, subnets: [prefix('10.128.0.0/9')] });
for (let n = 0; n < Number(names); n += 1) {
  const own = ipFromValue(4, BigInt(0x0a80_0001 + n));
  const id = n.toString(16).padStart(12, '0');
  zone.putHost({ id, network: 'bench', owner: id, names: [`n${n}`, id], addresses: [own], ports: [] });
}
const upstreams = new Upstreams();
const resolver = new Resolver({
  zone,
  forwarder: new Forwarder(),
  log: new QueryLog(),
  upstreams: () => upstreams.of(server === '' ? [] : [server]),
});
const door = {
  name: 'bench',
  view: (client: string) => zone.viewFrom('bench', ip(client)),
  owner: (client: string) => client,
};
const sys = loadSyscalls();
const sockets = (['udp', 'tcp'] as const).map((proto) => ({
  proto,
  address: ip(address),
  port: Number(port),
}));
const [udp = -1, tcp = -1] = bindSockets(sys, sockets, undefined);
const datagrams = new Datagrams(sys);
await serveUdp({ fd: udp }, 4, door, resolver, datagrams.drain.bind(datagrams));
await serveTcp({ fd: tcp }, door, resolver);
process.on('SIGUSR2', () => {
  // With --expose-gc: what it needs, and not what it has not yet given back.
  (globalThis as { readonly gc?: () => void }).gc?.();
  process.stdout.write(`${Math.round(process.memoryUsage().rss / 2 ** 20)}\n`);
});
process.stdout.write('ready\n');
