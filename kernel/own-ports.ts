/**
 * The netlink ports of this process and of the programs that it runs, so that the changes they make are told from
 * others': an nf_tables notification carries the port of the socket that asked for the change.
 */
export class OwnPorts {
  readonly #until = new Map<number, number>();

  /** A socket of ours, for good. */
  add(port: number): void {
    this.#until.set(port, Infinity);
  }

  /**
   * A program of ours: its first netlink socket has the process id as its port (net/netlink/af_netlink.c:
   * netlink_autobind). Returns what to call at its end; what it did last is heard of a little later.
   */
  addProgram(pid: number): () => void {
    this.#until.set(pid, Infinity);
    return () => {
      this.#until.set(pid, performance.now() + LINGER_MS);
    };
  }

  has(port: number): boolean {
    const until = this.#until.get(port);
    if (until === undefined || until > performance.now()) return until !== undefined;
    this.#until.delete(port);
    return false;
  }
}

/** Longer than between two looks at the notifications, shorter than process ids take to come round again. */
const LINGER_MS = 2000;
