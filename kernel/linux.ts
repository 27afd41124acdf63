/** The real kernel. */
import { openForwardAccepts } from './accept.ts';
import { bindSockets } from './bound-sockets.ts';
import type { ForwardAccepts } from './accept.ts';
import { openConntrack } from './conntrack.ts';
import type { Conntrack } from './conntrack.ts';
import { dumpNetns, withEntries, withTraffic } from './dump.ts';
import { Datagrams } from './datagrams.ts';
import { Execution } from './execution.ts';
import type { BeforeStep } from './execution.ts';
import type { Facts, NetnsFacts } from './facts.ts';
import { KernelError } from './kernel.ts';
import type {
  Asker,
  FactsQuery,
  Kernel,
  KernelChange,
  Datagram,
  NeighbourSaying,
  LinkTap,
  OnDatagram,
  Orphan,
  PacketCount,
  VtepCounters,
  PartialChecksum,
  ProbeSocket,
  ProbeSocketOptions,
  SocketAddress,
} from './kernel.ts';
import { openFrameSender } from './frame-sender.ts';
import type { FrameSender } from './frame-sender.ts';
import { watchFirewall } from './firewall-watch.ts';
import { Guards } from './guard.ts';
import { Ipsec } from './ipsec.ts';
import { openLinkTap } from './link-tap.ts';
import { Monitor } from './monitor.ts';
import { askNeighbours } from './neighbour-asking.ts';
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink.ts';
import { Namespaces } from './namespaces.ts';
import { holdsNetns, warmThreadPool, withNetns } from './netns.ts';
import { openFirewall } from './nftables.ts';
import type { Firewall } from './nftables.ts';
import type { Ip } from '../address/ip.ts';
import { withNics } from './nic.ts';
import { OwnPorts } from './own-ports.ts';
import { missing, sysctlsOf } from './plan.ts';
import { PortHolder } from './port-holder.ts';
import { Prober } from './prober.ts';
import { openProbeSocket, sendUnfinished } from './probe-sockets.ts';
import { deleteNow, Reaper } from './reaper.ts';
import { TABLE } from './sets.ts';
import { run } from './run.ts';
import { namespacesOf } from './runs.ts';
import { hasIpv6, Indexes, Session } from './session.ts';
import type { Ground } from './session.ts';
import type { NetnsPath, Plan, Step } from './step.ts';
import { loadSyscalls } from './syscall.ts';
import type { Syscalls } from './syscall.ts';
import { makeProcSysWritable, readSysctl } from './sysctl.ts';
import { Translations } from './translations.ts';
import { Vteps } from './vteps.ts';

/** What the kernel says of its work; `cnm/log.ts` has the same shape. */
export interface KernelLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface KernelOptions {
  /** Where `netns.add` holds its namespaces; made when it is missing. */
  readonly netnsDir: string;
  readonly log: KernelLog;
  /** The process has a mount namespace of its own (a managed plugin): a read-only /proc/sys may be made writable in it. */
  readonly ownMounts?: boolean;
  /** What a thread runs for tunnel endpoints in user space: see vteps.ts. Absent: there can be none. */
  readonly vtepWorker?: URL;
  /** Called before each step, which then goes out alone, and after the last of a plan without one: for tests that kill the process there. */
  readonly beforeStep?: BeforeStep;
}

/** Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN where other namespaces are entered. */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
  // Before anything enters a namespace: see netns.ts.
  await warmThreadPool();
  const sys = loadSyscalls();
  if (options.ownMounts === true) writableSysctls(sys, options.log);
  const own = new OwnPorts();
  return new LinuxKernel(options, openFirewall(sys, own), openForwardAccepts(sys, own), own, {
    sys,
    home: openNetlinkSocket(sys, NETLINK_ROUTE),
    netnsDir: options.netnsDir,
    ipv6: hasIpv6(),
    indexes: new Indexes(),
  });
}

/** Not fatal: where all sysctls are right already, nothing needs to be written. */
function writableSysctls(sys: Syscalls, log: KernelLog): void {
  try {
    makeProcSysWritable((source, target, flags) => {
      sys.mount(source, target, flags);
    });
  } catch (error) {
    log.warn({ error: String(error) }, '/proc/sys is read-only and stays so');
  }
}

class LinuxKernel implements Kernel {
  readonly missing = missing;
  readonly #options: KernelOptions;
  readonly #firewall: Firewall;
  readonly #accepts: ForwardAccepts;
  readonly #ground: Ground;
  readonly #namespaces: Namespaces;
  readonly #listeners = new Set<(change: KernelChange) => void>();
  readonly #own: OwnPorts;
  readonly #reaper: Reaper;
  readonly #ports: PortHolder;
  readonly #conntrack: Conntrack;
  readonly #frames: FrameSender;
  readonly #prober: Prober;
  readonly #vteps: Vteps;
  readonly #ipsec: Ipsec;
  readonly #guards: Guards;
  readonly #translations: Translations;
  #datagrams: Datagrams | undefined;
  #monitor: Monitor | undefined;
  #stopFirewallWatch: (() => void) | undefined;

