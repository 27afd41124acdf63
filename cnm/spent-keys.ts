/**
 * Keys that this host has sent with, and must not send with again once their states are gone (RFC 4106 section 3). Kept with the records,
 * before the kernel has them: they outlive the states, the networks and the boot.
 */
import type { Plan, XfrmStateAdd } from '../kernel/step.ts';
import type { Store } from '../store/store.ts';
import { type Encryption, stateName } from './driver.ts';
import { CnmError, messageOf } from './errors.ts';

const SPENT = 'spent-key/';
/** A key may be sent with in its period, and in the one before; one more for clocks. Never less than this, should periods be made shorter. */
const PERIODS = 3;
const KEPT_LEAST_MS = 2 * 24 * 3600 * 1000;

export class SpentKeys {
  readonly #store: Store;
  readonly #now: () => Date;
  /** Since when, the oldest first. */
  readonly #spent = new Map<string, number>();

  constructor(store: Store, now: () => Date) {
    this.#store = store;
    this.#now = now;
    const known = store
      .list(SPENT)
      .flatMap(([key, at]) => (typeof at === 'number' ? [[key.slice(SPENT.length), at] as const] : []));
    for (const [name, at] of known.sort(([, a], [, b]) => a - b)) this.#spent.set(name, at);
  }

  /** A network goes on with the one that it has now; of two for one way with the later one, for the other one is being retired. */
  but(held: Plan): ReadonlySet<string> {
    const own = new Map(
      held.filter(isOnce).map((state) => [`${state.src} ${state.dst} ${state.reqid}`, stateName(state)]),
    );
    const names = new Set(own.values());
    return new Set([...this.#spent.keys()].filter((name) => !names.has(name)));
  }

  /** @throws CnmError `store`: they must not be sent with then. */
  async spend(plan: Plan, lasts: Encryption['lasts'] | undefined): Promise<void> {
    const fresh = plan
      .filter(isOnce)
      .map(stateName)
      .filter((name) => !this.#spent.has(name));
    if (fresh.length === 0) return;
    const now = this.#now().getTime();
    const old = lasts === undefined ? [] : this.#before(now - Math.max(PERIODS * lasts, KEPT_LEAST_MS));
    try {
      await this.#store.write([
        ...fresh.map((name) => ({ put: SPENT + name, value: now })),
        ...old.map((name) => ({ delete: SPENT + name })),
      ]);
    } catch (error) {
      throw new CnmError('store', `The state cannot be saved: ${messageOf(error)}`, { cause: error });
    }
    for (const name of old) this.#spent.delete(name);
    for (const name of fresh) this.#spent.set(name, now);
  }

  #before(time: number): readonly string[] {
    const old: string[] = [];
    for (const [name, at] of this.#spent) {
      if (at >= time) break;
      old.push(name);
    }
    return old;
  }
}

/** A state that is sent with, and must not be made again. */
export function isOnce(step: Plan[number]): step is XfrmStateAdd {
  return step.do === 'xfrm.state.add' && step.once === true;
}
