/** What other hosts say, as entries in a kernel that refuses some of them. */
import { mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { Plan, Step } from '../kernel/step.ts';
import type { ControlPlane, RemoteEndpoint, RemoteNews, Sharing } from './control.ts';
import { silent } from './log.ts';
import type { NetworkRecord } from './model.ts';
import { until } from '../tests/until.ts';
import { Reached } from './reached.ts';

function endpoint(n: number): RemoteEndpoint {
  return {
    ...{
      kind: 'endpoint',
      id: `e${n}`,
      host: 'h2',
      at: ip('192.0.2.2'),
      generation: 1,
      names: [],
      ports: [],
    },
    ...{ mac: mac(`02:42:0a:01:00:${String(n).padStart(2, '0')}`), addresses: [prefix(`10.1.0.${n}/24`)] },
  };
}

function bench(refuses: (step: Step) => boolean) {
  const held = new Set<string>();
  let looks = 0;
  const kernel = {
    facts() {
      looks += 1;
      return Promise.resolve({ netns: new Map() });
    },
    apply(plan: Plan) {
      const bad = plan.find(refuses);
      if (bad !== undefined) return Promise.reject(new KernelError('an entry', 'EINVAL'));
      for (const step of plan) held.add('mac' in step ? String(step.mac) : '');
      return Promise.resolve();
    },
    revert: () => Promise.resolve(),
  } as unknown as Kernel;
  const sharing: Sharing = {
    terms: () => undefined,
    ownOptions: () => [],
    place: () => ({ at: ip('192.0.2.1'), details: {} }),
    remote: (_, remote) =>
      remote.kind === 'host'
        ? []
        : [{ do: 'fdb.add', netns: '/n', link: 'vx0', mac: remote.mac, dst: remote.at }],
  };
  const network = { id: 'a1'.repeat(32), presence: [], agreement: {} } as unknown as NetworkRecord;
  const warnings: unknown[] = [];
  const log = { ...silent, warn: (about: object) => warnings.push(about) };
  const reached = new Reached({ network, sharing, kernel, log, onRemote: () => undefined });
  let tell: (news: RemoteNews) => void = () => undefined;
  const plane: Pick<ControlPlane, 'enter'> = {
    enter: (_agreement, _place, listener) => {
      tell = listener;
      return {
        put: () => undefined,
        drop: () => undefined,
        describe: () => undefined,
        close: () => undefined,
      };
    },
  };
  reached.enter(plane as ControlPlane);
  return {
    held,
    reached,
    looks: () => looks,
    warnings: () => warnings.length,
    tell: (news: RemoteNews) => {
      tell(news);
    },
  };
}

t.test('an entry that the kernel refuses keeps no other one out', async (t) => {
  const bad = endpoint(3).mac;
  const { held, reached, tell } = bench((step) => step.do === 'fdb.add' && step.mac === bad);
  tell({ what: 'all', remotes: [1, 2, 3, 4, 5].map(endpoint) });
  const others = [1, 2, 4, 5].map((n) => endpoint(n).mac);
  await until('all others to be there', () => others.every((one) => held.has(one)));
  tell({ what: 'changes', put: [endpoint(6)], gone: [] });
  await until('what comes later, too', () => held.has(endpoint(6).mac));
  t.notOk(held.has(bad));
  await reached.close(false);
});

t.test('what fails is tried again once in a second, however much is heard meanwhile', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => {
    mock.timers.reset();
  });
  const { looks, warnings, reached, tell } = bench(() => true);
  const passes = async () => {
    mock.timers.tick(50);
    for (let turn = 0; turn < 10; turn += 1) await setImmediate();
  };
  tell({ what: 'all', remotes: [endpoint(0)] });
  for (let n = 1; n < 20; n += 1) {
    tell({ what: 'changes', put: [endpoint(n)], gone: [] });
    await passes();
  }
  const [before, told] = [looks(), warnings()];
  for (let time = 0; time < 5000; time += 50) await passes();
  t.ok(looks() > before, 'it is tried again');
  t.ok(looks() - before <= 6, `${looks() - before} attempts in 5 s`);
  t.equal(warnings(), told, 'and not told again');
  await reached.close(false);
});
