/**
 * Who says what of an entry's place. Several may claim one place at the same time: a container has moved and its former host has not said
 * so yet, or never will. The newest claim has it; when that goes, the next one has it. An endpoint of this host has its places, whoever else
 * claims them, and needs no entry. What the tables hold is brought to that change by change, however many claims there are. Pure.
 */
import { type EntryStep, entryName, slotOf } from '../kernel/entry.ts';

interface Claim {
  readonly owner: string;
  readonly generation: number;
  /** Undefined: of this host, without an entry. */
  readonly entry: EntryStep | undefined;
}

interface Slot {
  claims: readonly Claim[];
  /** What the tables hold there, as far as is known. */
  held?: EntryStep | undefined;
}

/** What is to be done: `undo` first. */
export interface Batch {
  readonly undo: readonly EntryStep[];
  readonly make: readonly EntryStep[];
  readonly slots: readonly (readonly [slot: string, then: EntryStep | undefined])[];
}

export class Claims {
  readonly #slots = new Map<string, Slot>();
  /** The places that each owner claims. */
  readonly #owners = new Map<string, readonly string[]>();
  #open = new Set<string>();

  /** In the place of what the owner claimed before. */
  put(owner: string, generation: number, entries: readonly EntryStep[], here = false): void {
    const slots = entries.map(slotOf);
    for (const slot of this.#owners.get(owner) ?? [])
      if (!slots.includes(slot)) this.#claim(slot, owner, undefined);
    for (const [index, entry] of entries.entries())
      this.#claim(slots[index] ?? '', owner, { owner, generation, entry: here ? undefined : entry });
    this.#owners.set(owner, slots);
  }

  drop(owner: string): void {
    for (const slot of this.#owners.get(owner) ?? []) this.#claim(slot, owner, undefined);
    this.#owners.delete(owner);
  }

  /** The tables are found to hold these, and nothing else. What nobody claims will be undone. */
  found(entries: Iterable<EntryStep>): void {
    for (const [name, slot] of this.#slots) {
      slot.held = undefined;
      this.#open.add(name);
    }
    for (const entry of entries) {
      const slot = slotOf(entry);
      this.#slots.set(slot, { ...(this.#slots.get(slot) ?? { claims: [] }), held: entry });
      this.#open.add(slot);
    }
  }

  get isSettled(): boolean {
    return this.#open.size === 0;
  }

  /** What there is to be done now. One batch at a time: `done` or `failed` follows. */
  take(): Batch {
    const slots = [...this.#open].map((slot) => [slot, this.#winner(slot)] as const);
    this.#open = new Set();
    const changed = slots.filter(([slot, then]) => !same(this.#slots.get(slot)?.held, then));
    return {
      undo: changed.flatMap(([slot, then]) =>
        then === undefined ? (this.#slots.get(slot)?.held ?? []) : [],
      ),
      make: changed.flatMap(([, then]) => then ?? []),
      slots,
    };
  }

  done({ slots }: Batch): void {
    for (const [name, then] of slots) {
      const slot = this.#slots.get(name);
      if (slot === undefined) continue;
      slot.held = then;
      if (then === undefined && slot.claims.length === 0 && !this.#open.has(name)) this.#slots.delete(name);
    }
  }

  failed({ slots }: Batch): void {
    for (const [name] of slots) this.#open.add(name);
  }

  /** All that the tables should hold. */
  wanted(): readonly EntryStep[] {
    return [...this.#slots.keys()].flatMap((slot) => this.#winner(slot) ?? []);
  }

  #claim(name: string, owner: string, claim: Claim | undefined): void {
    const slot = this.#slots.get(name) ?? { claims: [] };
    const others = slot.claims.filter((one) => one.owner !== owner);
    slot.claims = claim === undefined ? others : [...others, claim];
    this.#slots.set(name, slot);
    this.#open.add(name);
  }

  #winner(name: string): EntryStep | undefined {
    const [first, ...others] = this.#slots.get(name)?.claims ?? [];
    return others.reduce((best, claim) => (isNewer(claim, best) ? claim : best), first)?.entry;
  }
}

/** Equal generations: any order will do that is the same on every host. */
function isNewer(one: Claim, other: Claim | undefined): boolean {
  if (other === undefined || one.generation !== other.generation)
    return other === undefined || one.generation > other.generation;
  return one.owner > other.owner;
}

function same(one: EntryStep | undefined, other: EntryStep | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one === other || entryName(one) === entryName(other);
}
