// A test that lab.test.ts runs to see what is left of it: it is killed, or throws when told to.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openLab } from './lab.ts';

await t.test('victim', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost();
  await h.container('c1', 'bridge');
  process.stdout.write(`\nrunning ${lab.name}\n`);
  if (process.argv[2] === 'throw') throw new Error('thrown on purpose');
  await sleep(600_000);
});
