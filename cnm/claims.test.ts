import fc from 'fast-check';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { type EntryStep, entryName, slotOf } from '../kernel/entry.ts';
import { Claims } from './claims.ts';

const A = mac('02:42:0a:01:00:02');

function to(dst: string, of = A): EntryStep {
  return { do: 'fdb.add', netns: '/n', link: 'vx0', mac: of, dst: ip(dst) };
}

/** Tables that do what they are told. */
class Tables {
  readonly held = new Map<string, EntryStep>();
  /** Every entry that was put or removed. */
  changes = 0;

  settle(claims: Claims, fails = false): void {
    const batch = claims.take();
    if (fails) {
      // Half of it was done.
      this.#make(batch.make.slice(0, batch.make.length / 2));
      claims.failed(batch);
      claims.found(this.held.values());
      return;
    }
    for (const step of batch.undo) {
      const held = this.held.get(slotOf(step));
      if (held !== undefined && entryName(held) === entryName(step)) this.held.delete(slotOf(step));
      this.changes += 1;
    }
    this.#make(batch.make);
    claims.done(batch);
  }

  #make(entries: readonly EntryStep[]): void {
    for (const step of entries) this.held.set(slotOf(step), step);
    this.changes += entries.length;
  }

  get names(): readonly string[] {
    return [...this.held.values()].map(entryName).sort();
  }
}

t.test('of two that claim one place the newer has it, and the other one when that has gone', (t) => {
  const [claims, tables] = [new Claims(), new Tables()];
  claims.put('old', 5, [to('192.0.2.1')]);
  tables.settle(claims);
  claims.put('new', 6, [to('192.0.2.2')]);
  tables.settle(claims);
  t.same(tables.names, [entryName(to('192.0.2.2'))]);
  // O16: the older one is told of again, late.
  claims.put('old', 5, [to('192.0.2.1')]);
  tables.settle(claims);
  t.same(tables.names, [entryName(to('192.0.2.2'))]);
  claims.drop('new');
  tables.settle(claims);
  t.same(tables.names, [entryName(to('192.0.2.1'))]);
  claims.drop('old');
  tables.settle(claims);
  t.same(tables.names, []);
  t.end();
});

t.test('an endpoint of this host has its places, whoever claims them', (t) => {
  const [claims, tables] = [new Claims(), new Tables()];
  claims.put('other', 9, [to('192.0.2.1')]);
  tables.settle(claims);
  claims.put('own', Infinity, [to('192.0.2.9')], true);
  tables.settle(claims);
  t.same(tables.names, []);
  claims.drop('own');
  tables.settle(claims);
  t.same(tables.names, [entryName(to('192.0.2.1'))]);
  t.end();
});

t.test('what was there before and nobody speaks for goes; what is right already is not touched', (t) => {
  const [claims, tables] = [new Claims(), new Tables()];
  const stale = to('192.0.2.7', mac('02:42:0a:01:00:07'));
  for (const step of [stale, to('192.0.2.1')]) tables.held.set(slotOf(step), step);
  claims.put('a', 1, [to('192.0.2.1')]);
  claims.found([...tables.held.values()]);
  tables.settle(claims);
  t.same(tables.names, [entryName(to('192.0.2.1'))]);
  t.equal(tables.changes, 1);
  t.end();
});

t.test(
  'whatever comes in whatever order, and fails in between: the tables hold the newest of each place',
  (t) => {
    const owner = fc.constantFrom('a', 'b', 'c');
    const entry = fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
      .map(([m, host]) => to(`192.0.2.${host}`, mac(`02:42:0a:01:00:0${m}`)));
    const act = fc.oneof(
      fc.record({
        put: owner,
        generation: fc.integer({ min: 1, max: 4 }),
        entries: fc.array(entry, { maxLength: 3 }),
      }),
      fc.record({ drop: owner }),
      fc.constantFrom('settle' as const, 'fail' as const),
    );
    fc.assert(
      fc.property(fc.array(act, { maxLength: 30 }), (acts) => {
        const [claims, tables] = [new Claims(), new Tables()];
        const model = new Map<string, { generation: number; entries: readonly EntryStep[] }>();
        for (const one of acts) {
          if (one === 'settle' || one === 'fail') tables.settle(claims, one === 'fail');
          else if ('drop' in one) {
            claims.drop(one.drop);
            model.delete(one.drop);
          } else {
            // An endpoint has one entry in a place.
            const entries = [...new Map(one.entries.map((step) => [slotOf(step), step])).values()];
            claims.put(one.put, one.generation, entries);
            model.set(one.put, { generation: one.generation, entries });
          }
        }
        while (!claims.isSettled) tables.settle(claims);
        const order = [...model].sort(([a, x], [b, y]) => x.generation - y.generation || (a < b ? -1 : 1));
        const wanted = new Map(
          order.flatMap(([, { entries }]) => entries.map((step) => [slotOf(step), step])),
        );
        return tables.names.join() === [...wanted.values()].map(entryName).sort().join();
      }),
    );
    t.end();
  },
);
