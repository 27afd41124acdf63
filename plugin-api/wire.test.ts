import fc from 'fast-check';
import t from 'tap';
import { CnmError } from '../cnm/errors.ts';
import { decodePool, decodeAddress, decodeRelease, decodePoolId } from './wire-ipam.ts';
import * as wire from './wire.ts';

const NETWORK = 'a1'.repeat(32);
const ENDPOINT = 'e1'.repeat(32);
const KEY = { NetworkID: NETWORK, EndpointID: ENDPOINT };
const SPACES = ['cnm-local', 'cnm-global'];

/** The sentence that a request is refused with. */
function refusal(decode: (body: unknown) => unknown, body: unknown): string {
  try {
    decode(body);
  } catch (error) {
    if (error instanceof CnmError && error.code === 'request-invalid') return error.message;
    throw error;
  }
  return 'accepted';
}

const decodeNetwork = (body: unknown): unknown => wire.decodeNetwork(body, 'cnm-bridge');

t.test('CreateNetwork: what dockerd sends becomes a NetworkSpec', (t) => {
  const spec = wire.decodeNetwork(
    {
      NetworkID: NETWORK,
      Options: {
        'com.docker.network.enable_ipv4': false,
        'com.docker.network.enable_ipv6': true,
        'com.docker.network.internal': true,
        'com.docker.network.generic': { 'com.docker.network.driver.mtu': '1400', parent: 'eth0.100' },
      },
      IPv4Data: [
        { AddressSpace: 'LocalDefault', Pool: '10.1.0.0/24', Gateway: '10.1.0.1/24' },
        {
          AddressSpace: 'LocalDefault',
          Pool: '10.2.0.7/24',
          AuxAddresses: { a: '10.2.0.5/24', b: '10.2.0.6' },
        },
      ],
      IPv6Data: [{ AddressSpace: 'LocalDefault', Pool: 'FD00::/64', Gateway: 'fd00:0::1/64' }],
    },
    'cnm-bridge',
  );
  t.same(spec, {
    id: NETWORK,
    driver: 'cnm-bridge',
    origin: 'docker',
    options: { 'com.docker.network.driver.mtu': '1400', parent: 'eth0.100' },
    internal: true,
    enableIpv4: false,
    enableIpv6: true,
    ipv4: [
      { addressSpace: 'LocalDefault', pool: '10.1.0.0/24', gateway: '10.1.0.1/24', aux: {} },
      { addressSpace: 'LocalDefault', pool: '10.2.0.0/24', aux: { a: '10.2.0.5/24', b: '10.2.0.6/24' } },
    ],
    ipv6: [{ addressSpace: 'LocalDefault', pool: 'fd00::/64', gateway: 'fd00::1/64', aux: {} }],
  });
  t.end();
});

t.test('P06 CreateNetwork: null, "" and absent mean the same', (t) => {
  const bare = {
    id: NETWORK,
    internal: false,
    enableIpv4: true,
    enableIpv6: false,
    options: {},
    ipv4: [],
    ipv6: [],
  };
  const tolerated: readonly object[] = [
    {},
    { Options: null, IPv4Data: null, IPv6Data: null },
    { Options: {}, IPv4Data: [], IPv6Data: [] },
    { Options: { 'com.docker.network.generic': null, 'com.docker.network.internal': null } },
    { Unknown: { deep: [1] } },
  ];
  for (const extra of tolerated)
    t.match(decodeNetwork({ NetworkID: NETWORK, ...extra }), bare, JSON.stringify(extra));
  const subnet = { AddressSpace: null, Pool: '0.0.0.0/0', Gateway: '', AuxAddresses: null };
  t.match(
    decodeNetwork({ NetworkID: NETWORK, IPv4Data: [subnet] }),
    { ipv4: [{ addressSpace: '', pool: '0.0.0.0/0', aux: {} }] },
    "E06 Docker's null IPAM passes: whether a driver can use it is the driver's to say",
  );
  t.match(
    decodeNetwork({ NetworkID: 'w3b0g1rqn6yvhcy2ktd1z9kzj' }),
    { id: 'w3b0g1rqn6yvhcy2ktd1z9kzj' },
    'swarm id',
  );
  t.end();
});

