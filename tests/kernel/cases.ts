/**
 * What holds for every Kernel: sequences of calls that the fake and the real one must answer alike. A case returns what it
 * saw; `equality.test.ts` runs each on both and demands the same, beside what the case itself demands.
 */
import assert from 'node:assert/strict';
import type { Mac } from '../../address/mac.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { Ip } from '../../address/ip.ts';
import type { Facts, LinkFact, NetnsFacts } from '../../kernel/facts.ts';
import { KernelError } from '../../kernel/kernel.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { LinkAdd, Plan, PortHold, Step } from '../../kernel/step.ts';

/** A kernel, and what others do beside it. */
export interface World {
  readonly kernel: Kernel;
  /** A path for a namespace of ours. */
  path(name: string): string;
  /** A path for one that is not. */
  foreignPath(name: string): string;
  /** A stranger makes a bridge, which is up, with a fixed MAC. */
  addBridge(name: string, address?: Prefix): void;
  destroyLink(name: string): void;
  /** Another program takes a port of the host. */
  occupyPort(ports: PortHold): void;
  /** A namespace that is not ours, for example a container's. */
  addNetns(path: string): void;
  destroyNetns(path: string): void;
  /** As dockerd does at Join and Leave. */
  moveAway(link: string, path: string, as: string): void;
  moveBack(path: string, as: string, name: string): void;
}

/** What a case saw, step by step. */
export type Seen = readonly unknown[];
export type Case = (world: World) => Promise<Seen>;

export const NETWORK = 'n'.repeat(64);
export const ENDPOINT = 'e'.repeat(64);
export const MARK = { network: NETWORK, endpoint: ENDPOINT };
export const OTHER = { network: 'o'.repeat(64) };

export function prefix(text: string): Prefix {
  return text as Prefix;
}
export function mac(text: string): Mac {
  return text as Mac;
}
export function addr(text: string): Ip {
  return text as Ip;
}

export const BRIDGE: LinkAdd = {
  do: 'link.add',
  name: 'br-test',
  mark: { network: NETWORK },
  link: { kind: 'bridge' },
  mtu: 1400,
  mac: mac('02:42:00:00:00:01'),
};

