/** The store's contents in memory: JSON texts by key, so that whoever reads gets a copy of their own. */

/** Chunks stay between a half and the whole of this, so that an insert moves few keys however many there are. */
const CHUNK = 512;

export class Mirror {
  readonly #texts = new Map<string, string>();
  /** All keys in order, cut into chunks; none is empty. */
  readonly #chunks: string[][] = [];

  get size(): number {
    return this.#texts.size;
  }

  has(key: string): boolean {
    return this.#texts.has(key);
  }

  get(key: string): unknown {
    const text = this.#texts.get(key);
    return text === undefined ? undefined : (JSON.parse(text) as unknown);
  }

  list(prefix: string): [key: string, value: unknown][] {
    const found: [string, unknown][] = [];
    for (let c = this.#chunkOf(prefix); c < this.#chunks.length; c++) {
      const chunk = this.#chunks[c] ?? [];
      for (let i = lowerBound(chunk, prefix); i < chunk.length; i++) {
        const key = chunk[i] ?? '';
        if (!key.startsWith(prefix)) return found;
        found.push([key, this.get(key)]);
      }
    }
    return found;
  }

  /** No text deletes. */
  set(key: string, text: string | undefined): void {
    const known = this.#texts.has(key);
    if (text === undefined) {
      if (known) this.#removeKey(key);
      this.#texts.delete(key);
      return;
    }
    if (!known) this.#addKey(key);
    this.#texts.set(key, text);
  }

  #addKey(key: string): void {
    const c = Math.min(this.#chunkOf(key), this.#chunks.length - 1);
    const chunk = this.#chunks[c];
    if (chunk === undefined) {
      this.#chunks.push([key]);
      return;
    }
    chunk.splice(lowerBound(chunk, key), 0, key);
    if (chunk.length > CHUNK) this.#chunks.splice(c + 1, 0, chunk.splice(CHUNK / 2));
  }

  #removeKey(key: string): void {
    const c = this.#chunkOf(key);
    const chunk = this.#chunks[c];
    if (chunk === undefined) return;
    chunk.splice(lowerBound(chunk, key), 1);
    if (chunk.length === 0) this.#chunks.splice(c, 1);
  }

  /** The first chunk whose last key is not below `key`. */
  #chunkOf(key: string): number {
    return firstIndex(this.#chunks.length, (c) => (this.#chunks[c]?.at(-1) ?? '') >= key);
  }
}

function lowerBound(keys: readonly string[], key: string): number {
  return firstIndex(keys.length, (i) => (keys[i] ?? '') >= key);
}

/** Binary search: `holds` is false up to some index and true from there on. */
function firstIndex(length: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
