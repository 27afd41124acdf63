/** Cases like those of cases.ts, for what encrypts overlay networks: as far as every kernel has it, which is all but the states. */
import assert from 'node:assert/strict';
import type { EncryptedGuard, Plan, XfrmPolicyAdd } from '../../kernel/step.ts';
import { addr, at, errnoOf, IMPOSSIBLE } from './cases.ts';
import type { Case, World } from './cases.ts';

const MARK = 0x63000046;

function guard(vni: number, port = 4789): EncryptedGuard {
  return { do: 'encrypted.guard', port, vni, mark: 0x63000000 + vni };
}

function policy(dst: string, port = 4789): XfrmPolicyAdd {
  const src = addr(dst.includes(':') ? '2001:db8::1' : '192.0.2.1');
  return { do: 'xfrm.policy.add', src, dst: addr(dst), port, mark: MARK, reqid: 0x63001234 };
}

async function seen({ kernel }: World, plan: Plan): Promise<unknown> {
  const facts = await kernel.facts({ plans: [plan] });
  const policies = (facts.xfrm?.policies ?? []).map(({ src, dst, port, mark, reqid }) => ({
    src,
    dst,
    port,
    mark,
    reqid,
  }));
  return {
    missing: kernel.missing(plan, facts).length,
    policies: policies.sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b))),
    states: facts.xfrm?.states ?? [],
    guards: [...(facts.guards ?? [])].sort(),
  };
}

const PLAN: Plan = [
  guard(70),
  guard(71, 7777),
  policy('192.0.2.2'),
  policy('192.0.2.3', 7777),
  policy('2001:db8::2'),
];

export const IPSEC_CASES: Readonly<Record<string, Case>> = {
  async 'guards and policies come and go'(world) {
    const before = await seen(world, PLAN);
    assert.match(JSON.stringify(before), /"missing":5,"policies":\[\],"states":\[\],"guards":\[\]/);
    const saw: unknown[] = [before];
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.apply(PLAN);
      await world.kernel.apply(PLAN);
      const there = await seen(world, PLAN);
      assert.match(JSON.stringify(there), /"missing":0/);
      saw.push(there);
      await world.kernel.revert(PLAN);
      assert.deepEqual(await seen(world, PLAN), before);
      saw.push(await errnoOf(world.kernel.revert(PLAN)));
    }
    return saw;
  },

  async 'one guard of two goes, the other guards on'(world) {
    const plan = [guard(70), guard(71)];
    await world.kernel.apply(plan);
    await world.kernel.revert([guard(70)]);
    const left = await seen(world, plan);
    assert.match(JSON.stringify(left), /"missing":1/);
    await world.kernel.revert(plan);
    return [left, await seen(world, plan)];
  },

  async 'what fails on the way leaves nothing'(world) {
    const before = await seen(world, PLAN);
    for (let index = 0; index <= PLAN.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(PLAN, index, IMPOSSIBLE))), 'ENODEV');
      assert.deepEqual(await seen(world, PLAN), before);
    }
    return [before];
  },

  async 'what was there stays when a later plan fails'(world) {
    await world.kernel.apply([guard(70)]);
    assert.equal(await errnoOf(world.kernel.apply([guard(70), guard(71), IMPOSSIBLE])), 'ENODEV');
    const left = await seen(world, [guard(70), guard(71)]);
    assert.match(JSON.stringify(left), /"missing":1/);
    await world.kernel.revert([guard(70)]);
    return [left];
  },
};
