import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Chore } from './chore.ts';
import type { Log } from '../cnm/log.ts';

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

t.test('asked for many times before it starts, it runs once, at the earliest of the times', async (t) => {
  let runs = 0;
  const chore = new Chore('count', quiet, async () => {
    runs += 1;
    await sleep(1);
  });
  chore.within(5_000);
  for (let i = 0; i < 10; i++) chore.within(5);
  await sleep(60);
  await chore.stop();
  t.equal(runs, 1);
});

t.test('it never runs twice at a time; asked for while it runs, it runs once more', async (t) => {
  let inside = 0;
  let most = 0;
  const began = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
  const end = Promise.withResolvers<undefined>();
  let runs = 0;
  const chore = new Chore('overlap', quiet, async () => {
    most = Math.max(most, ++inside);
    began[runs++]?.resolve(undefined);
    await end.promise;
    inside -= 1;
  });
  chore.within(0);
  await began[0]?.promise;
  for (let i = 0; i < 5; i++) {
    chore.within(0);
    await sleep(3);
  }
  end.resolve(undefined);
  await began[1]?.promise;
  await sleep(30);
  await chore.stop();
  t.equal(most, 1);
  t.equal(runs, 2);
});

t.test('a failure is logged and does not keep it from running again', async (t) => {
  const messages: string[] = [];
  const log: Log = { ...quiet, error: (_fields, message) => void messages.push(message) };
  let runs = 0;
  const chore = new Chore('the check', log, () => Promise.reject(new Error(`no ${++runs}`)));
  chore.within(0);
  await sleep(15);
  chore.within(0);
  await sleep(15);
  await chore.stop();
  t.strictSame(messages, ['the check failed', 'the check failed']);
});

t.test('stop waits for what runs, and nothing starts after it', async (t) => {
  let done = 0;
  const chore = new Chore('slow', quiet, async () => {
    await sleep(40);
    done += 1;
  });
  chore.within(0);
  await sleep(10);
  chore.within(0);
  await chore.stop();
  t.equal(done, 1);
  chore.within(0);
  await sleep(60);
  t.equal(done, 1);
});
