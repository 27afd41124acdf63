/** Cases of macvlan and VLAN links, as those of cases.ts. What they are on is a stranger's bridge: `wire`. */
import assert from 'node:assert/strict';
import type { LinkAdd, LinkKind, Plan } from '../../kernel/step.ts';
import { addr, applied, back, errnoOf, IMPOSSIBLE, mac, MARK, OTHER, prefix, state } from './cases.ts';
import type { Case } from './cases.ts';

const MACVLAN = { kind: 'macvlan', parent: 'wire', mode: 'bridge' } as const;
const CHILD: LinkAdd = {
  do: 'link.add',
  name: 'child',
  mark: MARK,
  link: MACVLAN,
  mac: mac('02:42:0a:09:00:02'),
};
const SECOND: LinkAdd = {
  ...CHILD,
  name: 'second',
  mark: { ...MARK, endpoint: 'f'.repeat(64) },
  mac: mac('02:42:0a:09:00:03'),
};

/** A link of our own, whose MTU stays what it is. */
const CARRIER: LinkAdd = {
  do: 'link.add',
  name: 'carrier',
  mark: { network: MARK.network },
  link: { kind: 'veth', peer: { name: 'far', mac: mac('02:42:00:00:00:04') } },
  mac: mac('02:42:00:00:00:03'),
  mtu: 1400,
};

function on(child: LinkAdd, link: Partial<Extract<LinkKind, { kind: 'macvlan' }>>): LinkAdd {
  return { ...child, link: { ...MACVLAN, ...link } };
}

