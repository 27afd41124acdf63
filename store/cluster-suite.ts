/** What every cluster store must do: run with the double beside it, and with a real etcd in tests/cluster/. */
import { setTimeout } from 'node:timers/promises';
import type { Test } from 'tap';
import type { ClusterStore, Result, WatchChange, WatchEvent } from './cluster.ts';

/** One store as several hosts see it. */
export interface ClusterWorld {
  /** Another client of the same store; closed by the suite. */
  open(): ClusterStore;
  /** Nothing passes between this client and the store any more. */
  cut(client: ClusterStore): Promise<void>;
  heal(client: ClusterStore): Promise<void>;
  /** Forgets all changes but the last state. */
  compact(): Promise<void>;
  /** Lets time pass: that many seconds of the store's. */
  pass(seconds: number): Promise<void>;
}

export async function clusterSuite(t: Test, world: () => Promise<ClusterWorld>): Promise<void> {
  for (const [name, run] of Object.entries(CASES)) {
    await t.test(name, async (t) => {
      const made = await world();
      const open = () => {
        const store = made.open();
        t.teardown(() => store.close());
        return store;
      };
      await run(t, { ...made, open, cut: made.cut.bind(made), heal: made.heal.bind(made) });
    });
  }
}

/** The answer, which must be one. */
export function good<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(`${result.reason}: ${result.message}`);
  return result;
}

