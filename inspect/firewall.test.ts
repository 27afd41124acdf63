import t from 'tap';
import type { NetworkRecord } from '../cnm/model.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';
import { rulesetOf } from './firewall.ts';
import type { NetworkRequest } from './views.ts';

const BRIDGE = 'com.docker.network.bridge.';

const wanted = (name: string, n: number, changes: Partial<NetworkRequest> = {}): NetworkRequest => ({
  name,
  driver: 'cnm-bridge',
  subnets: [`10.${n}.0.0/24`],
  gateways: [],
  ipRanges: [],
  auxAddresses: {},
  ipv4: true,
  ipv6: false,
  internal: false,
  options: {},
  ...changes,
});

t.test('what the kernel holds for each kind of network', async (t) => {
  const double = await standaloneDouble({ kernel: fakeKernel({ acceptChain: { v4: true, v6: false } }) });
  t.teardown(() => double.close());
  const { client, kernel } = double;
  const both = { subnets: ['10.1.0.0/24', 'fd00:1::/64'], ipv6: true };
  const rows: readonly [what: string, changes: Partial<NetworkRequest>, view: object][] = [
    [
      'the default',
      {},
      {
        ...{ filtered: true, icc: true, internal: false, trusted: [], ports: [] },
        families: [{ family: 4, mode: 'nat', source: 'interface', obeysHost: false }],
        accepts: [
          { family: 4, state: 'there' },
          { family: 6, state: 'no chain' },
        ],
      },
    ],
    [
      'a mode for each family',
      {
        ...both,
        options: {
          [`${BRIDGE}gateway_mode_ipv4`]: 'nat-unprotected',
          [`${BRIDGE}gateway_mode_ipv6`]: 'routed',
          [`${BRIDGE}enable_icc`]: 'false',
          [`${BRIDGE}trusted_host_interfaces`]: 'eth1:eth0',
        },
      },
      {
        ...{ icc: false, trusted: ['eth0', 'eth1'] },
        families: [
          { family: 4, mode: 'nat-unprotected', source: 'interface' },
          { family: 6, mode: 'routed', source: 'own' },
        ],
      },
    ],
    [
      'an address for outbound packets; none at all',
      { options: { 'com.docker.network.host_ipv4': '192.0.2.9' } },
      { families: [{ family: 4, mode: 'nat', source: '192.0.2.9' }] },
    ],
    [
      'no masquerade',
      { options: { [`${BRIDGE}enable_ip_masquerade`]: 'false' } },
      { families: [{ family: 4, mode: 'nat', source: 'own' }] },
    ],
    [
      'obedient to the host where ports are of the host',
      {
        ...both,
        options: { firewall: 'host', [`${BRIDGE}gateway_mode_ipv6`]: 'routed' },
      },
      {
        families: [
          { family: 4, mode: 'nat', obeysHost: true },
          { family: 6, mode: 'routed', obeysHost: false },
        ],
      },
    ],
    ['internal', { internal: true }, { internal: true, families: [{ family: 4, mode: 'internal' }] }],
    [
      'isolated',
      { internal: true, options: { [`${BRIDGE}gateway_mode_ipv4`]: 'isolated' } },
      { internal: true, families: [{ family: 4, mode: 'isolated' }] },
    ],
  ];
  for (const [what, changes, view] of rows) {
    await client.createNetwork(wanted('one', 1, changes));
    t.match(await client.firewall('one'), { loaded: true, networks: [{ name: 'one', ...view }] }, what);
    await client.deleteNetwork('one');
  }
  await client.createNetwork(wanted('b', 2));
  await client.createNetwork(wanted('a', 3));
  const names = async () => (await client.firewall(undefined)).networks.map(({ name }) => name);
  t.strictSame(await names(), ['a', 'b'], 'all of them');
  kernel.resetAcceptChain({ v4: true, v6: true });
  kernel.flushFirewall();
  t.match(
    await client.firewall('a'),
    {
      loaded: false,
      networks: [
        {
          filtered: false,
          families: [{ mode: 'nat', source: 'own' }],
          accepts: [{ state: 'missing' }, { state: 'missing' }],
        },
      ],
    },
    'what somebody flushed is not said to be in force',
  );
  await t.rejects(client.ruleset(undefined), /No such file/);
  await t.rejects(client.firewall('nope'), /"nope"/);
});

