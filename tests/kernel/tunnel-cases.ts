/** Cases like those of cases.ts, for what an overlay network is made of: a namespace with a bridge and a tunnel, and veths into it. */
import assert from 'node:assert/strict';
import type { FdbAdd, LinkAdd, Plan, Step } from '../../kernel/step.ts';
import { addr, applied, at, back, errnoOf, IMPOSSIBLE, mac, MARK, NETWORK, prefix, state } from './cases.ts';
import type { Case } from './cases.ts';

const ANY = mac('00:00:00:00:00:00');

function tunnel(netns: string, more: Partial<Extract<LinkAdd['link'], { kind: 'vxlan' }>> = {}): LinkAdd {
  return {
    do: 'link.add',
    netns,
    name: 'vx0',
    mark: { network: NETWORK },
    link: { kind: 'vxlan', vni: 4097, local: addr('192.0.2.1'), port: 4789, learning: true, ...more },
    mtu: 1450,
    mac: mac('02:42:00:00:00:0a'),
    linkLocal: false,
  };
}

function entry(netns: string, dst: string, to = ANY): FdbAdd {
  return { do: 'fdb.add', netns, link: 'vx0', mac: to, dst: addr(dst) };
}

/** What a host holds of an overlay network, as drivers/overlay plans it. */
function presence(netns: string): Plan {
  return [
    { do: 'netns.add', path: netns },
    {
      do: 'link.add',
      netns,
      name: 'br0',
      mark: { network: NETWORK },
      link: { kind: 'bridge' },
      mtu: 1450,
      mac: mac('02:42:00:00:00:0b'),
      linkLocal: false,
    },
    { do: 'sysctl.set', netns, key: 'net.ipv4.ip_forward', value: '1', keep: true },
    { do: 'addr.add', netns, link: 'br0', prefix: prefix('10.9.0.1/24') },
    tunnel(netns),
    { do: 'link.master', netns, link: 'vx0', master: 'br0', suppress: true },
    entry(netns, '192.0.2.2'),
    entry(netns, '192.0.2.3'),
    { do: 'link.up', netns, link: 'vx0' },
    { do: 'link.up', netns, link: 'br0' },
  ];
}

function veth(netns: string): LinkAdd {
  return {
    do: 'link.add',
    netns,
    name: 'outer',
    mark: MARK,
    link: { kind: 'veth', peer: { name: 'inner', mac: mac('02:42:0a:09:00:02'), home: true } },
    mtu: 1450,
    mac: mac('02:42:00:00:00:0c'),
    linkLocal: false,
  };
}

function endpoint(netns: string): Plan {
  return [
    veth(netns),
    { do: 'link.master', netns, link: 'outer', master: 'br0' },
    { do: 'link.up', netns, link: 'outer' },
    {
      do: 'neigh.announce',
      netns,
      link: 'vx0',
      addresses: [addr('10.9.0.2')],
      mac: mac('02:42:0a:09:00:02'),
    },
  ];
}

