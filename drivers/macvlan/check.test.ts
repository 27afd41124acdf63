/** What is concluded from what was heard; with frames, tests/acceptance/macvlan-check.test.ts. */
import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac, type Mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import type { NeighbourSaying } from '../../kernel/kernel.ts';
import { check } from './check.ts';

const GATEWAY = ip('10.50.0.9');
const OWN = mac('52:54:00:00:00:01');
const ROUTER = mac('52:54:00:00:00:09');
const HOST = { netnsDir: '/run/cnm/netns' };

function network(options: Readonly<Record<string, string>>, gateway = true): NetworkSpec {
  const pool = prefix('10.50.0.0/24');
  return {
    ...{ id: 'ab'.repeat(32), driver: 'cnm-macvlan', origin: 'docker', options, internal: false },
    ...{ enableIpv4: true, enableIpv6: false, ipv6: [] },
    ipv4: [{ addressSpace: '', pool, aux: {}, ...(gateway && { gateway: prefix('10.50.0.9/24') }) }],
  };
}

const kernel = () =>
  fakeKernel({
    links: [{ name: 'eth0', mac: OWN }],
    routes: [{ to: prefix('0.0.0.0/0'), via: ip('10.50.0.254'), link: 'eth0' }],
  });

t.test('who answers whom', async (t) => {
  const facts = await kernel().facts();
  const { questions } = check(network({ parent: 'eth0' }), facts, HOST, []);
  t.same(questions?.addresses, [GATEWAY, ip('10.50.0.254')], 'the gateway, and the host’s own router');
  const [child, parent] = questions?.askers ?? [];
  if (child === undefined || parent === undefined) throw new Error('nobody asks');
  t.not(child.mac, parent.mac);
  t.equal(parent.mac, OWN);
  const answer = (by: string, to: Mac): NeighbourSaying => ({
    ...{ what: 'answer', from: ROUTER, to, address: GATEWAY, by, outgoing: false },
  });
  const left: NeighbourSaying = {
    ...{
      what: 'question',
      from: child.mac,
      to: mac('ff:ff:ff:ff:ff:ff'),
      address: GATEWAY,
      by: 'eth0',
      outgoing: true,
    },
  };
  const conclusion = (...heard: readonly NeighbourSaying[]) => {
    const [finding] = questions?.judge(heard) ?? [];
    return `${finding?.result ?? ''}: ${finding?.detail ?? ''}`;
  };
  t.match(
    conclusion(left, answer(child.link, child.mac)),
    /^ok: .* left by eth0, and 10\.50\.0\.9 \(52:54:00:00:00:09\)/,
  );
  t.match(conclusion(answer(child.link, child.mac)), /^ok: .* was not seen to leave by eth0/);
  t.match(conclusion(left, answer('eth0', OWN)), /^failed: .* answers the MAC of eth0 and not a container's/);
  t.match(
    conclusion(left, answer('eth0', child.mac)),
    /^failed: the answer .* came to eth0, and not to the container/,
  );
  t.match(conclusion(left), /^unknown: nobody answered/);
  t.match(conclusion(), /^unknown: nobody answered .* was not seen to leave/);
});

t.test('when nothing is asked', async (t) => {
  const facts = await kernel().facts();
  const frames = (options: Readonly<Record<string, string>>) => {
    const { findings, questions } = check(network(options), facts, HOST, []);
    t.equal(questions, undefined);
    return findings.map(({ result, detail }) => `${result}: ${detail}`).join('\n');
  };
  t.match(frames({ parent: 'eth0', macvlan_mode: 'passthru' }), /unknown: not asked: with passthru/);
  t.match(frames({ parent: 'eth9' }), /failed: eth9 is not there: the network's containers are cut off/);
  t.match(frames({}), /^ok: none: the network leads nowhere$/);
});
