import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { fakeKernel } from './fake.ts';
import type { FakeKernelOptions } from './fake.ts';
import { KernelError } from './kernel.ts';
import type { Plan, Step } from './step.ts';

const NETWORK = 'a'.repeat(64);
const mark = { network: NETWORK };
const endpointMark = { network: NETWORK, endpoint: 'e'.repeat(64) };

const network: Plan = [
  { do: 'link.add', name: 'cnm-br', mark, link: { kind: 'bridge' }, mtu: 1400 },
  { do: 'addr.add', link: 'cnm-br', prefix: prefix('10.0.0.1/24') },
  { do: 'sysctl.set', key: 'net.ipv6.conf.cnm-br.accept_ra', value: '0' },
  { do: 'nft.element', set: 'bridges', key: ['cnm-br'] },
  { do: 'nft.element', set: 'same_bridge', key: ['cnm-br', 'cnm-br'] },
  { do: 'forward.accept', bridge: 'cnm-br', mark },
  { do: 'link.up', link: 'cnm-br' },
];
const veth: Step = {
  do: 'link.add',
  name: 'cnm-h1',
  mark: endpointMark,
  link: { kind: 'veth', peer: { name: 'cnm-c1' } },
};
const endpoint: Plan = [veth, { do: 'link.master', link: 'cnm-h1', master: 'cnm-br' }];
const sandbox: Plan = [
  { do: 'netns.add', path: '/run/cnm/netns/web' },
  { do: 'link.move', link: 'cnm-c1', to: '/run/cnm/netns/web', as: 'eth0' },
  { do: 'addr.add', netns: '/run/cnm/netns/web', link: 'eth0', prefix: prefix('10.0.0.2/24') },
  { do: 'link.up', netns: '/run/cnm/netns/web', link: 'eth0' },
  { do: 'route.add', netns: '/run/cnm/netns/web', to: prefix('0.0.0.0/0'), via: ip('10.0.0.1') },
];
const everything = [...network, ...endpoint, ...sandbox];
const options: FakeKernelOptions = {
  links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
  acceptChain: { v4: true, v6: false },
};

/** The errno that a call failed with. */
function outcome(call: Promise<void>): Promise<string> {
  return call.then(
    () => 'success',
    (error: unknown) => (error instanceof KernelError ? error.errno : String(error)),
  );
}

t.test('a plan is applied, found satisfied, applied again, and reverted without a trace', async (t) => {
  const kernel = fakeKernel(options);
  const before = kernel.snapshot();
  t.equal(kernel.missing(everything, await kernel.facts({ plans: [everything] })).length, everything.length);
  await kernel.apply(everything);
  t.same(kernel.missing(everything, await kernel.facts({ plans: [everything] })), []);
  const after = kernel.snapshot();
  await kernel.apply(everything);
  t.same(kernel.snapshot(), after);
  await kernel.revert(everything);
  t.same(kernel.snapshot(), before);
  await kernel.revert(everything);
  t.same(kernel.snapshot(), before);
});

t.test(
  'whichever step fails, what was before is there again, and what was there already stays',
  async (t) => {
    for (const [at, failing] of everything.entries()) {
      const kernel = fakeKernel(options);
      const before = kernel.snapshot();
      kernel.failAt((step, phase) => step === failing && phase === 'apply', 'ENOSPC', 1);
      t.equal(await outcome(kernel.apply(everything)), 'ENOSPC', `step ${at}`);
      t.same(kernel.snapshot(), before, `step ${at} rolled back`);
      await kernel.apply(network);
      const standing = kernel.snapshot();
      if (at < network.length) continue;
      kernel.failAt((step, phase) => step === failing && phase === 'apply', 'ENOSPC', 1);
      t.equal(await outcome(kernel.apply(everything)), 'ENOSPC');
      t.same(kernel.snapshot(), standing, `step ${at} left the network alone`);
    }
  },
);

t.test('a process killed at a step leaves the steps before it', async (t) => {
  const kernel = fakeKernel(options);
  kernel.beforeStep = (step) => {
    if (step === veth) throw new Error('killed');
  };
  t.equal(await outcome(kernel.apply(everything)), 'Error: killed');
  kernel.beforeStep = undefined;
  t.same(kernel.missing(everything, await kernel.facts({ plans: [everything] })), [...endpoint, ...sandbox]);
});

t.test('a revert goes on after a failure and reports it', async (t) => {
  const kernel = fakeKernel(options);
  const before = kernel.snapshot();
  await kernel.apply(network);
  const stop = kernel.failAt((step, phase) => step.do === 'nft.element' && phase === 'revert', 'EBUSY');
  t.equal(await outcome(kernel.revert(network)), 'EBUSY');
  const facts = await kernel.facts();
  t.notOk(facts.host.links.has('cnm-br'), 'the steps before it in the plan were undone');
  stop();
  await kernel.revert(network);
  t.same(kernel.snapshot(), before);
});