t.test('P03 CreateNetwork: each wrong field is named, shown and put right', (t) => {
  const network = (extra: object): object => ({ NetworkID: NETWORK, ...extra });
  const generic = (value: unknown): object => network({ Options: { 'com.docker.network.generic': value } });
  const subnet = (value: unknown): object => network({ IPv4Data: [value] });
  const table: readonly (readonly [unknown, string])[] = [
    [null, 'The request: null is not a JSON object'],
    [[], 'The request: a list is not a JSON object'],
    ['x', 'The request: "x" is not a JSON object'],
    [
      {},
      'NetworkID: is missing: it must be a network id (64 hexadecimal digits, or the 25 of base 36 of a swarm network)',
    ],
    [
      { NetworkID: 'xyz' },
      'NetworkID: "xyz" is not a network id (64 hexadecimal digits, or the 25 of base 36 of a swarm network)',
    ],
    [
      { NetworkID: `${'a'.repeat(63)}\n` },
      `NetworkID: "${'a'.repeat(63)}\\n" is not a network id (64 hexadecimal digits, or the 25 of base 36 of a swarm network)`,
    ],
    [network({ Options: 7 }), 'Options: 7 is not a JSON object'],
    [network({ Options: [] }), 'Options: a list is not a JSON object'],
    [generic(7), 'Options["com.docker.network.generic"]: 7 is not a JSON object'],
    [generic({ a: 7 }), 'Options["com.docker.network.generic"].a: 7 is not a string, as every option is'],
    [
      generic(JSON.parse('{"__proto__":"x"}')),
      'Options["com.docker.network.generic"]: "__proto__" cannot be the name of an option',
    ],
    [
      network({ Options: { 'com.docker.network.internal': 'yes' } }),
      'Options["com.docker.network.internal"]: "yes" is not true or false',
    ],
    [network({ IPv4Data: {} }), 'IPv4Data: an object is not a list'],
    [subnet(3), 'IPv4Data[0]: 3 is not a JSON object'],
    [subnet({}), 'IPv4Data[0].Pool: is missing: it must be an IPv4 subnet (like 10.0.0.0/24)'],
    [subnet({ Pool: 'fd00::/64' }), 'IPv4Data[0].Pool: "fd00::/64" is not an IPv4 subnet (like 10.0.0.0/24)'],
    [
      subnet({ Pool: '10.0.0.0/33' }),
      'IPv4Data[0].Pool: "10.0.0.0/33" is not an IPv4 subnet (like 10.0.0.0/24)',
    ],
    [
      subnet({ Pool: '10.0.0.0/24', Gateway: 'gw' }),
      'IPv4Data[0].Gateway: "gw" is not an IPv4 address (like 10.0.0.2/24)',
    ],
    [
      subnet({ Pool: '10.0.0.0/24', AuxAddresses: { a: '10.0.0.300/24' } }),
      'IPv4Data[0].AuxAddresses.a: "10.0.0.300/24" is not an IPv4 address (like 10.0.0.2/24)',
    ],
    [
      network({ IPv6Data: [{ Pool: '10.0.0.0/24' }] }),
      'IPv6Data[0].Pool: "10.0.0.0/24" is not an IPv6 subnet (like fd00::/64)',
    ],
    [
      { NetworkID: 1e400, Options: 7, IPv4Data: 1, IPv6Data: 2 },
      'NetworkID: Infinity is not a network id (64 hexadecimal digits, or the 25 of base 36 of a swarm network); Options: 7 is not a JSON object; IPv4Data: 1 is not a list',
    ],
  ];
  for (const [body, message] of table) t.equal(refusal(decodeNetwork, body), message);
  t.end();
});

