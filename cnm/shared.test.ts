import t from 'tap';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { fakeKernel } from '../kernel/fake.ts';
import type { Plan } from '../kernel/step.ts';
import { memoryStore } from '../store/memory.ts';
import { type Driver, SHARED } from './driver.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { NetworkSpec } from './model.ts';

/** Every network is on `common`, and has a link of its own. */
const toy: Driver = {
  name: 'toy',
  scope: 'local',
  connectivityScope: 'local',
  network: ({ id }): Plan => [
    { do: 'link.add', name: 'common', mark: SHARED, link: { kind: 'bridge' } },
    { do: 'link.up', link: 'common' },
    { do: 'link.add', name: `own${id.slice(0, 4)}`, mark: { network: id }, link: { kind: 'ifb' } },
  ],
  mac: () => mac('02:00:00:00:00:01'),
  endpoint: () => [],
  join: () => ({ srcName: '', dstPrefix: '', routes: [], disableGatewayService: true }),
};

const spec = (letter: string): NetworkSpec => ({
  id: letter.repeat(64),
  driver: 'toy',
  origin: 'docker',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: '', pool: prefix('10.0.0.0/24'), aux: {} }],
  ipv6: [],
});
const [A, B] = [spec('a'), spec('b')];

function world() {
  const kernel = fakeKernel();
  const store = memoryStore();
  const cnm = () => createCnm({ kernel, store, drivers: [toy], log: silent, runDir: '/run/cnm' });
  const links = async () =>
    [...(await kernel.facts()).host.links.keys()].filter((name) => name !== 'lo').sort();
  return { kernel, cnm, links };
}

t.test('what two networks share goes with the last of them, whichever that is', async (t) => {
  for (const [first, last] of [
    [A, B],
    [B, A],
  ] as const) {
    const { kernel, cnm: start, links } = world();
    const cnm = start();
    await Promise.all([cnm.createNetwork(A), cnm.createNetwork(B)]);
    t.same(await links(), ['common', 'ownaaaa', 'ownbbbb']);
    await cnm.deleteNetwork(first.id);
    t.same(await links(), ['common', `own${last.id.slice(0, 4)}`]);
    t.ok((await kernel.facts()).host.links.get('common')?.up, 'it is not set down either');
    await cnm.deleteNetwork(last.id);
    t.same(await links(), []);
  }
});

t.test('a network that fails takes nothing from the others', async (t) => {
  const { kernel, cnm: start, links } = world();
  const cnm = start();
  await cnm.createNetwork(A);
  kernel.failAt((step) => step.do === 'link.add' && step.name === 'ownbbbb', 'ENOMEM', 1);
  await t.rejects(cnm.createNetwork(B), { code: 'kernel' });
  t.same(await links(), ['common', 'ownaaaa']);
});

t.test('what nobody has any more is an orphan; what one still has is put back', async (t) => {
  const { kernel, cnm: start, links } = world();
  await start().createNetwork(A);
  kernel.destroyLink('common');
  t.equal((await start().reconcile()).repaired.length, 1);
  t.same(await links(), ['common', 'ownaaaa']);
  await start().deleteNetwork(A.id);
  await kernel.apply([{ do: 'link.add', name: 'common', mark: SHARED, link: { kind: 'bridge' } }]);
  t.same((await start().reconcile()).removed, [{ kind: 'link', name: 'common' }]);
  t.same(await links(), []);
});
