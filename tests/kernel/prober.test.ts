/*
 * What neigh.probe finds out, against the kernel of another machine.
 *
 *   host lan0 ══ eth0 lan 10.1.0.2, fd00:1::2; on lan0 a macvlan link is to come
 */
import t from 'tap';
import { ip as address, type Ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { openKernel } from '../../kernel/linux.ts';
import type { Step } from '../../kernel/step.ts';
import { openWorld } from '../firewall/world.ts';
import { ip, linkNames } from './namespace.ts';

const world = await openWorld('probe');
const warnings: object[] = [];
const quiet = () => undefined;
const log = { debug: quiet, info: quiet, error: quiet, warn: (fields: object) => warnings.push(fields) };
const kernel = await openKernel({ netnsDir: '/run/cnm-probe-test', log });
t.teardown(async () => {
  await kernel.close();
  world.close();
});
const lan = world.machine('lan', { hostLink: 'lan0', addresses: ['10.1.0.2/24', 'fd00:1::2/64'] });
const [, theirs = ''] = /ether (\S+)/.exec(lan.run('ip link show eth0')) ?? [];

const OURS = mac('02:42:0a:01:00:07');
const probe = (addresses: readonly Ip[], taken: 'fail' | 'warn' = 'fail', own = OURS): Step => ({
  do: 'neigh.probe',
  link: 'lan0',
  addresses,
  mac: own,
  taken,
});
const link: Step = {
  do: 'link.add',
  name: 'child0',
  mark: { network: 'n' },
  link: { kind: 'macvlan', parent: 'lan0', mode: 'bridge' },
  mac: OURS,
};

t.test('an address that somebody has', async (t) => {
  for (const taken of [address('10.1.0.2'), address('fd00:1::2')]) {
    await t.rejects(
      kernel.apply([probe([address('10.1.0.9'), taken]), link]),
      new RegExp(`EADDRINUSE .${theirs} has ${taken} already`),
    );
  }
  t.same(linkNames(), ['lan0'], 'nothing is made');
  t.same(warnings, []);
});

t.test('an address that nobody has', async (t) => {
  await kernel.apply([probe([address('10.1.0.9'), address('fd00:1::9')]), link]);
  t.same(linkNames(), ['child0', 'lan0']);
  await kernel.revert([probe([address('10.1.0.9')]), link]);
  t.same(linkNames(), ['lan0']);
});

t.test('one’s own address', async (t) => {
  await kernel.apply([probe([address('10.1.0.2'), address('fd00:1::2')], 'fail', mac(theirs))]);
  t.pass('who has the same MAC is the same');
});

t.test('a warning, afterwards', async (t) => {
  await kernel.apply([probe([address('10.1.0.2')], 'warn')]);
  for (const end = Date.now() + 15_000; warnings.length === 0 && Date.now() < end;)
    await new Promise((resolve) => setTimeout(resolve, 5));
  t.same(warnings, [{ link: 'lan0', address: '10.1.0.2', mac: theirs, ours: OURS }]);
});

t.test('a link that is down, or not there', async (t) => {
  ip('link set lan0 down');
  await kernel.apply([probe([address('10.1.0.2')])]);
  t.pass('nobody is there who could have it');
  await t.rejects(kernel.apply([{ ...probe([address('10.1.0.2')]), link: 'none' } as Step]), /ENODEV/);
});