t.test('CreateEndpoint: addresses, ports and the driver options of an endpoint', (t) => {
  const spec = wire.decodeEndpoint({
    ...KEY,
    Interface: { Address: '10.1.0.2/24', AddressIPv6: 'fd00:0::2/64', MacAddress: '02:42:AC:11:00:42' },
    Options: {
      'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
      'com.docker.network.endpoint.dnsservers': ['1.1.1.1'],
      // Go encodes a net.HardwareAddr, which is a byte slice, as base64.
      'com.docker.network.endpoint.macaddress': 'AkKsEQBC',
      'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.IFNAME.log_martians=1',
      // dockerd passes it on and does nothing with it for a plugin.
      'com.docker.network.endpoint.ifname': 'eth9',
      'com.docker.network.driver.private.no_proxy_6to4': true,
      'com.docker.network.portmap': [
        { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 },
        { Proto: 17, IP: '10.1.0.2', Port: 53, HostIP: '127.0.0.1', HostPort: 5300, HostPortEnd: 5310 },
        { Proto: 132, Port: 9, HostIP: null, HostPort: 0 },
      ],
      route: '10.9.0.0/16',
      'com.docker.network.driver.mtu': '1400',
      empty: '',
      flag: true,
    },
  });
  t.same(spec, {
    id: ENDPOINT,
    network: NETWORK,
    address: '10.1.0.2/24',
    addressV6: 'fd00::2/64',
    mac: '02:42:ac:11:00:42',
    options: {
      'com.docker.network.endpoint.ifname': 'eth9',
      route: '10.9.0.0/16',
      'com.docker.network.driver.mtu': '1400',
      empty: '',
    },
    ports: [
      { proto: 6, port: 80, hostPort: 8080, hostPortEnd: 8080 },
      { proto: 17, ip: '10.1.0.2', port: 53, hostIp: '127.0.0.1', hostPort: 5300, hostPortEnd: 5310 },
      { proto: 132, port: 9, hostPort: 0, hostPortEnd: 0 },
    ],
  });
  t.end();
});

t.test('P06 CreateEndpoint: null, "" and absent mean the same', (t) => {
  for (const extra of [
    {},
    { Interface: null, Options: null },
    { Interface: {}, Options: {} },
    {
      Interface: { Address: '', AddressIPv6: null, MacAddress: '' },
      Options: { 'com.docker.network.portmap': null },
    },
  ]) {
    t.same(wire.decodeEndpoint({ ...KEY, ...extra }), {
      id: ENDPOINT,
      network: NETWORK,
      options: {},
      ports: [],
    });
  }
  t.end();
});

t.test('E07 ports and P03 fields of an endpoint: each wrong one is named, shown and put right', (t) => {
  const iface = (value: unknown): object => ({ ...KEY, Interface: value });
  const at = (value: unknown): object => ({ ...KEY, Options: { 'com.docker.network.portmap': value } });
  const mapped = (extra: object): object =>
    at([{ Proto: 6, Port: 80, HostIP: '', HostPort: 1, HostPortEnd: 1, ...extra }]);
  const portmap = 'Options["com.docker.network.portmap"]';
  const table: readonly (readonly [unknown, string])[] = [
    [{ NetworkID: NETWORK }, 'EndpointID: is missing: it must be an endpoint id (64 hexadecimal digits)'],
    [
      { ...KEY, EndpointID: 'E1'.repeat(32) },
      `EndpointID: "${'E1'.repeat(32)}" is not an endpoint id (64 hexadecimal digits)`,
    ],
    [iface([]), 'Interface: a list is not a JSON object'],
    [
      iface({ Address: '10.1.0.2' }),
      'Interface.Address: "10.1.0.2" is not an IPv4 address with its prefix length (like 10.0.0.2/24)',
    ],
    [
      iface({ AddressIPv6: '10.1.0.2/24' }),
      'Interface.AddressIPv6: "10.1.0.2/24" is not an IPv6 address with its prefix length (like fd00::2/64)',
    ],
    ...['zz', '01:00:5e:00:00:01', '00:00:00:00:00:00'].map(
      (MacAddress) =>
        [
          iface({ MacAddress }),
          `Interface.MacAddress: "${MacAddress}" is not a MAC address that an interface can have (unicast, like 02:42:0a:00:00:02)`,
        ] as const,
    ),
    [at({}), `${portmap}: an object is not a list`],
    [at('x'), `${portmap}: "x" is not a list`],
    [at([null]), `${portmap}[0]: null is not a JSON object`],
    [
      mapped({ HostIP: 'abcd' }),
      `${portmap}[0].HostIP: "abcd" is not an IP address (like 10.0.0.2 or fd00::2)`,
    ],
    [
      mapped({ Proto: 255 }),
      `${portmap}[0].Proto: 255 is not a protocol number: 1 (icmp), 6 (tcp), 17 (udp) or 132 (sctp)`,
    ],
    [
      mapped({ Proto: '6' }),
      `${portmap}[0].Proto: "6" is not a protocol number: 1 (icmp), 6 (tcp), 17 (udp) or 132 (sctp)`,
    ],
    [mapped({ Port: 70000 }), `${portmap}[0].Port: 70000 is not a port number (0 to 65535)`],
    [mapped({ Port: 80.5 }), `${portmap}[0].Port: 80.5 is not a port number (0 to 65535)`],
    [mapped({ HostPort: -1 }), `${portmap}[0].HostPort: -1 is not a port number (0 to 65535)`],
    [
      mapped({ HostPort: 9, HostPortEnd: 8 }),
      `${portmap}[0].HostPortEnd: 8 is below HostPort 9: a range ends where it starts or above`,
    ],
    [{ ...KEY, Options: 7 }, 'Options: 7 is not a JSON object'],
  ];
  for (const [body, message] of table) {
    t.equal(refusal(wire.decodeEndpoint, body), message);
    if (message.startsWith('Options'))
      t.equal(refusal(wire.decodeProgram, body), message, 'the same when programmed');
  }
  t.end();
});

