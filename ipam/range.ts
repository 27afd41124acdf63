/**
 * Sets of numbers from 0 to 2^128 - 1, for finding a free one fast: a tree of bitmaps, 1,024 to a node, of which only the
 * touched nodes exist. A node knows which of its children are full, so that a search costs the tree's depth (one node for a
 * /22, seven for a /64) however full it is.
 */

const DIGIT_BITS = 10;
const DIGITS = 1 << DIGIT_BITS;
const WORDS = DIGITS / 32;

class Node {
  /** A bit for each digit: a number that is taken, or a child that is full. */
  readonly #words = new Uint32Array(WORDS);
  /** A bit for each word that has no zero left. */
  #fullWords = 0;
  /** How many bits are set. */
  #set = 0;
  /** Empty in a leaf. */
  readonly children = new Map<number, Node>();

  get isFull(): boolean {
    return this.#set === DIGITS;
  }

  get isEmpty(): boolean {
    return this.#set === 0 && this.children.size === 0;
  }

  has(digit: number): boolean {
    return ((this.#words[digit >>> 5] ?? 0) & (1 << (digit & 31))) !== 0;
  }

  set(digit: number, value: boolean): void {
    if (this.has(digit) === value) return;
    const w = digit >>> 5;
    const word = (this.#words[w] ?? 0) ^ (1 << (digit & 31));
    this.#words[w] = word;
    this.#set += value ? 1 : -1;
    if (~word === 0) this.#fullWords |= 1 << w;
    else this.#fullWords &= ~(1 << w);
  }

  /** Sets a digit that is clear. False, and nothing is set, when that would make the node full: its parents must know. */
  setAndStays(digit: number): boolean {
    if (this.#set + 1 === DIGITS) return false;
    this.set(digit, true);
    return true;
  }

  /** The lowest digit from `from` on whose bit is zero; DIGITS when there is none. */
  nextClear(from: number): number {
    const w = from >>> 5;
    const here = ~(this.#words[w] ?? -1) & (-1 << (from & 31));
    if (here !== 0 && w < WORDS) return (w << 5) + lowestBit(here);
    // A shift by 32 is one by 0: there is no word after the last.
    const later = w + 1 < WORDS ? ~this.#fullWords & (-1 << (w + 1)) : 0;
    if (later === 0) return DIGITS;
    const next = lowestBit(later);
    return (next << 5) + lowestBit(~(this.#words[next] ?? -1));
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

const SHIFT = BigInt(DIGIT_BITS);
const MASK = BigInt(DIGITS - 1);

export class NumberSet {
  readonly #depth: number;
  readonly #root = new Node();
  #size = 0;
  /** The leaf that was last used, and its numbers without their last digit: neighbours are found with no walk from the root. */
  #leaf: Node | undefined;
  #page = -1n;

  /** For numbers of up to `bits` bits. */
  constructor(bits: number) {
    this.#depth = Math.max(1, Math.ceil(bits / DIGIT_BITS));
  }

  get size(): number {
    return this.#size;
  }

  has(value: bigint): boolean {
    const page = value >> SHIFT;
    if (page === this.#page && this.#leaf !== undefined) return this.#leaf.has(Number(value & MASK));
    let node: Node | undefined = this.#root;
    const digits = this.#digits(value);
    const last = digits.pop() ?? 0;
    for (const digit of digits) {
      if (node.has(digit)) return true;
      node = node.children.get(digit);
      if (node === undefined) return false;
    }
    this.#leaf = node;
    this.#page = page;
    return node.has(last);
  }

  add(value: bigint): void {
    if (this.has(value)) return;
    this.#size++;
    const leaf = value >> SHIFT === this.#page ? this.#leaf : undefined;
    if (leaf?.setAndStays(Number(value & MASK)) === true) return;
    const path = this.#path(value);
    for (const { node, digit } of path.reverse()) {
      // The leaf's bit is the number; above it a bit stands for a child that has become full.
      if (node.children.get(digit)?.isFull !== false) node.set(digit, true);
    }
  }

  delete(value: bigint): void {
    if (!this.has(value)) return;
    for (const { node, digit } of this.#path(value).reverse()) {
      node.set(digit, false);
      if (node.children.get(digit)?.isEmpty === true) node.children.delete(digit);
    }
    this.#size--;
    // It may have been emptied and dropped.
    this.#leaf = undefined;
  }

  /** The lowest number from `from` to `to`, both included, that is not in the set. */
  nextFree(from: bigint, to: bigint): bigint | undefined {
    if (from > to) return undefined;
    const near = this.#nextOnPage(from);
    if (near !== undefined) return near <= to ? near : undefined;
    const found: number[] = [];
    if (!search(this.#root, this.#digits(from), 0, true, found)) return undefined;
    const value = this.#value(found);
    return value <= to ? value : undefined;
  }

  #nextOnPage(from: bigint): bigint | undefined {
    if (this.#leaf === undefined || from >> SHIFT !== this.#page) return undefined;
    const digit = this.#leaf.nextClear(Number(from & MASK));
    return digit < DIGITS ? (this.#page << SHIFT) | BigInt(digit) : undefined;
  }

  /** The nodes from the root to the leaf, made where they are missing, each with the digit to follow. */
  #path(value: bigint): { node: Node; digit: number }[] {
    let node = this.#root;
    const path = this.#digits(value).map((digit, i) => {
      const step = { node, digit };
      if (i + 1 < this.#depth) node = childOf(node, digit);
      return step;
    });
    this.#leaf = node;
    this.#page = value >> SHIFT;
    return path;
  }

  /** From the most significant one on. */
  #digits(value: bigint): number[] {
    const digits = new Array<number>(this.#depth);
    if (this.#depth <= 5) {
      // Exact as a plain number, which is several times as fast.
      let rest = Number(value);
      for (let i = this.#depth - 1; i >= 0; i--) {
        digits[i] = rest % DIGITS;
        rest = Math.floor(rest / DIGITS);
      }
      return digits;
    }
    let rest = value;
    for (let i = this.#depth - 1; i >= 0; i--) {
      digits[i] = Number(rest & MASK);
      rest >>= SHIFT;
    }
    return digits;
  }

  #value(digits: readonly number[]): bigint {
    if (this.#depth <= 5) return BigInt(digits.reduce((value, digit) => value * DIGITS + digit, 0));
    return digits.reduce((value, digit) => (value << SHIFT) | BigInt(digit), 0n);
  }
}

function childOf(node: Node, digit: number): Node {
  let child = node.children.get(digit);
  if (child === undefined) {
    child = new Node();
    node.children.set(digit, child);
  }
  return child;
}

/**
 * Fills `found` from place `i` on with the lowest free digits under `node`; while `tight`, those before were all `from`'s, so
 * that the rest may not be lower than its. False when there is none.
 */
function search(node: Node, from: readonly number[], i: number, tight: boolean, found: number[]): boolean {
  const first = tight ? (from[i] ?? 0) : 0;
  for (let digit = node.nextClear(first); digit < DIGITS; digit = node.nextClear(digit + 1)) {
    found[i] = digit;
    if (i + 1 === from.length) return true;
    const bound = tight && digit === first;
    const child = node.children.get(digit);
    if (child === undefined) {
      for (let k = i + 1; k < from.length; k++) found[k] = bound ? (from[k] ?? 0) : 0;
      return true;
    }
    if (search(child, from, i + 1, bound, found)) return true;
  }
  return false;
}
