import t from 'tap';
import { OwnPorts } from './own-ports.ts';
import { run } from './run.ts';

const failureOf = (promise: Promise<string>): Promise<unknown> => promise.catch((error: unknown) => error);

t.test('answers what the program writes', async (t) => {
  t.equal(await run('cat', [], 'text\n'), 'text\n');
  t.equal(await run('printf', ['%s', '$(id); x']), '$(id); x', 'no shell reads the arguments');
});

t.test('errors carry the program’s words', async (t) => {
  t.match(await failureOf(run('no-such-program-of-ours', [])), {
    operation: 'no-such-program-of-ours',
    errno: 'ENOENT',
  });
  t.match(await failureOf(run('sh', ['-c', 'echo why >&2; exit 4'])), { errno: 'exit 4', detail: 'why' });
  t.match(await failureOf(run('sh', ['-c', 'kill -9 $$'])), { errno: 'SIGKILL' });
  t.match(await failureOf(run('sh', ['-c', 'exec <&-; exit 5'], 'x'.repeat(1_000_000))), { errno: 'exit 5' });
});

t.test('its netlink port is known as ours while it runs', async (t) => {
  const own = new OwnPorts();
  const pid = Number(await run('sh', ['-c', 'echo $$'], '', own));
  t.equal(own.has(pid), true, 'and a little longer: its last announcement is still to come');
  t.equal(own.has(pid + 1), false);
});