t.test('Join, and calls that name only an endpoint or a network', (t) => {
  const join = { ...KEY, SandboxKey: '/var/run/docker/netns/0123456789ab', Options: null };
  t.same(wire.decodeJoin(join), { network: NETWORK, endpoint: ENDPOINT, sandboxKey: join.SandboxKey });
  t.equal(
    refusal(wire.decodeJoin, { ...KEY, SandboxKey: '' }),
    'SandboxKey: "" is not the path of a sandbox (at most 4096 characters)',
  );
  t.same(wire.decodeEndpointKey(KEY), { network: NETWORK, endpoint: ENDPOINT });
  t.equal(wire.decodeNetworkId(KEY), NETWORK);
  t.match(refusal(wire.decodeNetworkId, { networkid: NETWORK }), /^NetworkID: is missing/);
  t.end();
});

t.test('Join answers what dockerd can use, and never a route without a destination', (t) => {
  const join = {
    srcName: 'cnm0123456789a',
    dstPrefix: 'eth',
    gateway: '10.1.0.1',
    gatewayV6: 'fd00::1',
    routes: [{ destination: '10.9.0.0/16', nextHop: '10.1.0.9' }, { destination: '10.8.0.0/16' }],
    disableGatewayService: false,
  } as unknown as Parameters<typeof wire.joinReply>[0];
  t.same(wire.joinReply(join), {
    InterfaceName: { SrcName: 'cnm0123456789a', DstPrefix: 'eth' },
    Gateway: '10.1.0.1',
    GatewayIPv6: 'fd00::1',
    StaticRoutes: [
      { Destination: '10.9.0.0/16', RouteType: 0, NextHop: '10.1.0.9' },
      { Destination: '10.8.0.0/16', RouteType: 1 },
    ],
    DisableGatewayService: false,
  });
  t.same(wire.joinReply({ srcName: 'a', dstPrefix: 'b', routes: [], disableGatewayService: true }), {
    InterfaceName: { SrcName: 'a', DstPrefix: 'b' },
    DisableGatewayService: true,
  });
  const empty = { ...join, routes: [{ destination: '' }] } as unknown as typeof join;
  t.throws(() => wire.joinReply(empty), { code: 'internal' });
  t.end();
});

t.test('P20 DiscoverNew', (t) => {
  const node = { DiscoveryType: 1, DiscoveryData: { Address: '192.0.2.1', BindAddress: '', Self: true } };
  t.same(wire.decodeDiscovery(node), { type: 1, address: '192.0.2.1', self: true });
  t.same(wire.decodeDiscovery({ DiscoveryType: 1, DiscoveryData: null }), { type: 1, self: false });
  t.match(refusal(wire.decodeDiscovery, { DiscoveryType: '1' }), /^DiscoveryType: "1" is not a number/);
  t.end();
});

