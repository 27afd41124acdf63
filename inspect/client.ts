/** The admin API as the command calls it. No library: loading one costs more than the whole call. */
import { openSync } from 'node:fs';
import { request } from 'node:http';
import { basename, dirname } from 'node:path';
import type { QueryEvent } from '../dns/query-log.ts';
import type { AskView } from '../dns/service.ts';
import type {
  AddressView,
  AuditView,
  CheckView,
  OverlayCheckView,
  ClusterSummary,
  DnsQueryRequest,
  DnsView,
  DoctorView,
  EndpointSummary,
  EndpointView,
  ErrorView,
  FindingView,
  FirewallView,
  FixView,
  JoinRequest,
  NetworkRequest,
  NetworkSummary,
  NetworkView,
  PlanView,
  PoolSummary,
  PortView,
  PublishedView,
  ReleaseView,
  RotationView,
  SandboxRequest,
  SandboxSummary,
  SandboxView,
  VersionView,
} from './views.ts';

/** A failure for the person at the terminal: the message is all there is to print. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/**
 * Both ends are of one package, so an answer has the shape that `views.ts` gives it; only that it is JSON is checked.
 * Every method throws CommandError.
 */
export class Client {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  async networks(): Promise<readonly NetworkSummary[]> {
    return (await this.#call('GET', '/v1/networks')) as readonly NetworkSummary[];
  }