t.test('published ports and what they have let in', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, kernel } = double;
  await client.createNetwork(wanted('demo', 1));
  await client.createNetwork(wanted('other', 2));
  await client.createSandbox('web');
  await client.createSandbox('far');
  await client.join('web', {
    network: 'demo',
    ip: '10.1.0.7',
    options: {},
    ports: ['8080:80', '127.0.0.1:81:80'],
  });
  await client.join('far', { network: 'other', ip: '10.2.0.7', options: {}, ports: ['9090:80'] });
  kernel.count('10.1.0.7 . tcp . 80', { packets: 3, bytes: 180 });
  const { networks } = await client.firewall('demo');
  t.match(networks[0]?.ports, [
    {
      endpoint: { name: 'web' },
      proto: 'tcp',
      ip: '10.1.0.7',
      port: 80,
      hosts: [
        { ip: '0.0.0.0', port: 8080 },
        { ip: '127.0.0.1', port: 81 },
      ],
      count: { packets: 3, bytes: 180 },
    },
  ]);
  t.match((await client.firewall('other')).networks[0]?.ports, [{ count: { packets: 0, bytes: 0 } }]);
  kernel.flushFirewall();
  t.match((await client.firewall('demo')).networks[0]?.ports, [{ count: null }]);
});

/** From `nft list table inet cnm`, nftables 1.0.6, with two networks; the sets that add nothing are left out. */
const LISTED = `table inet cnm {
	set version_3a6f5fb6c23e {
		type mark
	}

	set bridges {
		type ifname
		elements = { "cnm82131c0b7683",
			     "a,b" }
	}

	set same_bridge {
		type ifname . ifname
		elements = { "cnm82131c0b7683" . "cnm82131c0b7683",
			     "a,b" . "a,b" }
	}

	set open4 {
		type ipv4_addr . inet_proto . inet_service
		counter
		elements = { 10.1.0.7 . tcp . 80 counter packets 18 bytes 1206,
			     10.2.0.7 . tcp . 80 counter packets 0 bytes 0 }
	}

	map publish4_any {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 9090 : 10.2.0.7 . 80 }
	}

	map publish4_any_range {
		type inet_proto . inet_service : ipv4_addr
		flags interval
		elements = { udp . 5000-5002 : 10.1.0.7,
			     udp . 6000-6002 : 10.2.0.7 }
	}

	chain into_bridge {
		ct direction reply accept
		drop
	}
}
`;

t.test('the table with the elements of one network', (t) => {
  const network = {
    plan: [
      { do: 'nft.element', set: 'bridges', key: ['cnm82131c0b7683'] },
      { do: 'link.add', name: 'cnm82131c0b7683', mark: { network: 'x' }, link: { kind: 'bridge' } },
    ],
  } as unknown as NetworkRecord;
  const endpoint = {
    plan: [],
    external: {
      plan: [
        { do: 'nft.element', set: 'open4', key: ['10.1.0.7', 'tcp', '80'] },
        { do: 'nft.element', set: 'publish4_any_range', key: ['udp', '5000-5002'], data: ['10.1.0.7'] },
      ],
    },
  } as unknown as Parameters<typeof rulesetOf>[2][number];
  t.equal(
    rulesetOf(LISTED, network, [endpoint]),
    LISTED.replaceAll(',\n\t\t\t     "a,b"', '')
      .replace(' . "a,b"', '')
      .replace(',\n\t\t\t     10.2.0.7 . tcp . 80 counter packets 0 bytes 0', '')
      .replace('\t\telements = { tcp . 9090 : 10.2.0.7 . 80 }\n', '')
      .replace(',\n\t\t\t     udp . 6000-6002 : 10.2.0.7', ''),
  );
  t.end();
});
