/** Changing the cluster's records: one transaction at a time, each under the condition that nothing has changed meanwhile. */
import type { Prefix } from '../../address/prefix.ts';
import { CnmError, messageOf } from '../../cnm/errors.ts';
import type { ClusterChange, ClusterStore, Condition, Failure } from '../../store/cluster.ts';
import { blockName, encodeBlock, isEmpty, partsOf } from './block.ts';
import type { Block } from './block.ts';
import { batchKey, blockKey } from './keys.ts';
import type { Mirror } from './mirror.ts';
import type { PoolState } from './pool-state.ts';
import type { Span } from '../spans.ts';

/** Milliseconds for which the news of a change may take until they are here. */
const NEWS_MS = 3000;

/** The outcome of a change: made, or refused because the records are others by now. */
export type Outcome = 'done' | 'stale';

export class Records {
  readonly cluster: ClusterStore;
  readonly mirror: Mirror;
  readonly me: string;

  constructor(cluster: ClusterStore, mirror: Mirror, me: string) {
    this.cluster = cluster;
    this.mirror = mirror;
    this.me = me;
  }

  /**
   * When it resolves, the mirror shows what was done, or what stood in its way.
   * @throws ClusterProblem when there is no answer, or none in time.
   */
  async change(when: readonly Condition[], then: readonly ClusterChange[]): Promise<Outcome> {
    const answer = await this.cluster.transact(when, then);
    if (!answer.ok) throw new ClusterProblem(answer);
    const { mirror } = this;
    const told = answer.done
      ? await mirror.until(() => mirror.revision >= answer.revision, NEWS_MS)
      : await mirror.until(() => !when.every((condition) => mirror.holds(condition)), NEWS_MS);
    if (told) return answer.done ? 'done' : 'stale';
    const message = `${this.cluster.name} answers, but its changes do not arrive here`;
    throw new ClusterProblem({ ok: false, reason: 'unreachable', message, uncertain: answer.done });
  }

  /**
   * The changes that put a block in the place of the one that the mirror has now, and end this host's lead of a block that it
   * holds nothing of any more.
   */
  blockChange(state: PoolState, span: Span, next: Block): { when: Condition[]; then: ClusterChange[] } {
    const name = blockName(state.pool, span.first);
    const key = blockKey(state.pool, name);
    const then: ClusterChange[] = [
      isEmpty(next) ? { delete: key } : { put: key, value: encodeBlock(state.pool, next) },
    ];
    const leads = state.leader(span) === this.me;
    if (leads && partsOf(next, this.me).length === 0) then.push({ delete: batchKey(state.pool, name) });
    return { when: [this.mirror.unchanged(key)], then };
  }
}

/** The cluster store gave no answer. */
export class ClusterProblem extends Error {
  override readonly name = 'ClusterProblem';
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** As users see it. */
export function unreachable(what: string, error: unknown): CnmError {
  if (error instanceof CnmError) return error;
  const reason = messageOf(error);
  return new CnmError(
    'cluster-unreachable',
    `${what}: ${reason}; try again when the cluster's store is back`,
    {
      cause: error,
    },
  );
}

export function poolText(pool: Prefix): string {
  return `cnm-global/${pool}`;
}