const CASES: Readonly<Record<string, (t: Test, world: ClusterWorld) => Promise<void>>> = {
  'a transaction is made whole, under its conditions, or not at all': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    const first = good(
      await a.transact(
        [{ key: 'x', is: 'absent' }],
        [
          { put: 'x', value: { n: 1, text: 'é' } },
          { put: 'y', value: [1] },
        ],
      ),
    );
    t.equal(first.done, true);
    const read = good(await b.get('x'));
    t.same(read.entry, { key: 'x', value: { n: 1, text: 'é' }, revision: first.revision });
    t.equal(read.revision, first.revision);
    const again = good(await b.transact([{ key: 'x', is: 'absent' }], [{ put: 'x', value: 2 }]));
    t.equal(again.done, false);
    const half = good(
      await b.transact(
        [
          { key: 'x', revision: first.revision },
          { key: 'y', is: 'absent' },
        ],
        [{ delete: 'x' }],
      ),
    );
    t.equal(half.done, false);
    const swap = [
      { key: 'x', revision: first.revision },
      { key: 'y', is: 'present' },
    ] as const;
    const both = good(await b.transact(swap, [{ delete: 'y' }, { put: 'x', value: 2 }]));
    t.equal(both.done, true);
    t.equal(good(await a.transact(swap, [{ put: 'x', value: 3 }])).done, false);
    t.same(good(await a.list('')).entries, [{ key: 'x', value: 2, revision: both.revision }]);
    t.equal(good(await a.get('y')).entry, undefined);
    t.equal(good(await a.transact([{ key: 'gone', revision: 5 }], [])).done, false);
  },

  'of many who change the same record at once, each counts': async (t, world) => {
    const clients = [world.open(), world.open(), world.open()];
    good(await (clients[0] ?? world.open()).transact([], [{ put: 'n', value: 0 }]));
    const add = async (client: ClusterStore) => {
      for (;;) {
        const { entry } = good(await client.get('n'));
        if (entry === undefined) throw new Error('it was there');
        const next = { put: 'n', value: Number(entry.value) + 1 };
        if (good(await client.transact([{ key: 'n', revision: entry.revision }], [next])).done) return;
      }
    };
    await Promise.all(clients.flatMap((client) => Array.from({ length: 8 }, () => add(client))));
    t.equal(good(await world.open().get('n')).entry?.value, 24);
  },

  'lists are of a prefix, in the order of their bytes, and large ones whole': async (t, world) => {
    const store = world.open();
    const keys = Array.from({ length: 2500 }, (_, n) => `many/${String(n).padStart(5, '0')}`);
    for (let from = 0; from < keys.length; from += 100)
      good(
        await store.transact(
          [],
          keys.slice(from, from + 100).map((put) => ({ put, value: put })),
        ),
      );
    good(
      await store.transact(
        [],
        [
          { put: 'few/b', value: 1 },
          { put: 'few/𝄞', value: 2 },
          { put: 'few/ｚ', value: 3 },
          { put: 'few0', value: 4 },
        ],
      ),
    );
    t.same(
      good(await store.list('many/')).entries.map(({ key }) => key),
      keys,
    );
    t.same(
      good(await store.list('few/')).entries.map(({ value }) => value),
      [1, 3, 2],
    );
    t.same(good(await store.list('none/')).entries, []);
  },

  'what cannot be is refused and changes nothing': async (t, world) => {
    const store = world.open();
    const one = { put: 'a', value: 1 };
    const many = Array.from({ length: 101 }, (_, n) => ({ put: `k${n}`, value: n }));
    const bad = [[one, { put: 'b', value: NaN }], [one, { delete: 'a' }], [one, { put: '', value: 1 }], many];
    for (const changes of bad) {
      const answer = await store.transact([], changes);
      t.match(answer, { ok: false, reason: 'invalid', uncertain: false });
    }
    t.same(good(await store.list('')).entries, []);
    await store.close();
    t.match(await store.get('a'), { ok: false, reason: 'closed' });
    t.match(await store.transact([], [one]), { ok: false, reason: 'closed' });
  },

  'a lease keeps its entries while its host is there, and no longer': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    const { lease } = good(await a.lease(4));
    good(
      await a.transact(
        [],
        [
          { put: 'h/a', value: 1, lease },
          { put: 'stays', value: 1 },
        ],
      ),
    );
    t.equal(good(await b.get('h/a')).entry?.lease, lease.id);
    await world.pass(5);
    t.ok(good(await b.get('h/a')).entry, 'kept alive');
    t.equal(lease.lost.aborted, false);
    await world.cut(a);
    await world.pass(lease.ttlSeconds + 3);
    t.equal(lease.lost.aborted, true, 'the host knows without being told');
    await eventually(async () => (good(await b.get('h/a')).entry === undefined ? true : undefined));
    await world.heal(a);
    const late = await eventually(async () => {
      const answer = await a.transact(
        [],
        [
          { put: 'h/a', value: 2, lease },
          { put: 'other', value: 1 },
        ],
      );
      return answer.ok || answer.reason !== 'unreachable' ? answer : undefined;
    });
    t.match(late, { ok: false, reason: 'lease-lost', uncertain: false });
    t.equal(good(await b.get('other')).entry, undefined);
    t.ok(good(await b.get('stays')).entry);
  },

  'a released lease takes its entries with it at once': async (t, world) => {
    const store = world.open();
    const { lease } = good(await store.lease(60));
    good(await store.transact([], [{ put: 'h', value: 1, lease }]));
    await lease.release();
    t.equal(lease.lost.aborted, true);
    t.equal(good(await store.get('h')).entry, undefined);
  },

  'a watch tells of everything once, in order, from a snapshot on': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    good(
      await a.transact(
        [],
        [
          { put: 'w/1', value: 'before' },
          { put: 'v/1', value: 'elsewhere' },
        ],
      ),
    );
    const seen = follow(b, 'w/');
    await seen.until(() => seen.state.size === 1);
    t.match(seen.events[0], { kind: 'snapshot', entries: [{ key: 'w/1', value: 'before' }] });
    const { lease } = good(await a.lease(60));
    good(
      await a.transact([], [{ put: 'w/2', value: 2, lease }, { delete: 'w/1' }, { put: 'v/2', value: 0 }]),
    );
    good(await a.transact([], [{ put: 'w/3', value: 3 }]));
    await lease.release();
    await seen.until(() => seen.changes.length === 4);
    t.same(seen.changes.map(nameOf), ['+w/2', '-w/1', '+w/3', '-w/2']);
    t.same([...seen.state], [['w/3', 3]]);
    const revisions = seen.changes.map((change) => ('put' in change ? change.put.revision : change.revision));
    t.same(
      revisions,
      [...revisions].sort((x, y) => x - y),
    );
    t.equal(revisions[0], revisions[1], 'one transaction, one revision');
    seen.close();
  },

  'a watch begins where it is told to': async (t, world) => {
    const store = world.open();
    const { revision } = good(await store.transact([], [{ put: 'w/1', value: 1 }]));
    good(await store.transact([], [{ put: 'w/2', value: 2 }]));
    const seen = follow(store, 'w/', revision);
    await seen.until(() => seen.changes.length === 1);
    t.same(seen.changes.map(nameOf), ['+w/2']);
    t.notOk(seen.events.some(({ kind }) => kind === 'snapshot'));
    seen.close();
  },

  'a watch goes on after an interruption with nothing left out': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    const seen = follow(b, 'w/');
    good(await a.transact([], [{ put: 'w/0', value: 0 }]));
    await seen.until(() => seen.state.size === 1);
    for (const round of [1, 2]) {
      await world.cut(b);
      await seen.until(() => seen.interrupted);
      t.match(await b.get('w/0'), { ok: false, reason: 'unreachable', uncertain: false });
      t.match(await b.transact([], [{ put: 'n', value: 1 }]), { ok: false, reason: 'unreachable' });
      for (const n of [1, 2, 3]) good(await a.transact([], [{ put: `w/${round}${n}`, value: n }]));
      await world.heal(b);
      await seen.until(() => seen.changes.length >= 3 * round && !seen.interrupted);
    }
    t.same(
      seen.changes.map(nameOf).filter((name) => name !== '+w/0'),
      ['+w/11', '+w/12', '+w/13', '+w/21', '+w/22', '+w/23'],
    );
    seen.close();
  },

  'a watch that missed what is forgotten begins again with a snapshot': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    good(await a.transact([], [{ put: 'w/1', value: 1 }]));
    const seen = follow(b, 'w/');
    await seen.until(() => seen.state.size === 1);
    await world.cut(b);
    await seen.until(() => seen.interrupted);
    // In one revision, at which the store is then compacted: etcd forgets the deletion with it.
    good(await a.transact([], [{ put: 'w/2', value: 2 }, { delete: 'w/1' }]));
    await world.compact();
    await world.heal(b);
    await seen.until(() => seen.state.has('w/2'));
    t.same([...seen.state], [['w/2', 2]]);
    t.equal(seen.events.filter(({ kind }) => kind === 'snapshot').length, 2);
    good(await a.transact([], [{ put: 'w/3', value: 3 }]));
    await seen.until(() => seen.state.has('w/3'));
    const old = follow(a, 'w/', 1);
    await old.until(() => old.state.size === 2);
    t.equal(old.events[0]?.kind, 'snapshot', 'also where it was told to begin');
    seen.close();
    old.close();
  },

  'a closed watch is silent': async (t, world) => {
    const [a, b] = [world.open(), world.open()];
    const seen = follow(b, 'w/');
    const witness = follow(b, 'w/');
    good(await a.transact([], [{ put: 'w/1', value: 1 }]));
    await seen.until(() => seen.state.size === 1);
    seen.close();
    const told = seen.events.length;
    good(await a.transact([], [{ put: 'w/2', value: 2 }]));
    await witness.until(() => witness.state.size === 2);
    t.equal(seen.events.length, told);
    witness.close();
  },
};

