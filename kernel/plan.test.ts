import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import type { Facts, LinkFact, NetnsFacts } from './facts.ts';
import { condense, missing } from './plan.ts';
import type { Plan, Step } from './step.ts';

const NETWORK = { network: 'n' };
const ENDPOINT = { network: 'n', endpoint: 'e' };
const BRIDGE: Step = { do: 'link.add', name: 'br0', mark: NETWORK, link: { kind: 'bridge' } };
const VETH: Step = {
  do: 'link.add',
  name: 'outer',
  mark: ENDPOINT,
  link: { kind: 'veth', peer: { name: 'inner' } },
};
const MASTER: Step = { do: 'link.master', link: 'outer', master: 'br0' };
const UP: Step = { do: 'link.up', link: 'outer' };
const ELEMENT: Step = { do: 'nft.element', set: 'bridges', key: ['br0'] };
const ACCEPT: Step = { do: 'forward.accept', bridge: 'br0', mark: NETWORK };
const HOLD: Step = { do: 'port.hold', proto: 'tcp', address: ip('192.0.2.1'), port: 80, portEnd: 81 };
const FORGET: Step = { ...HOLD, do: 'conntrack.forget' };
const BOX: Step = { do: 'netns.add', path: '/run/box' };
const MOVE: Step = { do: 'link.move', link: 'inner', to: '/run/box', as: 'eth0' };
const INSIDE: readonly Step[] = [
  { do: 'addr.add', netns: '/run/box', link: 'eth0', prefix: prefix('10.0.0.2/24') },
  { do: 'link.up', netns: '/run/box', link: 'eth0' },
  { do: 'route.add', netns: '/run/box', to: prefix('0.0.0.0/0'), link: 'eth0' },
];
const ROUTE: Step = { do: 'route.add', to: prefix('10.1.0.0/16'), link: 'uplink' };

const CONDENSED: readonly (readonly [what: string, plan: Plan, left: Plan])[] = [
  ['nothing', [], []],
  [
    'what stands on a bridge goes with it',
    [BRIDGE, { do: 'addr.add', link: 'br0', prefix: prefix('10.0.0.1/24') }, { do: 'link.up', link: 'br0' }],
    [BRIDGE],
  ],
  ['a veth with its port is one message', [VETH, MASTER, UP], [VETH]],
  ['steps on a link of another plan stay', [MASTER, UP, ROUTE], [MASTER, UP, ROUTE]],
  ['firewall state stays', [BRIDGE, ELEMENT, ACCEPT], [BRIDGE, ELEMENT, ACCEPT]],
  ['held ports stay', [VETH, HOLD, MASTER, FORGET], [VETH, HOLD, FORGET]],
  ['an end inside goes with the end outside', [VETH, BOX, MOVE, ...INSIDE], [VETH, BOX]],
  ['a link of another plan comes home first', [BOX, MOVE, ...INSIDE], [BOX, MOVE]],
  ['what stands on it over there goes when it comes home', [MOVE, ...INSIDE], [MOVE]],
  [
    'with both ends away, one must come home to be found',
    [VETH, MOVE, { ...MOVE, link: 'outer', as: 'eth1' }],
    [VETH, { ...MOVE, link: 'outer', as: 'eth1' }],
  ],
  [
    'the only end of a bridge must come home too',
    [BRIDGE, { ...MOVE, link: 'br0' }],
    [BRIDGE, { ...MOVE, link: 'br0' }],
  ],
  ['a namespace takes along what was made in it', [BOX, { ...BRIDGE, netns: '/run/box' }], [BOX]],
  [
    'but only in it',
    [BOX, BRIDGE, { ...BRIDGE, netns: '/run/other' }],
    [BOX, BRIDGE, { ...BRIDGE, netns: '/run/other' }],
  ],
  [
    'the same name elsewhere is another link',
    [VETH, { ...UP, netns: '/run/box' }],
    [VETH, { ...UP, netns: '/run/box' }],
  ],
  ['a step before the link was made is about another', [UP, VETH], [UP, VETH]],
];

t.test('condense', (t) => {
  for (const [what, plan, left] of CONDENSED) t.same(condense(plan), left, what);
  t.end();
});

function netns(links: readonly LinkFact[], rest: Partial<NetnsFacts> = {}): NetnsFacts {
  const named = new Map(links.map((link) => [link.name, link]));
  return { links: named, addresses: [], routes: [], sysctls: new Map(), ...rest };
}

function facts(host: NetnsFacts, rest: Partial<Facts> = {}): Facts {
  return {
    host,
    netns: new Map(),
    ourNetns: [],
    elements: undefined,
    rulesetCurrent: true,
    accepts: [],
    acceptChain: { v4: false, v6: false },
    heldPorts: new Set(),
    ...rest,
  };
}

