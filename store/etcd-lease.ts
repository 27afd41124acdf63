/** A lease in etcd, kept alive; lost by this host's own clock, never later than by etcd's. */
import { setTimeout } from 'node:timers/promises';
import type { CallOptions } from '@grpc/grpc-js';
import type { Etcd3 } from 'etcd3';
import type { ClusterLease, Result } from './cluster.ts';
import type { Members } from './etcd-members.ts';

/** Milliseconds between attempts while etcd does not answer. */
const RETRY_MS = 500;

export function grantLease(
  members: Members,
  ttlSeconds: number,
): Promise<Result<{ readonly lease: ClusterLease }>> {
  return members.call('change', async ({ client, options }) => {
    const asked = performance.now();
    const { ID, TTL } = await client.leaseClient.leaseGrant({ TTL: ttlSeconds }, options);
    const lease = new EtcdLease(members, ID, Number(TTL), asked);
    lease.keep();
    return { ok: true as const, lease };
  });
}

class EtcdLease implements ClusterLease {
  readonly id: string;
  readonly ttlSeconds: number;
  readonly #members: Members;
  readonly #lost = new AbortController();
  readonly #released = new AbortController();
  /** By performance.now(): counted from before the request was sent, as etcd's time begins after it has arrived. */
  #ends: number;

  constructor(members: Members, id: string, ttlSeconds: number, asked: number) {
    this.#members = members;
    this.id = id;
    this.ttlSeconds = ttlSeconds;
    this.#ends = asked + ttlSeconds * 1000;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Until it is released or lost. */
  keep(): void {
    void this.#keep().finally(() => {
      this.#lost.abort();
    });
  }

  async release(): Promise<void> {
    this.#released.abort();
    this.#lost.abort();
    await this.#members.call('change', async ({ client, options }) => {
      await client.leaseClient.leaseRevoke({ ID: this.id }, options);
      return { ok: true as const };
    });
  }

  async #keep(): Promise<void> {
    let pause = this.#third();
    while (await this.#pause(pause)) {
      const sent = performance.now();
      const seconds = await this.#confirm();
      if (seconds === 0) return;
      if (seconds !== undefined) this.#ends = sent + seconds * 1000;
      pause = seconds === undefined ? RETRY_MS : this.#third();
    }
  }

  /** False when its time is up, or it was released. */
  async #pause(milliseconds: number): Promise<boolean> {
    const left = this.#ends - performance.now();
    try {
      await setTimeout(Math.max(0, Math.min(milliseconds, left)), undefined, {
        signal: this.#released.signal,
        ref: false,
      });
    } catch {
      return false;
    }
    return !this.#members.closed && performance.now() < this.#ends;
  }

  /** How many seconds it has from now on, 0 when it has ended; undefined when there was no answer. */
  async #confirm(): Promise<number | undefined> {
    const client = this.#members.current;
    const time = Math.min(this.#third(), this.#ends - performance.now());
    try {
      return await confirmed(client, this.id, { deadline: Date.now() + time });
    } catch {
      this.#members.giveUp(client);
      return undefined;
    }
  }

  #third(): number {
    return (this.ttlSeconds * 1000) / 3;
  }
}

/** A stream for one question: rare enough, and nothing to be found broken later. */
async function confirmed(client: Etcd3, id: string, options: CallOptions): Promise<number> {
  const stream = await client.leaseClient.leaseKeepAlive(options);
  return new Promise<number>((resolve, reject) => {
    stream.on('data', ({ TTL }) => {
      resolve(Number(TTL));
      stream.end();
    });
    stream.on('error', reject);
    stream.on('end', () => {
      reject(new Error('no answer'));
    });
    stream.write({ ID: id });
  });
}