t.test('IPAM: requests decoded', (t) => {
  const pool = (extra: object): unknown => decodePool({ AddressSpace: 'cnm-local', ...extra }, SPACES);
  t.same(pool({ Pool: '', SubPool: '', Options: null, V6: false }), {
    space: 'cnm-local',
    v6: false,
    options: {},
  });
  t.same(pool({ V6: true }), { space: 'cnm-local', v6: true, options: {} });
  t.same(pool({ Pool: '10.1.0.0/16', SubPool: '10.1.2.0/24', Options: { a: 'b' }, V6: false }), {
    space: 'cnm-local',
    pool: '10.1.0.0/16',
    subPool: '10.1.2.0/24',
    v6: false,
    options: { a: 'b' },
  });
  t.match(pool({ Pool: 'fd00::/64', V6: false }), { v6: true }, 'the pool tells its family');
  t.same(decodePoolId({ PoolID: 'p' }), 'p');
  const address = (Options: unknown, Address = ''): unknown =>
    decodeAddress({ PoolID: 'p', Address, Options });
  t.same(address(null), { poolId: 'p', request: { gateway: false, serial: false } });
  t.same(
    address({ RequestAddressType: 'com.docker.network.gateway', 'com.docker.network.ipam.serial': 'true' }),
    {
      poolId: 'p',
      request: { gateway: true, serial: true },
    },
  );
  t.same(address({ 'com.docker.network.endpoint.name': 'web' }, '10.1.0.9'), {
    poolId: 'p',
    request: { address: '10.1.0.9', gateway: false, name: 'web', serial: false },
  });
  t.same(decodeRelease({ PoolID: 'p', Address: 'FD00::0:9' }), { poolId: 'p', address: 'fd00::9' });
  t.end();
});

t.test('I05 IPAM: each wrong field is named, shown and put right', (t) => {
  const pool = (body: unknown): unknown => decodePool(body, SPACES);
  const local = { AddressSpace: 'cnm-local' };
  const table: readonly (readonly [(body: unknown) => unknown, unknown, string])[] = [
    [pool, {}, 'AddressSpace: is missing: it must be the name of an address space (at most 4096 characters)'],
    [
      pool,
      { AddressSpace: 'x' },
      'AddressSpace: "x" is not an address space of this driver (cnm-local or cnm-global)',
    ],
    [
      pool,
      { ...local, Pool: '0.0.0.0/AB' },
      'Pool: "0.0.0.0/AB" is not a subnet (like 10.0.0.0/24 or fd00::/64)',
    ],
    [pool, { ...local, Pool: '/24' }, 'Pool: "/24" is not a subnet (like 10.0.0.0/24 or fd00::/64)'],
    [
      pool,
      { ...local, SubPool: '10.0.0.0/24' },
      'SubPool: there is no Pool for this range to lie in: give both, or neither',
    ],
    [pool, { ...local, V6: 1 }, 'V6: 1 is not true or false'],
    [pool, { ...local, Options: { a: null } }, 'Options.a: null is not a string, as every option is'],
    [decodePoolId, { PoolID: '' }, 'PoolID: "" is not the id of a pool (at most 4096 characters)'],
    [
      decodeAddress,
      { PoolID: 'p', Address: '10.0.0.1/24' },
      'Address: "10.0.0.1/24" is not an IP address (like 10.0.0.2 or fd00::2)',
    ],
    [
      decodeRelease,
      { PoolID: 'p', Address: '' },
      'Address: "" is not an IP address (like 10.0.0.2 or fd00::2)',
    ],
  ];
  for (const [decode, body, message] of table) t.equal(refusal(decode, body), message);
  t.end();
});

t.test('whatever JSON comes: decoded or refused as request-invalid in one short line', (t) => {
  const decoders = [
    decodeNetwork,
    wire.decodeEndpoint,
    wire.decodeProgram,
    wire.decodeJoin,
    wire.decodeGatewayCheck,
    (body: unknown) => decodePool(body, SPACES),
    decodeAddress,
  ];
  const names = [
    ...[
      'NetworkID',
      'EndpointID',
      'Options',
      'IPv4Data',
      'Interface',
      'SandboxKey',
      'Pool',
      'PoolID',
      'Address',
    ],
    ...[
      'com.docker.network.generic',
      'com.docker.network.portmap',
      '__proto__',
      'constructor',
      'AddressSpace',
    ],
  ];
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(NETWORK, ENDPOINT, '10.0.0.0/24', 'cnm-local', null),
  );
  const nested = fc.dictionary(fc.constantFrom(...names), value);
  const body = fc.dictionary(fc.constantFrom(...names), fc.oneof(value, nested, fc.array(nested)));
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), body), fc.constantFrom(...decoders), (body, decode) => {
      const message = refusal(decode, JSON.parse(JSON.stringify(body)) as unknown);
      return message.length < 1000 && !message.includes('\n');
    }),
    { numRuns: 1000 },
  );
  t.pass('1000 of them');
  t.end();
});
