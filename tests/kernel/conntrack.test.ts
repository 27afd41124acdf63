/**
 * What conntrack.forget forgets, and what it leaves alone. Flows are real datagrams; conntrack(8) is the other reader.
 *
 *   c 10.1.0.2 ── br-x 10.1.0.1 ── host ── lan0 192.0.2.1 ── lan 192.0.2.2
 */
import t from 'tap';
import { openKernel } from '../../kernel/linux.ts';
import type { Ip } from '../../address/ip.ts';
import type { Plan, Step } from '../../kernel/step.ts';
import { addBridge, openWorld, sh } from '../firewall/world.ts';

const world = await openWorld('conntrack');
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const kernel = await openKernel({ netnsDir: '/run/cnm-conntrack-test', log: quiet });
t.teardown(async () => {
  await kernel.close();
  world.close();
});

addBridge('br-x', ['10.1.0.1/24']);
const c = world.machine('c', { bridge: 'br-x', addresses: ['10.1.0.2/24'], via: ['10.1.0.1'] });
const lan = world.machine('lan', {
  hostLink: 'lan0',
  hostAddresses: ['192.0.2.1/24', '2001:db8:1::1/64'],
  addresses: ['192.0.2.2/24', '2001:db8:1::2/64'],
  via: ['192.0.2.1'],
});
sh('sysctl -q -w net.ipv4.ip_forward=1');
await kernel.prepare();

const PUBLISHED: Plan = [
  { do: 'nft.element', set: 'bridges', key: ['br-x'] },
  { do: 'nft.element', set: 'masquerade4', key: ['br-x'] },
  { do: 'nft.element', set: 'publish4_any', key: ['udp', '5301'], data: ['10.1.0.2', '53'] },
];
const forget = (address: string, port: number, portEnd?: number): Step => ({
  do: 'conntrack.forget',
  proto: 'udp',
  address: address as Ip,
  port,
  ...(portEnd !== undefined && { portEnd }),
});
/** Original destinations of all udp entries, as conntrack(8) has them. */
const tracked = (): readonly string[] =>
  ['ipv4', 'ipv6']
    .flatMap((family) => sh(`conntrack -L -f ${family} -p udp 2>/dev/null`).split('\n'))
    .flatMap((line) => {
      const [, address, port] = /dst=(\S+) sport=\d+ dport=(\d+)/.exec(line) ?? [];
      return address === undefined ? [] : [`${address} ${port ?? ''}`];
    })
    .sort();
const send = (from: typeof lan, target: string): void => {
  from.run(`sh -c 'echo x | socat -u - UDP:${target}'`);
};

const open = (): void => {
  sh('conntrack -F 2>/dev/null');
  for (const port of [5300, 5301, 5302]) send(lan, `192.0.2.1:${port}`);
  send(lan, '[2001:db8:1::1]:5301');
  // Through the host to a port of the same number elsewhere.
  send(c, '192.0.2.2:5301');
};
const ALL = ['192.0.2.1 5300', '192.0.2.1 5301', '192.0.2.1 5302', '192.0.2.2 5301', '2001:db8:1::1 5301'];

await kernel.apply(PUBLISHED);

t.test('only the ports that are named', async (t) => {
  const cases: readonly (readonly [Plan, readonly string[]])[] = [
    [[], ALL],
    [[forget('192.0.2.1', 5300)], ALL.filter((one) => one !== '192.0.2.1 5300')],
    [[forget('198.51.100.1', 5300)], ALL],
    [[forget('0.0.0.0', 5301)], ALL.filter((one) => one !== '192.0.2.1 5301')],
    [[forget('::', 5301)], ALL.filter((one) => one !== '2001:db8:1::1 5301')],
    [[forget('0.0.0.0', 5300, 5302)], ['192.0.2.2 5301', '2001:db8:1::1 5301']],
    [
      [forget('0.0.0.0', 5300), forget('::', 5301), forget('192.0.2.1', 5302)],
      ['192.0.2.1 5301', '192.0.2.2 5301'],
    ],
    [[{ ...forget('0.0.0.0', 5300, 5302), proto: 'tcp' } as Step], ALL],
  ];
  for (const [plan, left] of cases) {
    open();
    t.same(tracked(), ALL, 'all flows are there');
    await kernel.apply(plan);
    t.same(tracked(), left, JSON.stringify(plan));
    open();
    await kernel.revert(plan);
    t.same(tracked(), left, 'its inverse does the same');
  }
});

t.test('a flow that was there before is translated from its next packet on', async (t) => {
  sh('conntrack -F 2>/dev/null');
  const element: Step = {
    do: 'nft.element',
    set: 'publish4_any',
    key: ['udp', '5309'],
    data: ['10.1.0.2', '53'],
  };
  const one = (): void => {
    lan.run("sh -c 'echo x | socat -u - UDP:192.0.2.1:5309,sourceport=4444,reuseaddr'");
  };
  one();
  const target = (): string =>
    /src=(\S+) dst=192\.0\.2\.2 /.exec(sh('conntrack -L -p udp 2>/dev/null'))?.[1] ?? '';
  await kernel.apply([element]);
  one();
  t.equal(target(), '192.0.2.1', 'without it, it stays as it was');
  await kernel.apply([forget('0.0.0.0', 5309)]);
  one();
  t.equal(target(), '10.1.0.2');
  await kernel.revert([element, forget('0.0.0.0', 5309)]);
  one();
  t.equal(target(), '192.0.2.1', 'and back when it is unpublished');
});

t.test('many ports are one look', async (t) => {
  const many = Array.from({ length: 5000 }, (_, i) => forget('0.0.0.0', 10_000 + i));
  const before = process.cpuUsage();
  await kernel.apply(many);
  const { user, system } = process.cpuUsage(before);
  t.ok((user + system) / 1000 < 1000, `${((user + system) / 1000).toFixed(0)} ms of processor time`);
});