  constructor(
    options: KernelOptions,
    firewall: Firewall,
    accepts: ForwardAccepts,
    own: OwnPorts,
    ground: Ground,
  ) {
    this.#options = options;
    this.#own = own;
    this.#firewall = firewall;
    this.#accepts = accepts;
    this.#ground = ground;
    this.#namespaces = new Namespaces(ground.sys, ground.netnsDir);
    this.#ports = new PortHolder(ground.sys);
    this.#conntrack = openConntrack(ground.sys, ground.home);
    this.#frames = openFrameSender(ground.sys, options.log);
    this.#prober = new Prober(ground.sys, options.log);
    this.#vteps = new Vteps(ground.sys, options.vtepWorker, options.log, () => {
      for (const listen of this.#listeners) listen({ what: 'links' });
    });
    this.#ipsec = new Ipsec(ground.sys);
    this.#guards = new Guards(own);
    this.#translations = new Translations(ground.sys, own);
    this.#reaper = new Reaper(openNetlinkSocket(ground.sys, NETLINK_ROUTE));
  }

  async apply(plan: Plan): Promise<void> {
    await this.#execute((execution) => execution.apply(plan));
  }

  async revert(plan: Plan): Promise<void> {
    const [first] = await this.#execute((execution) => execution.revert(plan));
    if (first !== undefined) throw first.error;
  }

  async #execute<T>(act: (execution: Execution) => Promise<T>): Promise<T> {
    const { log, beforeStep } = this.#options;
    const session = new Session(this.#ground);
    const means = {
      sys: this.#ground.sys,
      session,
      namespaces: this.#namespaces,
      reaper: this.#reaper,
      firewall: this.#firewall,
      accepts: this.#accepts,
      ports: this.#ports,
      conntrack: this.#conntrack,
      frames: this.#frames,
      prober: this.#prober,
      vteps: this.#vteps,
      xfrm: () => this.#ipsec.socket(),
      guards: this.#guards,
      translations: this.#translations,
      quietly: <T>(act: () => T): T => (this.#monitor === undefined ? act() : this.#monitor.quietly(act)),
    };
    try {
      return await act(new Execution(means, log, beforeStep));
    } finally {
      session.close();
    }
  }

  async facts({
    plans = [],
    netns = [],
    sysctls = [],
    firewall = true,
    entries = true,
  }: FactsQuery = {}): Promise<Facts> {
    const steps = plans.flat();
    const askers = entries ? steps : [];
    const paths = new Set([...steps.flatMap(namespacesOf), ...netns]);
    const accepts = firewall ? await this.#acceptFacts() : NO_ACCEPTS;
    const ipsec = this.#ipsec;
    return {
      host: withEntries(
        withNics(
          withTraffic(
            dumpNetns(this.#ground.home, readSysctls([...sysctls, ...sysctlsOf(steps, undefined)])),
            this.#ground.home,
            steps,
          ),
        ),
        this.#ground.home,
        askers,
      ),
      netns: new Map([...paths].flatMap((path) => this.#netnsFacts(path, steps, askers, firewall))),
      ourNetns: this.#namespaces.list(),
      ...(firewall ? this.#firewall.dump() : NO_ELEMENTS),
      ...accepts,
      heldPorts: this.#ports.held(),
      vteps: this.#vteps.running(),
      ...(steps.some(({ do: kind }) => kind.startsWith('xfrm.')) && { xfrm: this.#ipsec.dump() }),
      ...(firewall &&
        steps.some(({ do: kind }) => kind === 'encrypted.guard') && { guards: await this.#guards.held() }),
      get noEsp() {
        return ipsec.whyNot();
      },
    };
  }

  sysctl(key: string): string | undefined {
    return readSysctl(key);
  }

  async #acceptFacts(): Promise<Pick<Facts, 'accepts' | 'acceptChain'>> {
    const { accepts, acceptChain, problems } = await this.#accepts.dump();
    for (const problem of problems) this.#options.log.warn({}, problem);
    return { accepts, acceptChain };
  }

  /** Nothing when the namespace is not there, or ends while we look. */
  #netnsFacts(
    path: NetnsPath,
    steps: readonly Step[],
    askers: readonly Step[],
    firewall: boolean,
  ): readonly [NetnsPath, NetnsFacts][] {
    const { sys } = this.#ground;
    if (!holdsNetns(path)) return [];
    const socket = openNetlinkSocket(sys, NETLINK_ROUTE, path);
    try {
      const sysctls = withNetns(sys, path, () => readSysctls(sysctlsOf(steps, path)));
      const facts = withEntries(dumpNetns(socket, sysctls), socket, askers, path, this.#vteps.entries(path));
      const asks = steps.some((step) => step.do === 'uplink.translate' && step.netns === path);
      const translation = firewall && asks ? this.#translations.held(path) : undefined;
      return [[path, { ...facts, ...(translation !== undefined && { translation }) }]];
    } finally {
      socket.close();
    }
  }

  async remove(orphan: Orphan): Promise<void> {
    switch (orphan.kind) {
      case 'link':
        this.#removeLink(orphan);
        return;
      case 'netns':
        return this.revert([{ do: 'netns.add', path: orphan.path }]);
      case 'element':
      case 'entry':
        return this.revert([orphan.step]);
      case 'accept': {
        const { bridge, network } = orphan;
        return this.revert([{ do: 'forward.accept', bridge, mark: { network } }]);
      }
    }
  }

  #removeLink({ name, netns }: Extract<Orphan, { kind: 'link' }>): void {
    const session = new Session(this.#ground);
    try {
      if (!session.exists(netns)) return;
      session.look([{ netns, name }]);
      const link = session.link(netns, name);
      if (link?.mark === undefined) return;
      const refusal = deleteNow(session.socket(netns), link.index);
      if (refusal !== undefined) {
        throw new KernelError(`ip link del ${name}`, refusal.errno, refusal.detail);
      }
    } finally {
      session.close();
    }
  }

  watch(listener: (change: KernelChange) => void): () => void {
    this.#listeners.add(listener);
    const emit = (what: KernelChange['what']): void => {
      for (const listen of this.#listeners) listen({ what });
    };
    this.#monitor ??= new Monitor(this.#ground.sys, emit);
    this.#stopFirewallWatch ??= watchFirewall(this.#ground.sys, emit, this.#own);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stopWatching();
    };
  }

  #stopWatching(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
    this.#stopFirewallWatch?.();
    this.#stopFirewallWatch = undefined;
  }

  bindSockets(sockets: readonly SocketAddress[], netns?: NetnsPath): readonly number[] {
    return bindSockets(this.#ground.sys, sockets, netns);
  }

  drainDatagrams(fd: number, onDatagram: OnDatagram, first?: Datagram): void {
    this.#datagrams ??= new Datagrams(this.#ground.sys);
    this.#datagrams.drain(fd, onDatagram, first);
  }

  askNeighbours(
    askers: readonly Asker[],
    addresses: readonly Ip[],
    patience: number,
  ): Promise<readonly NeighbourSaying[]> {
    return askNeighbours(this.#ground.sys, askers, addresses, patience);
  }

  probeSocket(options: ProbeSocketOptions): ProbeSocket {
    return openProbeSocket(this.#ground.sys, options);
  }

  sendUnfinished(netns: NetnsPath, name: string, frame: Uint8Array, checksum: PartialChecksum): void {
    const session = new Session(this.#ground);
    try {
      session.look([{ netns, name }]);
      const link = session.link(netns, name);
      if (link === undefined) throw new KernelError(`send by ${name}`, 'ENODEV', 'there is no such link');
      sendUnfinished(this.#ground.sys, netns, link.index, frame, checksum);
    } finally {
      session.close();
    }
  }

  tapLink(link: string, port: number): LinkTap {
    return openLinkTap(this.#ground.sys, link, port);
  }

  prepare(): Promise<void> {
    return this.#firewall.prepare();
  }

  vtepCounters(): Promise<ReadonlyMap<string, VtepCounters>> {
    return this.#vteps.counters();
  }

  counters(): ReadonlyMap<string, PacketCount> {
    return this.#firewall.counters();
  }

  ruleset(): Promise<string> {
    return run('nft', ['list', 'table', 'inet', TABLE], '', this.#own);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    this.#stopWatching();
    await this.#reaper.close();
    this.#firewall.close();
    this.#accepts.close();
    this.#conntrack.close();
    await this.#prober.close();
    await this.#frames.close();
    await this.#vteps.close();
    this.#ipsec.close();
    this.#ports.close();
    this.#namespaces.close();
    this.#ground.home.close();
  }
}

const NO_ACCEPTS: Pick<Facts, 'accepts' | 'acceptChain'> = {
  accepts: [],
  acceptChain: { v4: false, v6: false },
};
const NO_ELEMENTS: Pick<Facts, 'elements' | 'rulesetCurrent'> = {
  elements: undefined,
  rulesetCurrent: false,
};

/** In the namespace that the thread is in; a key that does not exist is left out. */
function readSysctls(keys: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    [...new Set(keys)].flatMap((key) => {
      const value = readSysctl(key);
      return value === undefined ? [] : [[key, value] as const];
    }),
  );
}