  async network(ref: string): Promise<NetworkView> {
    return (await this.#call('GET', at('networks', ref))) as NetworkView;
  }

  async createNetwork(wanted: NetworkRequest): Promise<{ readonly id: string }> {
    return (await this.#call('POST', '/v1/networks', wanted)) as { readonly id: string };
  }

  async planNetwork(wanted: NetworkRequest): Promise<PlanView> {
    return (await this.#call('POST', '/v1/networks?dry-run', wanted)) as PlanView;
  }

  async deleteNetwork(ref: string): Promise<void> {
    await this.#call('DELETE', at('networks', ref));
  }

  async checkNetwork(ref: string, ask: readonly string[]): Promise<CheckView> {
    return (await this.#call('POST', `${at('networks', ref)}/check`, { ask })) as CheckView;
  }

  async publishNetwork(ref: string, wait: number): Promise<PublishedView> {
    return (await this.#call('POST', `${at('networks', ref)}/publish`, { wait })) as PublishedView;
  }

  async withdrawNetwork(name: string, wait: number): Promise<PublishedView> {
    return (await this.#call('POST', `${at('published', name)}/withdraw`, { wait })) as PublishedView;
  }

  async checkOverlay(ref: string): Promise<OverlayCheckView> {
    return (await this.#call('GET', `${at('overlays', ref)}/check`)) as OverlayCheckView;
  }

  async rotateKeys(): Promise<RotationView> {
    return (await this.#call('POST', '/v1/overlay/rotate')) as RotationView;
  }

  async endpoints(network: string | undefined): Promise<readonly EndpointSummary[]> {
    return (await this.#call(
      'GET',
      query('/v1/endpoints', 'network', network),
    )) as readonly EndpointSummary[];
  }

  async endpoint(ref: string): Promise<EndpointView> {
    return (await this.#call('GET', at('endpoints', ref))) as EndpointView;
  }

  async publish(ref: string, ports: readonly string[]): Promise<EndpointView> {
    return (await this.#call('POST', `${at('endpoints', ref)}/publish`, { ports })) as EndpointView;
  }

  async unpublish(ref: string): Promise<EndpointView> {
    return (await this.#call('POST', `${at('endpoints', ref)}/unpublish`)) as EndpointView;
  }

  async ports(of: string | undefined): Promise<readonly PortView[]> {
    return (await this.#call('GET', query('/v1/ports', 'of', of))) as readonly PortView[];
  }

  async firewall(network: string | undefined): Promise<FirewallView> {
    return (await this.#call('GET', query('/v1/firewall', 'network', network))) as FirewallView;
  }

  async ruleset(network: string | undefined): Promise<{ readonly ruleset: string }> {
    return (await this.#call('GET', query('/v1/firewall/nft', 'network', network))) as {
      readonly ruleset: string;
    };
  }

  async sandboxes(): Promise<readonly SandboxSummary[]> {
    return (await this.#call('GET', '/v1/sandboxes')) as readonly SandboxSummary[];
  }

  async sandbox(ref: string): Promise<SandboxView> {
    return (await this.#call('GET', at('sandboxes', ref))) as SandboxView;
  }

  async createSandbox(
    name: string,
    dns: Omit<SandboxRequest, 'name'> = {},
  ): Promise<{ readonly id: string; readonly path: string }> {
    return (await this.#call('POST', '/v1/sandboxes', { name, ...dns })) as {
      readonly id: string;
      readonly path: string;
    };
  }

  async deleteSandbox(ref: string): Promise<void> {
    await this.#call('DELETE', at('sandboxes', ref));
  }

  async join(ref: string, wanted: JoinRequest): Promise<EndpointView> {
    return (await this.#call('POST', `${at('sandboxes', ref)}/join`, wanted)) as EndpointView;
  }

  async leave(ref: string, network: string): Promise<void> {
    await this.#call('POST', `${at('sandboxes', ref)}/leave`, { network });
  }

  async pools(): Promise<readonly PoolSummary[]> {
    return (await this.#call('GET', '/v1/ipam/pools')) as readonly PoolSummary[];
  }

  async cluster(): Promise<ClusterSummary> {
    return (await this.#call('GET', '/v1/ipam/hosts')) as ClusterSummary;
  }

  async forgetHost(host: string): Promise<ClusterSummary> {
    return (await this.#call('POST', '/v1/ipam/forget', { host })) as ClusterSummary;
  }

  async leases(pool: string): Promise<readonly AddressView[]> {
    return (await this.#call('GET', query('/v1/ipam/leases', 'pool', pool))) as readonly AddressView[];
  }

  async address(address: string): Promise<readonly AddressView[]> {
    return (await this.#call('GET', at('ipam/addresses', address))) as readonly AddressView[];
  }

  async checkLeases(): Promise<AuditView> {
    return (await this.#call('GET', '/v1/ipam/check')) as AuditView;
  }

  async releaseLeases(findings: readonly FindingView[]): Promise<ReleaseView> {
    return (await this.#call('POST', '/v1/ipam/release', { findings })) as ReleaseView;
  }

  async doctor(): Promise<DoctorView> {
    return (await this.#call('GET', '/v1/drift')) as DoctorView;
  }

  async fix(): Promise<FixView> {
    return (await this.#call('POST', '/v1/reconcile')) as FixView;
  }

  async dns(network: string | undefined): Promise<DnsView> {
    return (await this.#call('GET', query('/v1/dns', 'network', network))) as DnsView;
  }

  async dnsQuery(wanted: DnsQueryRequest): Promise<AskView> {
    return (await this.#call('POST', '/v1/dns/query', wanted)) as AskView;
  }

  /** Calls `line` for every query of anybody, until the daemon ends. */
  dnsLog(line: (event: QueryEvent) => void): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const failed = (error: Error) => {
      reject(new CommandError(unreachable(this.#socket, error), { cause: error }));
    };
    const outgoing = request(
      { socketPath: dialable(this.#socket), path: '/v1/dns/log', agent: false },
      (response) => {
        const { statusCode = 0 } = response;
        let held = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          held += part;
          if (statusCode >= 400) return;
          const lines = held.split('\n');
          held = lines.pop() ?? '';
          for (const one of lines) line(parse(one) as QueryEvent);
        });
        response.on('error', failed);
        response.on('end', () => {
          if (statusCode < 400) resolve(undefined);
          else reject(refused(statusCode, parse(held)));
        });
      },
    );
    outgoing.on('error', failed);
    outgoing.end();
    return promise;
  }

  async version(): Promise<VersionView> {
    return (await this.#call('GET', '/v1/version')) as VersionView;
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const { status, text } = await this.#exchange(method, path, body);
    const answer = parse(text);
    if (status < 400) return answer;
    throw refused(status, answer);
  }

  #exchange(method: string, path: string, body: unknown): Promise<{ status: number; text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
    const failed = (error: Error) => {
      reject(new CommandError(unreachable(this.#socket, error), { cause: error }));
    };
    const socketPath = dialable(this.#socket);
    const outgoing = request({ socketPath, method, path, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', failed);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    outgoing.on('error', failed);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }
}

/** sun_path of unix(7) holds 108 bytes with the closing NUL. */
const PATH_MAX_BYTES = 107;

/**
 * A managed plugin's socket lies in Docker's folder below an id of 64 digits, which is more than an address can hold: it
 * is then reached through a descriptor of its folder, open until the command ends.
 */
function dialable(path: string): string {
  if (Buffer.byteLength(path) <= PATH_MAX_BYTES) return path;
  try {
    return `/proc/self/fd/${openSync(dirname(path), 'r')}/${basename(path)}`;
  } catch (error) {
    throw new CommandError(unreachable(path, error instanceof Error ? error : new Error(String(error))), {
      cause: error,
    });
  }
}

function query(path: string, name: string, value: string | undefined): string {
  return value === undefined ? path : `${path}?${name}=${encodeURIComponent(value)}`;
}

function at(collection: string, ref: string): string {
  if (ref === '') throw new CommandError('An empty id or name means nothing; give the id or name');
  return `/v1/${collection}/${encodeURIComponent(ref)}`;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new CommandError('The answer is not JSON; is this socket the admin socket of cnmd?');
  }
}

function refused(status: number, answer: unknown): CommandError {
  const message = (answer as Partial<ErrorView> | null)?.error?.message;
  return new CommandError(message ?? `The daemon answered ${status} with nothing to explain it`);
}

function unreachable(socket: string, error: Error & { readonly code?: unknown }): string {
  const start =
    'Start it with: systemctl start cnmd (or: cnmd), or name its socket with --socket or CNM_SOCKET; ' +
    "a managed plugin's is DockerRootDir/plugins/ID/propagated-mount/cnm.sock, printed by packaging/plugin-socket.sh NAME";
  switch (error.code) {
    case 'ENOENT':
      return `The daemon is not running: there is no socket ${socket}. ${start}`;
    case 'ECONNREFUSED':
      return `The daemon is not running: nobody listens on ${socket}. ${start}`;
    case 'EACCES':
    case 'EPERM':
      return `The socket ${socket} can be opened by root only; run this command as root`;
    default:
      return `The daemon does not answer on ${socket} (${error.message}). ${start}`;
  }
}
