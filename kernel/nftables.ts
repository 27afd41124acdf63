/** Our nftables table in the kernel: loaded by `nft`, its elements changed and read over netlink. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keyLength } from './element.ts';
import type { ElementText } from './element.ts';
import {
  batch,
  changesOf,
  decodeCounted,
  decodeElements,
  decodeSet,
  elementsRequest,
  generationRequest,
  NFPROTO_INET,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  rulesRequest,
  setsRequest,
} from './element-batch.ts';
import type { ElementChange } from './element-batch.ts';
import type { Facts } from './facts.ts';
import { KernelError } from './kernel.ts';
import type { PacketCount } from './kernel.ts';
import { NETLINK_NETFILTER, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import { OwnPorts } from './own-ports.ts';
import { run } from './run.ts';
import { RULE_COUNT, rulesetText, VERSION_SET } from './ruleset.ts';
import { SET_NAMES, SETS } from './sets.ts';
import type { NftElement, NftSetName } from './step.ts';
import type { Syscalls } from './syscall.ts';

type Element = Pick<NftElement, 'set' | 'key' | 'data'>;
export type FirewallFacts = Pick<Facts, 'elements' | 'rulesetCurrent'>;

export interface Firewall {
  /**
   * Load the table in one transaction if it is absent, of another version or damaged, with the elements that it has.
   * @throws KernelError with nft's own message; then the table is as it was. ENOENT: there is no `nft`.
   */
  prepare(): Promise<void>;
  /**
   * All of it or nothing, in one transaction, before it returns: removes first, then adds. What is gone already or there already
   * is success.
   * @throws KernelError ENOENT when the table is not loaded and there is something to add; EBUSY for a key with other data.
   */
  change(adds: readonly Element[], removes: readonly Element[]): void;
  /** The same with adds alone. Returns those that were not there before: they are the caller's to take back. */
  add<E extends Element>(elements: readonly E[]): readonly E[];
  /** What the kernel holds. `elements` is undefined when the table is not there. */
  dump(): FirewallFacts;
  /** What the elements of the counted sets have counted, by key. Empty when the table is not there. */
  counters(): ReadonlyMap<string, PacketCount>;
  close(): void;
}

/** In the network namespace that the calling thread is in, and stays. */
export function openFirewall(sys: Syscalls, own: OwnPorts = new OwnPorts()): Firewall {
  return new NftFirewall(openNetlinkSocket(sys, NETLINK_NETFILTER), own);
}

class NftFirewall implements Firewall {
  readonly #socket: NetlinkSocket;
  readonly #own: OwnPorts;
  #loading: Promise<void> | undefined;
  /** Changes made while `nft` runs: it loads the elements of before, so they are made again. */
  #since: { readonly adds: readonly Element[]; readonly removes: readonly Element[] }[] = [];

  constructor(socket: NetlinkSocket, own: OwnPorts) {
    this.#socket = socket;
    this.#own = own;
    own.add(portOf(socket));
  }