export const MACVLAN_CASES: Readonly<Record<string, Case>> = {
  async 'macvlan links come and go'(world) {
    world.addBridge('wire');
    const before = await state(world);
    const seen: unknown[] = [];
    for (const mode of ['bridge', 'vepa', 'private', 'passthru'] as const) {
      const { mac: own, ...bare } = CHILD;
      const plan: Plan = [on(mode === 'passthru' || own === undefined ? bare : CHILD, { mode })];
      seen.push(await applied(world, plan), await applied(world, plan));
      for (let time = 0; time < 2; time += 1) {
        await world.kernel.revert(plan);
        await back(world, before);
      }
      seen.push(await errnoOf(world.kernel.apply([...plan, IMPOSSIBLE])));
      await back(world, before);
    }
    return seen;
  },

  async 'parents that take no macvlan link'(world) {
    world.addBridge('wire');
    await world.kernel.apply([
      { ...CARRIER, mtu: 1500 },
      { do: 'link.master', link: 'carrier', master: 'wire' },
    ]);
    const before = await state(world);
    const seen: unknown[] = [];
    for (const parent of ['nowhere', 'lo', 'carrier']) {
      seen.push(parent, await errnoOf(world.kernel.apply([on(CHILD, { parent })])));
      seen.push(await errnoOf(world.kernel.revert([on(CHILD, { parent })])));
      await back(world, before);
    }
    return seen;
  },

  async 'passthru has its parent alone'(world) {
    world.addBridge('wire');
    const seen: unknown[] = [];
    for (const [first, second] of [
      ['bridge', 'private'],
      ['bridge', 'passthru'],
      ['passthru', 'bridge'],
      ['passthru', 'passthru'],
    ] as const) {
      const plans: readonly Plan[] = [[on(CHILD, { mode: first })], [on(SECOND, { mode: second })]];
      for (const plan of plans) seen.push(await errnoOf(world.kernel.apply(plan)));
      seen.push(await state(world));
      for (const plan of plans) await world.kernel.revert(plan);
    }
    return seen;
  },

  async 'the MTU of a macvlan link'(world) {
    await world.kernel.apply([CARRIER]);
    const parent = 'carrier';
    const seen: unknown[] = [];
    for (const mtu of [1300, 1400, 1500]) {
      seen.push(
        mtu,
        await errnoOf(world.kernel.apply([{ ...on(CHILD, { parent }), mtu }])),
        await state(world),
      );
      await world.kernel.revert([on(CHILD, { parent })]);
    }
    seen.push(await applied(world, [on(CHILD, { parent })]));
    return seen;
  },

  async "names that others' links have"(world) {
    world.addBridge('wire');
    world.addBridge('child');
    const seen: unknown[] = [await errnoOf(world.kernel.apply([CHILD]))];
    await world.kernel.revert([CHILD]);
    seen.push(await state(world));
    world.destroyLink('child');
    await world.kernel.apply([{ ...CHILD, mark: OTHER }]);
    seen.push(await errnoOf(world.kernel.apply([CHILD])));
    await world.kernel.revert([CHILD]);
    return [...seen, await state(world)];
  },

  async 'a macvlan link that Docker takes is where its mark is'(world) {
    world.addBridge('wire');
    const path = world.foreignPath('docker');
    world.addNetns(path);
    await world.kernel.apply([CHILD]);
    world.moveAway('child', path, 'eth0');
    const elsewhere = await world.kernel.facts({ netns: [path] });
    const seen: unknown[] = [
      world.kernel.missing([CHILD], elsewhere),
      world.kernel.missing([SECOND], elsewhere).length,
      world.kernel.missing([CHILD], await world.kernel.facts()).length,
      elsewhere.netns.get(path)?.links.get('eth0')?.peerElsewhere,
    ];
    // Nothing of it is here: nothing is done, and it stays where it is.
    await world.kernel.revert([CHILD]);
    seen.push(world.kernel.missing([CHILD], await world.kernel.facts({ netns: [path] })));
    world.moveBack(path, 'eth0', 'child');
    seen.push(await state(world, [CHILD]));
    await world.kernel.revert([CHILD]);
    seen.push(await state(world));
    world.destroyNetns(path);
    return seen;
  },

  async 'a sandbox of ours with a macvlan link, filled and emptied'(world) {
    world.addBridge('wire');
    const path = world.path('box');
    const before = await state(world);
    const plan: Plan = [
      { do: 'netns.add', path },
      CHILD,
      { do: 'link.move', link: 'child', to: path, as: 'eth0', mac: mac('02:42:0a:09:00:02') },
      { do: 'addr.add', netns: path, link: 'eth0', prefix: prefix('10.9.0.2/24') },
      { do: 'link.up', netns: path, link: 'eth0' },
      { do: 'route.add', netns: path, to: prefix('0.0.0.0/0'), via: addr('10.9.0.1'), link: 'eth0' },
    ];
    const seen = [await applied(world, plan)];
    assert.equal((await world.kernel.facts()).host.links.has('child'), false);
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(plan);
      await back(world, before);
    }
    return seen;
  },

  async 'a stranger’s link made promiscuous, and as it was'(world) {
    world.addBridge('wire');
    const before = await state(world);
    const plan: Plan = [{ do: 'link.promisc', link: 'wire' }];
    const promisc = async () => (await world.kernel.facts()).host.links.get('wire')?.promisc;
    const seen: unknown[] = [
      await promisc(),
      await applied(world, plan),
      await promisc(),
      await applied(world, plan),
    ];
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(plan);
      seen.push(await promisc());
      await back(world, before);
    }
    seen.push(await errnoOf(world.kernel.apply([...plan, IMPOSSIBLE])), await promisc());
    const nowhere: Plan = [{ do: 'link.promisc', link: 'nowhere' }];
    seen.push(await errnoOf(world.kernel.apply(nowhere)), await errnoOf(world.kernel.revert(nowhere)));
    return seen;
  },

  async 'what is on a link goes with it'(world) {
    await world.kernel.apply([CARRIER, on(CHILD, { parent: 'carrier' }), on(SECOND, { parent: 'carrier' })]);
    const path = world.foreignPath('docker');
    world.addNetns(path);
    world.moveAway('second', path, 'eth0');
    await world.kernel.revert([CARRIER]);
    const seen = [
      await state(world),
      [...((await world.kernel.facts({ netns: [path] })).netns.get(path)?.links.keys() ?? [])],
    ];
    world.destroyNetns(path);
    return seen;
  },
};
