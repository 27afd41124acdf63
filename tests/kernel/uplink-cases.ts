/** Cases like those of cases.ts, for the way out of an overlay network: a pair between its namespace and the host's, and a translation. */
import assert from 'node:assert/strict';
import type { Plan, Step, UplinkTranslate } from '../../kernel/step.ts';
import { addr, applied, at, back, errnoOf, IMPOSSIBLE, mac, NETWORK, prefix, state } from './cases.ts';
import type { Case, World } from './cases.ts';

const HOME = 'cnmutest';

function translate(netns: string, more: Partial<UplinkTranslate> = {}): UplinkTranslate {
  return {
    do: 'uplink.translate',
    netns,
    link: 'up0',
    pairs: [
      { inside: prefix('10.9.0.0/24'), outside: prefix('241.5.6.0/24') },
      { inside: prefix('10.10.0.0/16'), outside: prefix('242.5.0.0/16') },
      { inside: prefix('fd00:9::/64'), outside: prefix('fd55:6::/64') },
    ],
    ...more,
  };
}

/** As drivers/overlay plans it. */
function uplink(netns: string): Plan {
  const set = (key: string, value: string, path?: string): Step => ({
    do: 'sysctl.set',
    ...(path !== undefined && { netns: path }),
    key,
    value,
    keep: true,
  });
  return [
    { do: 'netns.add', path: netns },
    {
      do: 'link.add',
      netns,
      name: 'up0',
      mark: { network: NETWORK },
      link: { kind: 'veth', peer: { name: HOME, mac: mac('02:42:00:00:00:11'), home: true } },
      mtu: 1450,
      mac: mac('02:42:00:00:00:10'),
      linkLocal: false,
    },
    set('net.ipv4.conf.up0.rp_filter', '2', netns),
    set(`net.ipv6.conf.${HOME}.accept_ra`, '0'),
    { do: 'addr.add', netns, link: 'up0', prefix: prefix('240.1.2.1/31') },
    { do: 'addr.add', link: HOME, prefix: prefix('240.1.2.0/31') },
    { do: 'addr.add', netns, link: 'up0', prefix: prefix('fd00:1::1/127') },
    { do: 'addr.add', link: HOME, prefix: prefix('fd00:1::/127') },
    translate(netns),
    { do: 'link.up', netns, link: 'up0' },
    { do: 'link.up', link: HOME },
    { do: 'route.add', netns, to: prefix('0.0.0.0/0'), via: addr('240.1.2.0'), link: 'up0' },
    { do: 'route.add', to: prefix('241.5.6.0/24'), via: addr('240.1.2.1'), link: HOME },
    { do: 'route.add', to: prefix('fd55:6::/64'), via: addr('fd00:1::1'), link: HOME },
  ];
}

/** Which translation is in force, and how many of the plan's steps are not. */
async function loaded({ kernel }: World, plan: Plan): Promise<unknown> {
  const facts = await kernel.facts({ plans: [plan] });
  const without = await kernel.facts({ plans: [plan], firewall: false });
  return {
    names: [...facts.netns.values()].map(({ translation }) => translation ?? 'none'),
    unasked: [...without.netns.values()].map(({ translation }) => translation ?? 'none'),
    missing: kernel.missing(plan, facts).length,
  };
}

export const UPLINK_CASES: Readonly<Record<string, Case>> = {
  async 'an uplink comes and goes, at both ends at once'(world) {
    const plan = uplink(world.path('ov'));
    const before = await state(world);
    const seen: unknown[] = [];
    for (let time = 0; time < 2; time += 1) {
      seen.push(await applied(world, plan), await applied(world, plan), await loaded(world, plan));
      await world.kernel.revert(plan);
      // The end here does not wait for the kernel to end the namespace.
      await back(world, before);
    }
    return seen;
  },

  async 'an uplink that cannot be whole leaves nothing'(world) {
    const plan = uplink(world.path('ov'));
    const before = await state(world);
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before);
    }
    return [before];
  },

  async 'both ends get another MTU, and have it back when that fails'(world) {
    const plan = uplink(world.path('ov'));
    await world.kernel.apply(plan);
    const before = await state(world, plan);
    const other = plan.flatMap((step) => (step.do === 'link.add' ? [{ ...step, mtu: 1400 }] : []));
    assert.equal(await errnoOf(world.kernel.apply([...other, IMPOSSIBLE])), 'ENODEV');
    await back(world, before, plan);
    const seen = [before, await applied(world, other)];
    await world.kernel.revert(plan);
    return seen;
  },

  async 'a translation is told from another, and taken back alone'(world) {
    const netns = world.path('ov');
    const plan: Plan = [{ do: 'netns.add', path: netns }, translate(netns)];
    await world.kernel.apply(plan);
    const seen: unknown[] = [await loaded(world, plan)];
    const other = translate(netns, { pairs: translate(netns).pairs.slice(1) });
    seen.push(await loaded(world, [other]));
    await world.kernel.apply([other]);
    seen.push(await loaded(world, [other]), await loaded(world, plan));
    await world.kernel.revert([other]);
    seen.push(await loaded(world, plan), await errnoOf(world.kernel.revert([other])));
    await world.kernel.revert(plan);
    seen.push(await errnoOf(world.kernel.revert([other])));
    return seen;
  },

  async 'a translation where there is no namespace'(world) {
    return [await errnoOf(world.kernel.apply([translate(world.path('ov'))])), await state(world)];
  },
};