  prepare(): Promise<void> {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    const { elements, rulesetCurrent } = this.dump();
    if (rulesetCurrent) return;
    this.#since = [];
    await loadFile(rulesetText(elements), this.#own);
    for (const { adds, removes } of this.#since) this.#change(adds, removes);
  }

  change(adds: readonly Element[], removes: readonly Element[]): void {
    this.#change(adds, removes);
    if (this.#loading !== undefined) this.#since.push({ adds, removes });
  }

  /** Nearly always all of them are new: asked that way first, it costs the same however many there are already. */
  add<E extends Element>(elements: readonly E[]): readonly E[] {
    try {
      this.#change(elements, [], true);
    } catch (error) {
      if (!(error instanceof KernelError && error.errno === 'EEXIST')) throw error;
      const before = new Map(
        [...new Set(elements.map(({ set }) => set))].map((set) => [set, this.#elements(set)]),
      );
      this.change(elements, []);
      return elements.filter(({ set, key }) => before.get(set)?.has(key.join(' . ')) !== true);
    }
    if (this.#loading !== undefined) this.#since.push({ adds: elements, removes: [] });
    return elements;
  }

  #change(adds: readonly Element[], removes: readonly Element[], exclusive = false): void {
    let changes = [...changesOf(true, removes), ...changesOf(false, adds)];
    while (changes.length > 0) {
      const { failures } = this.#socket.transact(batch(changes, exclusive));
      if (failures.length === 0) return;
      const failed = new Map(failures.map(({ index, ...why }) => [index - 1, why]));
      for (const [index, { errno, detail }] of failed) {
        const change = changes[index];
        if (change?.remove === true && errno === 'ENOENT') continue;
        throw new KernelError(describe(change), errno, detail);
      }
      // One element that is gone fails the whole transaction: again without it, alone when it hides among others.
      changes = changes.flatMap((change, index) => (failed.has(index) ? singled(change) : [change]));
    }
  }

  dump(): FirewallFacts {
    try {
      return this.#dump();
    } catch (error) {
      // No table, or it went while it was read.
      if (!(error instanceof KernelError && error.errno === 'ENOENT')) throw error;
      return { elements: undefined, rulesetCurrent: false };
    }
  }

  #dump(): FirewallFacts {
    const sets = this.#socket.dump(setsRequest(), ({ data }) => decodeSet(data));
    const rules = [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6].flatMap((family) =>
      this.#socket.dump(rulesRequest(family), () => true),
    ).length;
    const known = SET_NAMES.filter((name) =>
      sets.some((set) => set.name === name && set.keyLength === keyLength(SETS[name])),
    );
    return {
      elements: new Map(known.map((name) => [name, this.#elements(name)])),
      rulesetCurrent:
        rules === RULE_COUNT &&
        known.length === SET_NAMES.length &&
        sets.some(({ name }) => name === VERSION_SET),
    };
  }

  #elements(set: NftSetName): ReadonlyMap<string, string> {
    const lists = this.#socket.dump(elementsRequest(set), ({ data }) => decodeElements(set, data));
    return new Map(lists.flat().map(({ key, data }) => [key.join(' . '), data?.join(' . ') ?? ''] as const));
  }

  counters(): ReadonlyMap<string, PacketCount> {
    try {
      const counted = COUNTED.flatMap((set) =>
        this.#socket.dump(elementsRequest(set), ({ data }) => decodeCounted(set, data)).flat(),
      );
      return new Map(counted.map(({ key, count }) => [key.join(' . '), count]));
    } catch (error) {
      if (!(error instanceof KernelError && error.errno === 'ENOENT')) throw error;
      return new Map();
    }
  }

  close(): void {
    this.#socket.close();
  }
}

const COUNTED = SET_NAMES.filter((set) => SETS[set].counted === true);

/** Through a file: nft cannot read a pipe of Node's, which is a socket and has no name in /dev/stdin. */
async function loadFile(text: string, own: OwnPorts): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-nft-'));
  try {
    const file = join(folder, 'ruleset.nft');
    await writeFile(file, text);
    await run('nft', ['-f', file], '', own);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The port of a socket of ours: the kernel addresses its answers to it. */
function portOf(socket: NetlinkSocket): number {
  return socket.transact([generationRequest()]).replies.get(0)?.port ?? 0;
}

function singled({ elements, ...change }: ElementChange): ElementChange[] {
  return elements.length === 1 ? [] : elements.map((element) => ({ ...change, elements: [element] }));
}

function describe(change: ElementChange | undefined): string {
  if (change === undefined) return 'nft transaction';
  const { remove, set, elements } = change;
  const keys = elements.slice(0, 3).map(({ key }: ElementText) => key.join(' . '));
  const more = elements.length > 3 ? `, and ${elements.length - 3} more` : '';
  return `nft ${remove ? 'delete' : 'add'} element ${set} { ${keys.join(', ')}${more} }`;
}