function nameOf(change: WatchChange): string {
  return 'put' in change ? `+${change.put.key}` : `-${change.delete}`;
}

/** Tries until there is an answer; generous, as the machine may be loaded. */
async function eventually<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (let n = 0; n < 600; n++) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await setTimeout(50);
  }
  throw new Error('it did not come about within 30 s');
}

/** What a watch tells, and what is there when one believes it. */
export function follow(store: ClusterStore, prefix: string, after?: number) {
  const events: WatchEvent[] = [];
  const changes: WatchChange[] = [];
  const state = new Map<string, unknown>();
  let interrupted = false;
  const apply = (change: WatchChange) => {
    changes.push(change);
    if ('put' in change) state.set(change.put.key, change.put.value);
    else state.delete(change.delete);
  };
  const listener = (event: WatchEvent) => {
    events.push(event);
    if (event.kind === 'interrupted' || event.kind === 'resumed') interrupted = event.kind === 'interrupted';
    if (event.kind === 'changes') event.changes.forEach(apply);
    if (event.kind !== 'snapshot') return;
    state.clear();
    for (const { key, value } of event.entries) state.set(key, value);
  };
  const watch = store.watch(prefix, listener, after);
  return {
    events,
    changes,
    state,
    get interrupted() {
      return interrupted;
    },
    until: (holds: () => boolean) => eventually(() => Promise.resolve(holds() || undefined)),
    close: () => {
      watch.close();
    },
  };
}
