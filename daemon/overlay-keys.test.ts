/** Secrets from a file, and when keys change. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import t from 'tap';
import type { Test } from 'tap';
import { CnmError } from '../cnm/errors.ts';
import { silent } from '../cnm/log.ts';
import { ConfigurationError } from './configuration.ts';
import { OverlayKeys, readSecrets } from './overlay-keys.ts';

const ONE = '1'.repeat(32);
const TWO = '2'.repeat(32);

function fileWith(t: Test, text: string): string {
  const file = join(t.testdir({}), 'keys');
  writeFileSync(file, text);
  chmodSync(file, 0o600);
  return file;
}

/** A network that has other keys whenever it is asked to. */
function networks() {
  const calls: boolean[] = [];
  const renewKeys = (retire: boolean) => {
    calls.push(retire);
    return Promise.resolve(1);
  };
  return { calls, renewKeys };
}

t.test('a file with secrets', (t) => {
  t.same(readSecrets(fileWith(t, `# of all hosts\n${ONE}\n\n  ${TWO}  \n`)), [ONE, TWO]);
  const refused: readonly [text: string, why: RegExp][] = [
    ['', /has 0 secrets.*openssl rand -hex 32/],
    [`${ONE}\n`.repeat(4), /has 4 secrets/],
    [`${ONE}\n${ONE}`, /a secret twice/],
    [`${ONE}\nhunter2`, /secret 2 of .* has fewer than 32 characters/],
  ];
  for (const [text, why] of refused) {
    const failure = () => readSecrets(fileWith(t, text));
    t.throws(failure, { message: why });
    t.throws(failure, ConfigurationError);
  }
  t.throws(() => readSecrets('/nowhere/keys'), { message: /\/nowhere\/keys cannot be read: ENOENT/ });
  const open = fileWith(t, ONE);
  chmodSync(open, 0o640);
  t.throws(() => readSecrets(open), { message: /others may read .*chmod 600/ });
  const secret = 'x'.repeat(31);
  try {
    readSecrets(fileWith(t, secret));
  } catch (error) {
    t.notMatch(String(error), 'xxx', 'no secret is ever shown');
  }
  t.end();
});

t.test('ahead of the clock by one, and by no more until it has caught up', async (t) => {
  const clock = { now: 10_000_500 };
  const file = fileWith(t, ONE);
  const keys = new OverlayKeys({ file, period: 1000, log: silent, now: () => clock.now, retireAfter: 1 });
  t.same(keys.current(), { secrets: [ONE], period: 10_000, sending: 10_000, lasts: 1000 });
  const cnm = networks();
  t.same(await keys.rotate(cnm), {
    secrets: 1,
    ahead: 1,
    networks: 1,
    next: new Date(10_001_000).toISOString(),
  });
  t.same(cnm.calls, [false, true], 'new ones first, the old ones away later');
  t.same(keys.current(), { secrets: [ONE], period: 10_000, sending: 10_001, lasts: 1000 });
  await t.rejects(keys.rotate(cnm), { code: 'option-invalid', message: /of the next period already/ });
  clock.now += 1000;
  t.same(
    keys.current(),
    { secrets: [ONE], period: 10_001, sending: 10_001, lasts: 1000 },
    'the clock catches up',
  );
  t.match(await keys.rotate(cnm), { ahead: 1 });
  // Another secret is new at once, however far ahead the keys are.
  writeFileSync(file, `${TWO}\n${ONE}`);
  t.match(await keys.rotate(cnm), { secrets: 2, ahead: 1 });
  t.same(keys.current().secrets, [TWO, ONE]);
  writeFileSync(file, 'short');
  await t.rejects(keys.rotate(cnm), CnmError);
  t.same(keys.current().secrets, [TWO, ONE], 'a file that cannot be used changes nothing');
  await keys.close();
});

t.test('whenever a period begins', async (t) => {
  const keys = new OverlayKeys({ file: fileWith(t, ONE), period: 40, log: silent, retireAfter: 1 });
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const calls: boolean[] = [];
  keys.start({
    renewKeys: (retire) => {
      calls.push(retire);
      if (calls.length === 6) resolve(undefined);
      return Promise.resolve(0);
    },
  });
  // The timer keeps no process alive.
  const awake = setInterval(() => undefined, 1000);
  await promise;
  clearInterval(awake);
  await keys.close();
  t.same(calls.slice(0, 6), [false, true, false, true, false, true]);
});

t.test('a failure is told, and the next period tries again', async (t) => {
  const told: string[] = [];
  const log = { ...silent, error: (_: object, message: string) => told.push(message) };
  const keys = new OverlayKeys({ file: fileWith(t, ONE), period: 20, log, retireAfter: 1 });
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const tries = { count: 0 };
  keys.start({
    renewKeys: () => {
      tries.count += 1;
      if (tries.count === 3) resolve(undefined);
      return Promise.reject(new CnmError('unavailable', 'The daemon is stopping'));
    },
  });
  const awake = setInterval(() => undefined, 1000);
  await promise;
  clearInterval(awake);
  await keys.close();
  t.ok(told.length >= 2);
});

t.test('a machine that slept over the beginning of a period has its keys soon after', async (t) => {
  const HOUR = 3_600_000;
  const clock = { now: 1000 * 12 * HOUR };
  // Timers do not run while a machine sleeps; its clock goes on.
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
  const keys = new OverlayKeys({
    ...{ file: fileWith(t, ONE), period: 12 * HOUR, log: silent, now: () => clock.now, retireAfter: 1 },
  });
  const calls: number[] = [];
  keys.start({
    renewKeys: () => {
      calls.push(keys.current().period);
      return Promise.resolve(0);
    },
  });
  const passes = async (milliseconds: number) => {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    clock.now += milliseconds;
    mock.timers.tick(milliseconds);
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  };
  await passes(2);
  clock.now += 36 * HOUR;
  for (let looks = 0; looks < 2; looks += 1) await passes(30_002);
  t.same(calls.slice(0, 2), [1000, 1000]);
  t.ok(calls.includes(1003), String(calls));
  const closed = keys.close();
  mock.timers.tick(10);
  await closed;
});

t.test('a renewal that is under way ends with what it began with', async (t) => {
  const file = fileWith(t, ONE);
  const keys = new OverlayKeys({ file, period: 3_600_000, log: silent, retireAfter: 1 });
  const seen: (readonly string[])[] = [];
  const cnm = {
    renewKeys: () => {
      const { secrets } = keys.current();
      const isNew = String(secrets) !== String(seen.at(-1) ?? secrets);
      seen.push(secrets);
      return Promise.resolve(Number(isNew));
    },
  };
  keys.start(cnm);
  writeFileSync(file, `${ONE}\n${TWO}`);
  t.match(await keys.rotate(cnm), { networks: 1, secrets: 2 });
  t.same(seen, [[ONE], [ONE], [ONE, TWO], [ONE, TWO]]);
  await keys.close();
});