t.test('refusals', async (t) => {
  const refuse = async (plan: Plan, errno: string, given: FakeKernelOptions = {}): Promise<void> => {
    const kernel = fakeKernel({ links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }], ...given });
    const before = kernel.snapshot();
    t.equal(await outcome(kernel.apply(plan)), errno, `${errno} for ${JSON.stringify(plan.at(-1))}`);
    t.same(kernel.snapshot(), before);
  };
  const bridge = (name: string): Step => ({ do: 'link.add', name, mark, link: { kind: 'bridge' } });
  for (const name of ['', 'a'.repeat(16), 'a/b', 'a b', 'a\tb', '.', '..', 'a:b', 'é'.repeat(8)]) {
    await refuse([bridge(name)], 'EINVAL');
  }
  await refuse([bridge('eth0')], 'EEXIST');
  await refuse([{ ...veth, link: { kind: 'veth', peer: { name: 'eth0' } } }], 'EEXIST');
  await refuse([{ do: 'link.up', link: 'none' }], 'ENODEV');
  await refuse([bridge('b'), { do: 'link.master', link: 'none', master: 'b' }], 'ENODEV');
  await refuse([{ do: 'link.master', link: 'eth0', master: 'none' }], 'ENODEV');
  await refuse([bridge('b'), { do: 'link.master', link: 'b', master: 'eth0' }], 'EOPNOTSUPP');
  await refuse([bridge('b'), bridge('c'), { do: 'link.master', link: 'b', master: 'c' }], 'ELOOP');
  await refuse([{ do: 'addr.add', link: 'eth0', prefix: prefix('192.0.2.1/24') }], 'EEXIST');
  await refuse([{ do: 'addr.add', link: 'none', prefix: prefix('192.0.2.1/24') }], 'ENODEV');
  await refuse([{ do: 'addr.add', netns: '/none', link: 'lo', prefix: prefix('192.0.2.1/24') }], 'ENOENT');
  await refuse([{ do: 'link.move', link: 'eth0', to: '/none', as: 'eth0' }], 'ENOENT');
  await refuse([{ do: 'sysctl.set', key: 'net.ipv4.conf.none.forwarding', value: '1' }], 'ENOENT');
  await refuse([{ do: 'sysctl.set', key: 'net.nothing', value: '1' }], 'ENOENT');
  await refuse([{ do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1' }], 'EROFS', {
    readOnlySysctls: true,
  });
  await refuse([{ do: 'nft.element', set: 'bridges', key: ['b'] }], 'ENOENT', { prepared: false });
  await refuse([{ do: 'route.add', to: prefix('10.9.0.0/16'), via: ip('10.1.1.1') }], 'ENETUNREACH');
});

t.test('another network cannot take or delete a link', async (t) => {
  const kernel = fakeKernel();
  await kernel.apply(network);
  const other: Plan = [
    { do: 'link.add', name: 'cnm-br', mark: { network: 'b'.repeat(64) }, link: { kind: 'bridge' } },
  ];
  t.equal(await outcome(kernel.apply(other)), 'EEXIST');
  await kernel.revert(other);
  t.ok((await kernel.facts()).host.links.has('cnm-br'));
});

t.test('links die, move and come back as on Linux', async (t) => {
  const kernel = fakeKernel();
  await kernel.apply([...network, ...endpoint]);
  kernel.moveAway('cnm-c1', '/docker/1', 'eth0');
  t.same(kernel.missing(endpoint, await kernel.facts()), [], 'the veth counts as present');
  t.equal((await kernel.facts()).host.links.get('cnm-h1')?.peerElsewhere, true);
  kernel.moveBack('/docker/1', 'eth0', 'cnm-c1');
  kernel.destroyLink('cnm-br');
  t.equal((await kernel.facts()).host.links.get('cnm-h1')?.master, undefined, 'the bridge freed its port');
  kernel.moveAway('cnm-c1', '/docker/1');
  kernel.destroyNetns('/docker/1');
  t.notOk((await kernel.facts()).host.links.has('cnm-h1'), 'the peer took the host end with it');
  await kernel.revert([...network, ...endpoint]);
});

t.test('orphans are removed, strangers are not', async (t) => {
  const kernel = fakeKernel({ links: [{ name: 'eth0' }, { name: 'left', mark, kind: 'bridge' }] });
  await kernel.apply([{ do: 'netns.add', path: '/run/cnm/netns/old' }]);
  await kernel.remove({ kind: 'link', name: 'left' });
  await kernel.remove({ kind: 'link', name: 'eth0' });
  await kernel.remove({ kind: 'netns', path: '/run/cnm/netns/old' });
  const facts = await kernel.facts();
  t.same([...facts.host.links.keys()], ['lo', 'eth0']);
  t.same(facts.ourNetns, []);
});

t.test('changes by others are reported until the listener goes', (t) => {
  const kernel = fakeKernel({ links: [{ name: 'eth0' }, { name: 'eth1' }] });
  const seen: string[] = [];
  const stop = kernel.watch(({ what }) => seen.push(what));
  kernel.destroyLink('eth0');
  kernel.flushFirewall();
  stop();
  kernel.destroyLink('eth1');
  t.same(seen, ['links', 'firewall']);
  t.throws(() => {
    kernel.destroyLink('eth1');
  }, KernelError);
  t.end();
});