/** A network as drivers/bridge plans it. */
export const NETWORK_PLAN: Plan = [
  BRIDGE,
  { do: 'sysctl.set', key: 'net.ipv6.conf.br-test.accept_ra', value: '0' },
  { do: 'addr.add', link: 'br-test', prefix: prefix('10.9.0.1/24') },
  { do: 'addr.add', link: 'br-test', prefix: prefix('fd00:9::1/64') },
  { do: 'nft.element', set: 'bridges', key: ['br-test'] },
  { do: 'nft.element', set: 'same_bridge', key: ['br-test', 'br-test'] },
  { do: 'forward.accept', bridge: 'br-test', mark: { network: NETWORK } },
  { do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1', keep: true },
  { do: 'link.up', link: 'br-test' },
];

export const VETH: LinkAdd = {
  do: 'link.add',
  name: 'outer',
  mark: MARK,
  link: { kind: 'veth', peer: { name: 'inner', mac: mac('02:42:0a:09:00:02') } },
  mtu: 1400,
  mac: mac('02:42:00:00:00:02'),
  linkLocal: false,
};

export const ENDPOINT_PLAN: Plan = [
  VETH,
  { do: 'link.master', link: 'outer', master: 'br-test' },
  { do: 'link.up', link: 'outer' },
];

/** The inside of a sandbox of ours. */
export function sandboxPlan(path: string): Plan {
  return [
    { do: 'netns.add', path },
    { do: 'link.move', link: 'inner', to: path, as: 'eth0', mac: mac('02:42:0a:09:00:02') },
    { do: 'sysctl.set', netns: path, key: 'net.ipv6.conf.eth0.accept_ra', value: '0' },
    { do: 'addr.add', netns: path, link: 'eth0', prefix: prefix('10.9.0.2/24') },
    { do: 'addr.add', netns: path, link: 'eth0', prefix: prefix('fd00:9::2/64') },
    { do: 'link.up', netns: path, link: 'eth0' },
    { do: 'route.add', netns: path, to: prefix('0.0.0.0/0'), via: addr('10.9.0.1') },
    { do: 'route.add', netns: path, to: prefix('::/0'), via: addr('fd00:9::1'), link: 'eth0' },
    { do: 'route.add', netns: path, to: prefix('192.0.2.0/24'), link: 'eth0' },
  ];
}

/** The errno and, for people, nothing: texts differ. */
export async function errnoOf(act: Promise<unknown>): Promise<string> {
  try {
    await act;
    return 'success';
  } catch (error) {
    return error instanceof KernelError ? error.errno : String(error);
  }
}

/** The facts that both kernels can know: without indexes, carriers, `lo` and what IPv6 does by itself. */
export async function state({ kernel }: World, ...plans: readonly Plan[]): Promise<unknown> {
  const facts = await kernel.facts({ plans });
  return {
    host: netns(facts.host),
    netns: [...facts.netns].map(([path, one]) => [path.split('/').at(-1), netns(one)]),
    ourNetns: facts.ourNetns.map((path) => path.split('/').at(-1)),
    elements: elements(facts),
    accepts: facts.accepts,
    heldPorts: [...facts.heldPorts].sort(),
  };
}

function netns({ links, addresses, routes, sysctls, entries }: NetnsFacts): unknown {
  return {
    links: [...links.values()]
      .filter(({ name }) => name !== 'lo')
      .map(link)
      .sort(byText),
    addresses: addresses
      .filter(({ link: name, prefix: text }) => name !== 'lo' && !text.startsWith('fe80:'))
      .map(({ link: name, prefix: text }) => `${text} dev ${name}`)
      .sort(),
    routes: routes
      .filter(({ to, link: name }) => !to.startsWith('fe80:') && name !== 'lo')
      .map((route) => ({ ...route }))
      .sort(byText),
    sysctls: [...sysctls].sort(byText),
    entries: [...(entries?.keys() ?? [])].sort(),
  };
}

function link({
  name,
  kind,
  mtu,
  mac: address,
  up,
  master,
  peerElsewhere,
  mark,
  ...port
}: LinkFact): unknown {
  const { isolated, hairpin, suppress, vxlan, bucket, redirectedTo, parent, macvlanMode, vlan } = port;
  // The burst comes back as the kernel's ticks of 64 ns have it; what matters is that `missing` takes it for the same.
  const limit = bucket && { rate: bucket.rate, limit: bucket.limit };
  return {
    name,
    kind,
    mtu,
    address,
    up,
    master,
    isolated,
    hairpin,
    suppress,
    vxlan,
    peerElsewhere,
    mark,
    limit,
    redirectedTo,
    parent,
    macvlanMode,
    vlan,
  };
}

function elements({ elements: sets }: Facts): unknown {
  return [...(sets ?? [])]
    .filter(([, held]) => held.size > 0)
    .map(([set, held]) => [set, [...held].sort(byText)])
    .sort(byText);
}

function byText(a: unknown, b: unknown): number {
  const [x, y] = [JSON.stringify(a), JSON.stringify(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Applied, and every step of it found satisfied. */
export async function applied(world: World, plan: Plan): Promise<unknown> {
  await world.kernel.apply(plan);
  assert.deepEqual(world.kernel.missing(plan, await world.kernel.facts({ plans: [plan] })), []);
  return state(world, plan);
}

/** Nothing but what was there `before`. */
export async function back(world: World, before: unknown, ...plans: readonly Plan[]): Promise<void> {
  assert.deepEqual(await state(world, ...plans), before);
}

export function at(plan: Plan, index: number, step: Step): Plan {
  return [...plan.slice(0, index), step, ...plan.slice(index)];
}

function hold(proto: PortHold['proto'], address: string, port: number, portEnd?: number): PortHold {
  return { do: 'port.hold', proto, address: addr(address), port, ...(portEnd !== undefined && { portEnd }) };
}

export const IMPOSSIBLE: Step = { do: 'link.up', link: 'nowhere' };

export const CASES: Readonly<Record<string, Case>> = {
  async 'a network comes, stays as it is, and goes'(world) {
    await world.kernel.apply([{ do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1' }]);
    const before = await state(world, NETWORK_PLAN);
    const seen = [before, await applied(world, NETWORK_PLAN), await applied(world, NETWORK_PLAN)];
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(NETWORK_PLAN);
      await back(world, before, NETWORK_PLAN);
    }
    return seen;
  },

  async 'an endpoint on it'(world) {
    await world.kernel.apply(NETWORK_PLAN);
    const before = await state(world, ENDPOINT_PLAN);
    const seen = [before, await applied(world, ENDPOINT_PLAN), await applied(world, ENDPOINT_PLAN)];
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(ENDPOINT_PLAN);
      await back(world, before, ENDPOINT_PLAN);
    }
    return seen;
  },

  async 'a sandbox of ours filled and emptied'(world) {
    const plan = sandboxPlan(world.path('box'));
    await world.kernel.apply([...NETWORK_PLAN, ...ENDPOINT_PLAN]);
    const before = await state(world, plan);
    const seen = [before, await applied(world, plan), await applied(world, plan)];
    assert.deepEqual(world.kernel.missing(ENDPOINT_PLAN, await world.kernel.facts()), []);
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(plan);
      await back(world, before, plan);
    }
    return seen;
  },

  async 'an endpoint deleted while it is inside takes the inner end along'(world) {
    const plan = sandboxPlan(world.path('box'));
    for (const one of [NETWORK_PLAN, ENDPOINT_PLAN, plan]) await world.kernel.apply(one);
    await world.kernel.revert(ENDPOINT_PLAN);
    return [await state(world, plan), await errnoOf(world.kernel.revert(plan)), await state(world, plan)];
  },

  async 'Docker moves the inner end away and back'(world) {
    await world.kernel.apply(NETWORK_PLAN);
    await world.kernel.apply(ENDPOINT_PLAN);
    const path = world.foreignPath('docker');
    world.addNetns(path);
    world.moveAway('inner', path, 'eth0');
    const seen: unknown[] = [await applied(world, ENDPOINT_PLAN)];
    world.moveBack(path, 'eth0', 'inner');
    seen.push(await applied(world, ENDPOINT_PLAN));
    await world.kernel.revert(ENDPOINT_PLAN);
    seen.push(await state(world, ENDPOINT_PLAN));
    world.destroyNetns(path);
    return seen;
  },

  async "names that strangers' links have"(world) {
    for (const name of ['br-test', 'inner']) world.addBridge(name);
    const before = await state(world);
    const seen: unknown[] = [];
    for (const plan of [NETWORK_PLAN, ENDPOINT_PLAN]) {
      seen.push(await errnoOf(world.kernel.apply(plan)));
      await back(world, before);
      seen.push(await errnoOf(world.kernel.revert(plan)));
      await back(world, before);
    }
    assert.deepEqual(seen, ['EEXIST', 'success', 'EEXIST', 'success']);
    await world.kernel.remove({ kind: 'link', name: 'br-test' });
    await back(world, before);
    return [before];
  },

  async "a name that another network's link has"(world) {
    const other: Plan = [{ ...BRIDGE, mark: OTHER }];
    await world.kernel.apply(other);
    const seen: unknown[] = [await errnoOf(world.kernel.apply([BRIDGE]))];
    await world.kernel.revert([BRIDGE]);
    seen.push(await state(world, other), world.kernel.missing(other, await world.kernel.facts()));
    return seen;
  },

  async 'the same name with another kind'(world) {
    await world.kernel.apply([{ ...VETH, name: 'br-test', mark: { network: NETWORK } }]);
    return [await errnoOf(world.kernel.apply([BRIDGE])), await state(world)];
  },

  async 'a container that has an eth0 already'(world) {
    const path = world.path('box');
    await world.kernel.apply([BRIDGE, VETH, { do: 'netns.add', path }]);
    const two: LinkAdd = { ...VETH, name: 'outer2', link: { kind: 'veth', peer: { name: 'inner2' } } };
    const move = { do: 'link.move', to: path, as: 'eth0' } as const;
    await world.kernel.apply([
      { ...two, mac: mac('02:42:00:00:00:05') },
      { ...move, link: 'inner2' },
    ]);
    const seen = [await errnoOf(world.kernel.apply([{ ...move, link: 'inner' }]))];
    return [...seen, (await world.kernel.facts()).host.links.has('inner')];
  },

  async 'links that are not there'(world) {
    const path = world.path('nowhere');
    const steps: readonly Step[] = [
      IMPOSSIBLE,
      { do: 'link.master', link: 'nowhere', master: 'br-test' },
      { do: 'link.master', link: 'br-test', master: 'nowhere' },
      { do: 'link.move', link: 'nowhere', to: path, as: 'eth0' },
      { do: 'link.move', link: 'br-test', to: path, as: 'eth0' },
      { do: 'link.up', netns: path, link: 'lo' },
      { do: 'addr.add', link: 'nowhere', prefix: prefix('10.0.0.1/24') },
      { do: 'route.add', to: prefix('10.0.0.0/24'), link: 'nowhere' },
      { do: 'sysctl.set', key: 'net.ipv4.conf.nowhere.forwarding', value: '1' },
      { do: 'sysctl.set', netns: path, key: 'net.ipv4.ip_forward', value: '1' },
    ];
    await world.kernel.apply([BRIDGE]);
    const seen: unknown[] = [];
    for (const step of steps) {
      seen.push([
        step.do,
        await errnoOf(world.kernel.apply([step])),
        await errnoOf(world.kernel.revert([step])),
      ]);
    }
    return seen;
  },

  async 'values that the kernel refuses'(world) {
    const links: readonly Partial<LinkAdd>[] = [
      { mtu: 60 },
      { mtu: 70_000 },
      { mac: mac('01:00:5e:00:00:01') },
      { name: 'sixteen-bytes-ab' },
      { name: 'a/b' },
      { name: '' },
      { link: { kind: 'veth', peer: { name: 'inner', mac: mac('01:00:5e:00:00:01') } } },
      { link: { kind: 'veth', peer: { name: 'br-test' } } },
    ];
    const seen: unknown[] = [];
    for (const link of links) {
      seen.push([link, await errnoOf(world.kernel.apply([{ ...BRIDGE, ...link }])), await state(world)]);
    }
    return seen;
  },

  async 'an MTU and a MAC that change'(world) {
    await world.kernel.apply([BRIDGE]);
    const changed = { ...BRIDGE, mtu: 1300, mac: mac('02:42:00:00:00:0f') };
    const seen: unknown[] = [world.kernel.missing([changed], await world.kernel.facts())];
    seen.push(await applied(world, [changed]), await state(world));
    seen.push(await errnoOf(world.kernel.apply([BRIDGE, IMPOSSIBLE])), await state(world));
    return seen;
  },

  async 'links with an MTU that is too small for IPv6'(world) {
    const small: Plan = [
      { ...BRIDGE, mtu: 1234, linkLocal: false },
      { ...VETH, mtu: 1234, linkLocal: false },
      { do: 'link.master', link: 'outer', master: 'br-test' },
    ];
    const seen = [await errnoOf(world.kernel.apply(small)), await state(world)];
    seen.push(world.kernel.missing(small, await world.kernel.facts({ plans: [small] })));
    await world.kernel.revert(ENDPOINT_PLAN);
    return [...seen, 'without its port', await state(world)];
  },

  async masters(world) {
    // A bridge with no MTU of its own takes its ports' (br_mtu_auto_adjust()): not what this is about.
    await world.kernel.apply([
      { ...BRIDGE, mtu: 1500 },
      { ...VETH, mtu: 1500 },
    ]);
    world.addBridge('stranger');
    const other = { ...BRIDGE, name: 'br-2', mark: OTHER };
    await world.kernel.apply([other]);
    const attempts: readonly Step[] = [
      { do: 'link.master', link: 'outer', master: 'inner' },
      { do: 'link.master', link: 'br-test', master: 'br-2' },
      { do: 'link.master', link: 'lo', master: 'br-2' },
      { do: 'link.master', link: 'outer', master: 'stranger' },
      { do: 'link.master', link: 'outer', master: 'br-test' },
    ];
    const seen: unknown[] = [];
    for (const step of attempts)
      seen.push([step, await errnoOf(world.kernel.apply([step])), await state(world)]);
    seen.push(
      await errnoOf(world.kernel.apply([{ do: 'link.master', link: 'outer', master: 'br-2' }, IMPOSSIBLE])),
    );
    seen.push(await state(world));
    await world.kernel.revert([{ do: 'link.master', link: 'outer', master: 'stranger' }]);
    seen.push(await state(world));
    await world.kernel.revert([{ do: 'link.master', link: 'outer', master: 'br-test' }]);
    return [...seen, await state(world)];
  },

  async 'settings of a port'(world) {
    await world.kernel.apply([
      { ...BRIDGE, mtu: 1500 },
      { ...VETH, mtu: 1500 },
    ]);
    const port: Step = { do: 'link.master', link: 'outer', master: 'br-test' };
    const seen: unknown[] = [];
    for (const flags of [{ isolated: true }, { hairpin: true }, { isolated: true, hairpin: true }, {}]) {
      const plan: Plan = [{ ...port, ...flags }];
      seen.push(world.kernel.missing(plan, await world.kernel.facts({ plans: [plan] })).length);
      seen.push(await errnoOf(world.kernel.apply([...plan, IMPOSSIBLE])), await state(world));
      seen.push(await applied(world, plan));
    }
    await world.kernel.apply([{ ...port, hairpin: true }]);
    await world.kernel.revert([port]);
    return [...seen, await state(world)];
  },

  async 'limits on what goes out and what comes in'(world) {
    const ifb: LinkAdd = {
      do: 'link.add',
      name: 'ifb-test',
      mark: MARK,
      link: { kind: 'ifb' },
      mac: mac('02:42:00:00:00:03'),
      linkLocal: false,
    };
    const out: Step = { do: 'qdisc.set', link: 'outer', rate: 12_500_000, burst: 250_000, limit: 875_000 };
    const redirect: Step = { do: 'ingress.redirect', link: 'outer', to: 'ifb-test' };
    const plan: Plan = [
      ifb,
      { do: 'link.up', link: 'ifb-test' },
      out,
      { ...out, link: 'ifb-test', rate: 6_250_000_000 },
      redirect,
    ];
    await world.kernel.apply([...NETWORK_PLAN, ...ENDPOINT_PLAN]);
    const before = await state(world, plan);
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before, plan);
    }
    const seen: unknown[] = [before, await applied(world, plan), await applied(world, plan)];
    // Other values in place of those; and what stands stays when a plan fails.
    const other: Plan = [{ ...out, rate: 1_000_000, limit: 300_000 }];
    seen.push(world.kernel.missing(other, await world.kernel.facts({ plans: [other] })).length);
    await world.kernel.apply(other);
    seen.push(await state(world, plan), await applied(world, plan));
    seen.push(await errnoOf(world.kernel.apply([...plan, IMPOSSIBLE])), await state(world, plan));
    // The IFB goes, by whatever hand: the redirection has nowhere to send to, until it is back.
    world.destroyLink('ifb-test');
    const facts = await world.kernel.facts({ plans: [plan] });
    const missing = world.kernel.missing(plan, facts);
    seen.push(
      await state(world, plan),
      missing.map((step) => step.do),
    );
    await world.kernel.apply(missing);
    seen.push(await state(world, plan));
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(plan);
      await back(world, before, plan);
    }
    // With the endpoint, in one plan.
    await world.kernel.revert(ENDPOINT_PLAN);
    const bare = await state(world, plan);
    seen.push(await applied(world, [...ENDPOINT_PLAN, ...plan]));
    await world.kernel.revert([...ENDPOINT_PLAN, ...plan]);
    await back(world, bare, plan);
    return seen;
  },

  async "limits on strangers' links and on none"(world) {
    world.addBridge('stranger');
    await world.kernel.apply([VETH]);
    const steps: readonly Step[] = [
      { do: 'qdisc.set', link: 'stranger', rate: 1000, burst: 2000, limit: 2000 },
      { do: 'qdisc.set', link: 'nowhere', rate: 1000, burst: 2000, limit: 2000 },
      { do: 'ingress.redirect', link: 'stranger', to: 'outer' },
      { do: 'ingress.redirect', link: 'outer', to: 'nowhere' },
      { do: 'ingress.redirect', link: 'nowhere', to: 'outer' },
    ];
    const seen: unknown[] = [];
    for (const step of steps) {
      seen.push([
        step,
        await errnoOf(world.kernel.apply([step])),
        await errnoOf(world.kernel.revert([step])),
      ]);
    }
    return [...seen, await state(world, steps)];
  },

  async 'announcements on a link that is up, down, and not there'(world) {
    const announce = (link: string): Step => ({
      do: 'neigh.announce',
      link,
      addresses: [addr('10.9.0.2'), addr('fd00:9::2')],
      mac: mac('02:42:0a:09:00:02'),
    });
    await world.kernel.apply([BRIDGE]);
    const seen: unknown[] = [await applied(world, [announce('br-test')])];
    await world.kernel.apply(NETWORK_PLAN);
    seen.push(
      await applied(world, [announce('br-test')]),
      await errnoOf(world.kernel.apply([announce('none')])),
    );
    return [...seen, await errnoOf(world.kernel.revert([announce('br-test')])), await state(world)];
  },

  async ports(world) {
    const plan: Plan = [
      hold('tcp', '0.0.0.0', 18080),
      hold('tcp', '::', 18080),
      hold('udp', '127.0.0.1', 18000, 18009),
    ];
    const before = await state(world);
    const seen: unknown[] = [before, await applied(world, plan), await applied(world, plan)];
    const more = hold('tcp', '127.0.0.1', 18000, 18001);
    seen.push(await errnoOf(world.kernel.apply([...plan, more, IMPOSSIBLE])), await state(world));
    // A range of which we have a part.
    const wider = hold('udp', '127.0.0.1', 18005, 18014);
    seen.push(await errnoOf(world.kernel.apply([wider, IMPOSSIBLE])), await state(world));
    for (let time = 0; time < 2; time += 1) {
      await world.kernel.revert(plan);
      await back(world, before);
    }
    return seen;
  },

  async "strangers' ports"(world) {
    world.occupyPort(hold('tcp', '127.0.0.1', 18080));
    world.occupyPort(hold('udp', '0.0.0.0', 18005));
    world.occupyPort(hold('tcp', '::1', 18090));
    const before = await state(world);
    const seen: unknown[] = [];
    for (const step of [
      hold('tcp', '0.0.0.0', 18080),
      hold('tcp', '127.0.0.1', 18080),
      hold('tcp', '127.0.0.2', 18080),
      hold('udp', '127.0.0.1', 18005),
      hold('udp', '127.0.0.1', 18000, 18010),
      hold('tcp', '127.0.0.1', 18005),
      hold('tcp', '::', 18080),
      hold('tcp', '::', 18090),
      hold('tcp', '0.0.0.0', 18090),
    ]) {
      seen.push([step, await errnoOf(world.kernel.apply([step])), await state(world)]);
      await world.kernel.revert([step]);
      await back(world, before);
    }
    return seen;
  },

  async 'our own ports in each other’s way'(world) {
    await world.kernel.apply([hold('tcp', '127.0.0.1', 18080)]);
    const seen: unknown[] = [await errnoOf(world.kernel.apply([hold('tcp', '0.0.0.0', 18080)]))];
    await world.kernel.revert([hold('tcp', '0.0.0.0', 18080)]);
    return [...seen, await state(world)];
  },

  async 'connections that nobody opened'(world) {
    const plan: Plan = [
      { do: 'conntrack.forget', proto: 'udp', address: addr('0.0.0.0'), port: 53 },
      { do: 'conntrack.forget', proto: 'udp', address: addr('::1'), port: 53, portEnd: 60 },
    ];
    return [await applied(world, plan), await errnoOf(world.kernel.revert(plan))];
  },

  async "addresses on strangers' links"(world) {
    world.addBridge('stranger', prefix('10.8.0.1/24'));
    const step = (text: string): Step => ({ do: 'addr.add', link: 'stranger', prefix: prefix(text) });
    const seen: unknown[] = [await errnoOf(world.kernel.apply([step('10.8.0.1/24')])), await state(world)];
    seen.push(await errnoOf(world.kernel.revert([step('10.8.0.1/24')])), await state(world));
    seen.push(await errnoOf(world.kernel.apply([step('10.8.0.2/24'), IMPOSSIBLE])), await state(world));
    // What we added is ours to take away, in both families.
    for (const text of ['10.18.0.3/24', 'fd00:8::3/64']) {
      seen.push(
        await errnoOf(world.kernel.apply([step(text)])),
        await errnoOf(world.kernel.apply([step(text)])),
      );
      seen.push(await state(world), await errnoOf(world.kernel.revert([step(text)])), await state(world));
    }
    return seen;
  },

  async 'addresses twice'(world) {
    const own = (text: string): Step => ({ do: 'addr.add', link: 'br-test', prefix: prefix(text) });
    await world.kernel.apply([BRIDGE, own('10.9.0.1/24'), own('fd00:9::1/64')]);
    const seen: unknown[] = [];
    for (const text of ['10.9.0.1/24', '10.9.0.1/16', 'fd00:9::1/64', '10.9.0.9/24']) {
      seen.push([text, await errnoOf(world.kernel.apply([own(text), IMPOSSIBLE])), await state(world)]);
    }
    await world.kernel.revert([own('10.9.0.1/24'), own('10.9.0.77/24')]);
    return [...seen, await state(world)];
  },

  async routes(world) {
    world.addBridge('stranger', prefix('10.7.0.1/16'));
    const up: Plan = [
      BRIDGE,
      { do: 'addr.add', link: 'br-test', prefix: prefix('10.9.0.1/24') },
      { do: 'addr.add', link: 'br-test', prefix: prefix('fd00:9::1/64') },
      { do: 'link.up', link: 'br-test' },
    ];
    await world.kernel.apply(up);
    const routes: readonly Plan[] = (
      [
        { to: '10.6.0.0/16', link: 'br-test' },
        { to: '10.6.0.0/16', link: 'br-test' },
        { to: '10.6.0.0/16', via: '10.9.0.2' },
        { to: '10.7.0.0/16', link: 'br-test' },
        { to: '10.5.0.0/16', via: '10.9.0.2' },
        { to: '10.5.0.0/16', via: '10.9.0.2', link: 'br-test' },
        { to: '10.4.0.0/16', via: '172.31.0.1' },
        { to: '10.4.0.0/16', via: '10.9.0.2', link: 'stranger' },
        { to: 'fd00:5::/64', via: 'fd00:9::2', link: 'br-test' },
        { to: 'fd00:5::/64', via: 'fd00:9::2', link: 'br-test' },
        { to: 'fd00:6::/64', link: 'br-test' },
        { to: '0.0.0.0/0', via: '10.9.0.2' },
      ] as const
    ).map((route) => [{ do: 'route.add', ...route } as unknown as Step]);
    const seen: unknown[] = [];
    for (const plan of routes) seen.push([plan, await errnoOf(world.kernel.apply(plan))]);
    seen.push(await state(world), routes.flatMap((plan) => world.kernel.missing(plan, EMPTY)).length);
    for (const plan of routes) seen.push(await errnoOf(world.kernel.revert(plan)));
    return [...seen, await state(world)];
  },

  async 'a plan that fails at any of its steps leaves nothing'(world) {
    const path = world.path('box');
    const plan = [...NETWORK_PLAN, ...ENDPOINT_PLAN, ...sandboxPlan(path)];
    // Kept on purpose, once it has been set (`keep`).
    await world.kernel.apply([{ do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1' }]);
    const before = await state(world, plan);
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before, plan);
    }
    return [before];
  },

  async 'a plan that fails leaves what was there before'(world) {
    const path = world.path('box');
    await world.kernel.apply([...NETWORK_PLAN, ...ENDPOINT_PLAN]);
    const plan = [...NETWORK_PLAN, ...ENDPOINT_PLAN, ...sandboxPlan(path)];
    const before = await state(world, plan);
    for (let index = 0; index <= plan.length; index += 4) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before, plan);
    }
    return [before];
  },

  async sysctls(world) {
    await world.kernel.apply([BRIDGE]);
    const forward: Step = { do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1' };
    const ra: Step = { do: 'sysctl.set', key: 'net.ipv6.conf.br-test.accept_ra', value: '0' };
    const seen: unknown[] = [
      await errnoOf(world.kernel.apply([forward, ra, IMPOSSIBLE])),
      await state(world, [forward, ra]),
    ];
    seen.push(
      await errnoOf(world.kernel.apply([{ ...forward, keep: true }, ra, IMPOSSIBLE])),
      await state(world, [forward, ra]),
    );
    seen.push(await applied(world, [forward, ra]));
    await world.kernel.revert([forward, ra]);
    return [...seen, await state(world, [forward, ra])];
  },

  async 'elements before our table is loaded, and after'(world) {
    const plan: Plan = [{ do: 'nft.element', set: 'bridges', key: ['br-test'] }];
    const missing: Plan = [{ do: 'nft.element', set: 'internal', key: ['br-gone'] }];
    await world.kernel.prepare();
    const seen: unknown[] = [await applied(world, plan), await applied(world, plan)];
    seen.push(await errnoOf(world.kernel.apply([...plan, ...missing, IMPOSSIBLE])), await state(world, plan));
    seen.push(await errnoOf(world.kernel.revert([...plan, ...missing])), await state(world, plan));
    return seen;
  },

  async 'things that go by themselves'(world) {
    const path = world.path('box');
    const plan = sandboxPlan(path);
    for (const one of [NETWORK_PLAN, ENDPOINT_PLAN, plan]) await world.kernel.apply(one);
    world.destroyLink('br-test');
    const seen: unknown[] = [await state(world, plan, NETWORK_PLAN)];
    const facts = await world.kernel.facts({ plans: [NETWORK_PLAN, ENDPOINT_PLAN, plan] });
    seen.push(world.kernel.missing(NETWORK_PLAN, facts).map((step) => step.do));
    seen.push(world.kernel.missing(ENDPOINT_PLAN, facts).map((step) => step.do));
    await world.kernel.apply(world.kernel.missing(NETWORK_PLAN, facts));
    await world.kernel.apply(world.kernel.missing(ENDPOINT_PLAN, facts));
    seen.push(await state(world, plan, NETWORK_PLAN));
    world.destroyLink('outer');
    for (const one of [plan, ENDPOINT_PLAN, NETWORK_PLAN]) seen.push(await errnoOf(world.kernel.revert(one)));
    return [...seen, await state(world, plan, NETWORK_PLAN)];
  },

  async 'orphans are removed when they are ours'(world) {
    const path = world.path('orphan');
    await world.kernel.apply([...NETWORK_PLAN, { do: 'netns.add', path }]);
    await world.kernel.remove({ kind: 'link', name: 'br-test' });
    await world.kernel.remove({ kind: 'link', name: 'nowhere' });
    await world.kernel.remove({ kind: 'link', name: 'eth0', netns: world.path('nowhere') });
    await world.kernel.remove({ kind: 'link', name: 'lo' });
    await world.kernel.remove({ kind: 'netns', path });
    await world.kernel.remove({ kind: 'accept', bridge: 'br-test', network: NETWORK.slice(0, 12) });
    await world.kernel.remove({
      kind: 'element',
      step: { do: 'nft.element', set: 'bridges', key: ['br-test'] },
    });
    return [await state(world, NETWORK_PLAN)];
  },
};

const NOTHING: NetnsFacts = { links: new Map(), addresses: [], routes: [], sysctls: new Map() };
const EMPTY: Facts = {
  host: NOTHING,
  netns: new Map(),
  ourNetns: [],
  elements: undefined,
  rulesetCurrent: false,
  accepts: [],
  acceptChain: { v4: false, v6: false },
  heldPorts: new Set(),
};
