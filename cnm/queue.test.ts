import t from 'tap';
import { setImmediate as turn } from 'node:timers/promises';
import { Queues } from './queue.ts';

t.test('one key: in order, one at a time, also after a failure', async (t) => {
  const queues = new Queues();
  const log: string[] = [];
  const work = (name: string, fails = false) =>
    queues.run('n', async () => {
      log.push(`${name} begins`);
      await turn();
      log.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const results = await Promise.allSettled([work('a'), work('b', true), work('c')]);
  t.same(log, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  t.same(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
});

t.test('different keys run side by side', async (t) => {
  const queues = new Queues();
  let release = (): void => undefined;
  const held = queues.run('slow', () => new Promise<void>((resolve) => (release = resolve)));
  await queues.run('fast', () => Promise.resolve());
  t.pass('the fast one did not wait');
  let idle = false;
  const waiting = queues.idle().then(() => (idle = true));
  await turn();
  t.notOk(idle, 'idle() waits for the slow one');
  release();
  await held;
  await waiting;
  t.ok(idle);
});

t.test('shared work runs side by side, after and before exclusive work', async (t) => {
  const queues = new Queues();
  const log: string[] = [];
  const work = (name: string) => async () => {
    log.push(`${name} begins`);
    await turn();
    log.push(`${name} ends`);
  };
  await Promise.all([
    queues.run('n', work('create')),
    queues.share('n', work('a')),
    queues.share('n', work('b')),
    queues.run('n', work('delete')),
    queues.share('n', work('c')),
  ]);
  t.same(log.slice(0, 2), ['create begins', 'create ends']);
  t.same(log.slice(2, 4), ['a begins', 'b begins'], 'both are in');
  t.same(log.slice(6), ['delete begins', 'delete ends', 'c begins', 'c ends']);
  await queues.idle();
});