export const TUNNEL_CASES: Readonly<Record<string, Case>> = {
  async 'a tunnel in a namespace of its own comes and goes'(world) {
    const plan = presence(world.path('ov'));
    const before = await state(world);
    const seen: unknown[] = [];
    for (let time = 0; time < 2; time += 1) {
      seen.push(await applied(world, plan), await applied(world, plan));
      await world.kernel.revert(plan);
      await back(world, before);
    }
    return seen;
  },

  async 'a tunnel that cannot be whole leaves nothing'(world) {
    const plan = presence(world.path('ov'));
    const before = await state(world);
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before);
    }
    return [before];
  },

  async 'an endpoint of it, one end here and one in the namespace'(world) {
    const netns = world.path('ov');
    const plan = endpoint(netns);
    await world.kernel.apply(presence(netns));
    const before = await state(world, presence(netns));
    const seen: unknown[] = [before];
    for (let time = 0; time < 2; time += 1) {
      seen.push(await applied(world, plan), await applied(world, plan));
      await world.kernel.revert(plan);
      await back(world, before, presence(netns));
    }
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before, presence(netns));
    }
    // Docker takes the inner end into a container.
    await world.kernel.apply(plan);
    const path = world.foreignPath('docker');
    world.addNetns(path);
    world.moveAway('inner', path, 'eth0');
    seen.push(await applied(world, plan));
    await world.kernel.revert(plan);
    await back(world, before, presence(netns));
    world.destroyNetns(path);
    return seen;
  },

  async 'names that are taken at either end'(world) {
    const netns = world.path('ov');
    await world.kernel.apply(presence(netns));
    world.addBridge('inner');
    const seen: unknown[] = [await errnoOf(world.kernel.apply([veth(netns)]))];
    const peer = { home: true, mac: mac('02:42:0a:09:00:02') } as const;
    const other: LinkAdd = { ...veth(netns), link: { kind: 'veth', peer: { ...peer, name: 'elsewhere' } } };
    // The same name at both ends is no clash: they are in two namespaces.
    const twice: LinkAdd = { ...veth(netns), link: { kind: 'veth', peer: { ...peer, name: 'outer' } } };
    seen.push(await errnoOf(world.kernel.apply([{ ...other, name: 'vx0' }])));
    seen.push(await errnoOf(world.kernel.apply([twice])), await state(world, presence(netns)));
    return seen;
  },

  async 'the namespace goes, and what is in it'(world) {
    const netns = world.path('ov');
    await world.kernel.apply([...presence(netns), ...endpoint(netns)]);
    const seen: unknown[] = [];
    // Its VNI is free at once, whenever the kernel ends the namespace.
    for (let time = 0; time < 3; time += 1) {
      await world.kernel.remove({ kind: 'netns', path: netns });
      seen.push(await errnoOf(world.kernel.apply(presence(netns))));
    }
    await world.kernel.revert(presence(netns));
    return [...seen, await errnoOf(world.kernel.revert(endpoint(netns)))];
  },

  async 'a VNI is taken once on a port'(world) {
    const [one, two] = [world.path('one'), world.path('two')];
    await world.kernel.apply([{ do: 'netns.add', path: one }, { do: 'netns.add', path: two }, tunnel(one)]);
    const seen: unknown[] = [];
    for (const more of [{}, { local: addr('192.0.2.9') }, { port: 4790 }]) {
      seen.push([more, await errnoOf(world.kernel.apply([tunnel(two, more)]))]);
    }
    // One of ours that is another tunnel is not changed on the quiet.
    for (const more of [{ vni: 5 }, { port: 4791 }, { local: addr('192.0.2.9') }, { learning: false }]) {
      const plan = [tunnel(one, more)];
      seen.push(world.kernel.missing(plan, await world.kernel.facts({ plans: [plan] })).length);
      seen.push(await errnoOf(world.kernel.apply(plan)));
    }
    return [...seen, await state(world, [tunnel(one), tunnel(two)])];
  },

  async 'a UDP port that another program has'(world) {
    const netns = world.path('ov');
    world.occupyPort({ do: 'port.hold', proto: 'udp', address: addr('0.0.0.0'), port: 4789 });
    const before = await state(world);
    const seen = [await errnoOf(world.kernel.apply(presence(netns)))];
    await back(world, before);
    return seen;
  },

  async 'a TAP device that stays'(world) {
    const netns = world.path('ov');
    const tap: LinkAdd = { ...tunnel(netns), link: { kind: 'tun' } };
    const plan: Plan = [
      ...presence(netns).slice(0, 2),
      tap,
      { do: 'link.master', netns, link: 'vx0', master: 'br0', suppress: true },
      { do: 'link.up', netns, link: 'vx0' },
    ];
    const before = await state(world);
    const seen: unknown[] = [await applied(world, plan), await applied(world, plan)];
    await world.kernel.revert([tap]);
    seen.push(await state(world, plan), await errnoOf(world.kernel.apply([tunnel(netns), tap])));
    await world.kernel.revert(plan);
    await back(world, before);
    for (let index = 0; index <= plan.length; index += 1) {
      assert.equal(await errnoOf(world.kernel.apply(at(plan, index, IMPOSSIBLE))), 'ENODEV');
      await back(world, before);
    }
    return seen;
  },

  async 'IPv6 below'(world) {
    const netns = world.path('ov');
    const plan: Plan = [
      { do: 'netns.add', path: netns },
      tunnel(netns, { local: addr('2001:db8::1') }),
      entry(netns, '2001:db8::2'),
      { do: 'link.up', netns, link: 'vx0' },
    ];
    return [await applied(world, plan), await errnoOf(world.kernel.revert(plan)), await state(world)];
  },

  async 'entries of the forwarding table'(world) {
    const netns = world.path('ov');
    const of = mac('02:42:0a:09:00:03');
    await world.kernel.apply(presence(netns).slice(0, 5));
    const seen: unknown[] = [];
    // Of the MAC of all zeros there are many; another has one, and the newest counts.
    const attempts: readonly Step[] = [
      entry(netns, '192.0.2.2'),
      entry(netns, '192.0.2.3'),
      entry(netns, '192.0.2.2'),
      entry(netns, '192.0.2.2', of),
      entry(netns, '192.0.2.3', of),
    ];
    for (const step of attempts) seen.push(await applied(world, [step]));
    await world.kernel.revert([entry(netns, '192.0.2.2', of)]);
    seen.push(await state(world, attempts));
    for (let time = 0; time < 2; time += 1) {
      seen.push(
        await errnoOf(world.kernel.revert([entry(netns, '192.0.2.3', of), entry(netns, '192.0.2.2')])),
      );
      seen.push(await state(world, attempts));
    }
    seen.push(await errnoOf(world.kernel.apply([{ ...entry(netns, '192.0.2.2'), link: 'br0' }])));
    seen.push(await errnoOf(world.kernel.apply([{ ...entry(netns, '192.0.2.2'), link: 'nowhere' }])));
    return seen;
  },

  async 'entries of a bridge, and permanent neighbours'(world) {
    const netns = world.path('ov');
    await world.kernel.apply([...presence(netns), ...endpoint(netns).slice(0, 3)]);
    const of = mac('02:42:0a:09:00:03');
    const port = (link: string): Step => ({ do: 'fdb.port', netns, link, mac: of });
    const neighbour = (address: string, at = of): Step => ({
      do: 'neigh.add',
      netns,
      link: 'br0',
      address: addr(address),
      mac: at,
    });
    const other = mac('02:42:0a:09:00:04');
    const asked = presence(netns);
    const seen: unknown[] = [];
    // A newer one takes the place of an older one, at whichever port it was.
    for (const step of [
      port('vx0'),
      port('outer'),
      port('vx0'),
      neighbour('10.9.0.3'),
      neighbour('10.9.0.3', other),
      neighbour('10.9.0.4', other),
    ])
      seen.push(await applied(world, [step]), await state(world, asked));
    // Not the one of another port; a neighbour whatever its MAC.
    for (const step of [port('outer'), neighbour('10.9.0.3')])
      seen.push(await errnoOf(world.kernel.revert([step])), await state(world, asked));
    for (let time = 0; time < 2; time += 1)
      seen.push(await errnoOf(world.kernel.revert([port('vx0'), neighbour('10.9.0.4')])));
    seen.push(await state(world, asked));
    // They go with what they stand on; a port that leaves its bridge takes the bridge's along.
    await world.kernel.apply([port('vx0'), port('outer'), neighbour('10.9.0.3')]);
    await world.kernel.revert(endpoint(netns).slice(0, 3));
    seen.push(await state(world, asked));
    seen.push(await errnoOf(world.kernel.apply([port('nowhere')])));
    seen.push(await errnoOf(world.kernel.apply([port('br0')])));
    return seen;
  },

  async 'another size for the end that has gone into a container'(world) {
    const path = world.foreignPath('docker');
    const netns = world.path('ov');
    world.addNetns(path);
    await world.kernel.apply(presence(netns));
    await world.kernel.apply([veth(netns)]);
    world.moveAway('inner', path, 'eth0');
    const inside: Step = { do: 'link.mtu', netns: path, link: 'eth0', mark: MARK, mtu: 1300 };
    const seen: unknown[] = [];
    for (const step of [inside, inside, { ...inside, mtu: 1400 }]) seen.push(await applied(world, [step]));
    for (const plan of [
      [{ ...inside, mtu: 1200 }, IMPOSSIBLE],
      [{ ...inside, mark: { network: NETWORK } }],
      [{ ...inside, link: 'inner' }],
      [{ ...inside, mtu: 60 }],
    ])
      seen.push(await errnoOf(world.kernel.apply(plan)), await state(world, [inside]));
    await world.kernel.revert([inside]);
    const { netns: ends } = await world.kernel.facts({ netns: [path, netns] });
    seen.push([...ends.values()].map(({ links }) => [...links.values()].map(({ name, mtu }) => [name, mtu])));
    await world.kernel.revert([veth(netns)]);
    return seen;
  },

  async 'neighbours suppressed at a port, and not any more'(world) {
    const netns = world.path('ov');
    const plan = presence(netns);
    await world.kernel.apply(plan);
    const port: Step = { do: 'link.master', netns, link: 'vx0', master: 'br0' };
    const seen: unknown[] = [];
    for (const flags of [{}, { suppress: true }, { suppress: true, isolated: true }]) {
      const wanted: Plan = [{ ...port, ...flags }];
      seen.push(world.kernel.missing(wanted, await world.kernel.facts({ plans: [wanted] })).length);
      seen.push(await errnoOf(world.kernel.apply([...wanted, IMPOSSIBLE])), await state(world, plan));
      seen.push(await applied(world, wanted));
    }
    return seen;
  },
};
