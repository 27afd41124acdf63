/** Views for the tests of the drawings: one sandbox on one network, and a container whose namespace is not visible. */
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { DifferenceView, EndpointView, LinkView, NetworkView, SandboxView } from '../views.ts';

const CREATED = '2026-11-21T09:30:00.000Z';
const DEMO = { id: `8f3a5c0d1e2f${'0'.repeat(52)}`, name: 'demo' };
const BRIDGE = 'br-8f3a5c0d1e2f';

const link = (name: string, index: number, more: Partial<LinkView> = {}): LinkView => ({
  name,
  index,
  mtu: 1500,
  up: true,
  carrier: true,
  addresses: [],
  ...more,
});

const bridge = link(BRIDGE, 3, {
  kind: 'bridge',
  mac: mac('02:11:22:33:44:55'),
  addresses: [prefix('10.88.0.1/16'), prefix('fd00:88::1/64')],
});

export const WEB: EndpointView = {
  id: `5f0c2a9b7d31${'0'.repeat(52)}`,
  name: 'web',
  network: DEMO,
  state: 'ready',
  createdAt: CREATED,
  driver: 'cnm-bridge',
  options: {},
  ports: [],
  mac: mac('02:42:0a:58:00:02'),
  addresses: [prefix('10.88.0.2/16'), prefix('fd00:88::2/64')],
  attachment: { kind: 'cnm', key: 'a1', name: 'web', path: '/run/cnm/netns/a1b2c3d4e5f6', state: 'ready' },
  inside: link('eth0', 4, {
    kind: 'veth',
    mac: mac('02:42:0a:58:00:02'),
    addresses: [prefix('10.88.0.2/16'), prefix('fd00:88::2/64')],
  }),
  routes: [
    { to: prefix('0.0.0.0/0'), via: ip('10.88.0.1') },
    { to: prefix('::/0'), via: ip('fd00:88::1') },
  ],
  outsideName: 'vh5f0c2a9b7d31',
  outside: link('vh5f0c2a9b7d31', 5, { kind: 'veth' }),
  bridgeName: BRIDGE,
  bridge,
  rules: [{ where: 'nft inet cnm @bridges', what: BRIDGE }],
  differences: [],
};

export const LOST: DifferenceView = {
  object: 'endpoint',
  id: `9e8d7c6b5a49${'0'.repeat(52)}`,
  name: 'c1',
  network: DEMO,
  repairable: false,
  missing: [
    {
      step: { do: 'link.master', link: 'vh9e8d7c6b5a49', master: BRIDGE },
      command: `ip link set vh9e8d7c6b5a49 master ${BRIDGE}`,
    },
  ],
};

/** A container whose outside end is gone, too; its name tries to clear the terminal. */
export const HIDDEN: EndpointView = {
  id: LOST.id,
  name: 'c1\u001b[2J',
  network: DEMO,
  state: 'ready',
  createdAt: CREATED,
  driver: 'cnm-bridge',
  options: {},
  ports: [],
  mac: mac('02:42:0a:58:00:03'),
  addresses: [prefix('10.88.0.3/16')],
  attachment: {
    kind: 'docker',
    key: '/var/run/docker/netns/abc',
    path: '/var/run/docker/netns/abc',
    name: 'c1\u001b[2J',
    state: 'ready',
  },
  insideNote: 'the namespace /var/run/docker/netns/abc is not visible to the daemon',
  routes: [],
  outsideName: 'vh9e8d7c6b5a49',
  bridgeName: BRIDGE,
  bridge,
  rules: [],
  differences: [LOST],
};

export const NETWORK: NetworkView = {
  ...DEMO,
  driver: 'cnm-bridge',
  origin: 'cnm',
  state: 'ready',
  createdAt: CREATED,
  internal: false,
  subnets: [
    {
      pool: prefix('10.88.0.0/16'),
      gateway: prefix('10.88.0.1/16'),
      range: prefix('10.88.0.0/24'),
      aux: { router: prefix('10.88.0.9/16') },
    },
    { pool: prefix('fd00:88::/64'), gateway: prefix('fd00:88::1/64'), aux: {} },
  ],
  endpoints: 2,
  options: { 'com.docker.network.driver.mtu': '1500' },
  enableIpv4: true,
  enableIpv6: true,
  bridgeName: BRIDGE,
  bridge,
  rules: [
    { where: 'nft inet cnm @bridges', what: BRIDGE },
    { where: 'nft inet cnm @same_bridge', what: `${BRIDGE} . ${BRIDGE}` },
    { where: 'iptables DOCKER-USER', what: `accept to and from ${BRIDGE}, comment "cnm 8f3a5c0d1e2f"` },
  ],
  members: [WEB, HIDDEN],
  differences: [],
};

export const SANDBOX: SandboxView = {
  id: `a1b2c3d4e5f6${'0'.repeat(52)}`,
  name: 'web',
  state: 'ready',
  createdAt: CREATED,
  path: '/run/cnm/netns/a1b2c3d4e5f6',
  exists: true,
  members: [WEB],
  differences: [],
};