const LINK: LinkFact = {
  name: 'br0',
  index: 2,
  kind: 'bridge',
  mtu: 1500,
  up: false,
  carrier: false,
  promisc: false,
  promiscuity: 0,
  mark: NETWORK,
};
const OUTER: LinkFact = { ...LINK, name: 'outer', kind: 'veth', mark: ENDPOINT, master: 'br0', up: true };
const FORWARD: Step = { do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1' };
const PAIR: Step = { do: 'nft.element', set: 'same_bridge', key: ['br0', 'br1'] };

const SATISFIED: readonly (readonly [step: Step, facts: Facts, satisfied: boolean])[] = [
  [BRIDGE, facts(netns([LINK])), true],
  [BRIDGE, facts(netns([])), false],
  [BRIDGE, facts(netns([{ ...LINK, mark: { network: 'other' } }])), false],
  [BRIDGE, facts(netns([{ ...LINK, kind: 'veth' }])), false],
  [{ ...BRIDGE, mtu: 1400 }, facts(netns([LINK])), false],
  [{ ...BRIDGE, netns: '/run/box' }, facts(netns([LINK])), false],
  [
    { ...BRIDGE, netns: '/run/box' },
    facts(netns([]), { netns: new Map([['/run/box', netns([LINK])]]) }),
    true,
  ],
  [VETH, facts(netns([OUTER])), true],
  [MASTER, facts(netns([OUTER])), true],
  [MASTER, facts(netns([{ ...OUTER, master: 'br1' }])), false],
  [UP, facts(netns([OUTER])), true],
  [UP, facts(netns([{ ...OUTER, up: false }])), false],
  [UP, facts(netns([])), false],
  [MOVE, facts(netns([]), { netns: new Map([['/run/box', netns([{ ...OUTER, name: 'eth0' }])]]) }), true],
  [MOVE, facts(netns([{ ...OUTER, name: 'inner' }]), { netns: new Map([['/run/box', netns([])]]) }), false],
  [FORWARD, facts(netns([], { sysctls: new Map([['net.ipv4.ip_forward', '1']]) })), true],
  [FORWARD, facts(netns([], { sysctls: new Map([['net.ipv4.ip_forward', '0']]) })), false],
  [FORWARD, facts(netns([])), false],
  [
    ROUTE,
    facts(netns([], { routes: [{ to: prefix('10.1.0.0/16'), link: 'uplink', table: 254, ours: true }] })),
    true,
  ],
  [
    ROUTE,
    facts(netns([], { routes: [{ to: prefix('10.1.0.0/16'), link: 'uplink', table: 254, ours: false }] })),
    false,
  ],
  [PAIR, facts(netns([]), { elements: new Map([['same_bridge', new Map([['br0 . br1', '']])]]) }), true],
  [PAIR, facts(netns([]), { elements: new Map([['bridges', new Map([['br0 . br1', '']])]]) }), false],
  [PAIR, facts(netns([])), false],
  [ACCEPT, facts(netns([])), true],
  [ACCEPT, facts(netns([]), { acceptChain: { v4: true, v6: false } }), false],
  [
    ACCEPT,
    facts(netns([]), {
      acceptChain: { v4: true, v6: false },
      accepts: [{ family: 4, bridge: 'br0', network: 'n' }],
    }),
    true,
  ],
  [{ ...MASTER, isolated: true }, facts(netns([OUTER])), false],
  [{ ...MASTER, isolated: true }, facts(netns([{ ...OUTER, isolated: true, hairpin: false }])), true],
  [{ ...MASTER, hairpin: true }, facts(netns([{ ...OUTER, isolated: true, hairpin: true }])), false],
  [HOLD, facts(netns([])), false],
  [HOLD, facts(netns([]), { heldPorts: new Set(['tcp 192.0.2.1 80']) }), false],
  [HOLD, facts(netns([]), { heldPorts: new Set(['tcp 192.0.2.1 80', 'tcp 192.0.2.1 81']) }), true],
  [HOLD, facts(netns([]), { heldPorts: new Set(['udp 192.0.2.1 80', 'tcp 192.0.2.2 81']) }), false],
  [FORGET, facts(netns([])), true],
  [BOX, facts(netns([]), { ourNetns: ['/run/box'] }), true],
  [BOX, facts(netns([])), false],
];

t.test('missing', (t) => {
  for (const [index, [step, held, satisfied]] of SATISFIED.entries()) {
    t.same(missing([step], held), satisfied ? [] : [step], `${index}: ${step.do}`);
  }
  t.end();
});
