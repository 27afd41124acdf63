/** What may befall a host with bridge networks, for tests that try any order: events, and the networks, endpoints and ports in them. */
import fc from 'fast-check';
import { ip, type Ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import type { EndpointSpec, NetworkSpec, PortBinding } from '../cnm/model.ts';

const BRIDGE = 'com.docker.network.bridge.';
const mode = fc.constantFrom('nat', 'nat', 'nat', 'nat-unprotected', 'routed', 'routed', 'isolated');
export const settings = fc.record({
  families: fc.constantFrom('4', '6', '46', '46'),
  internal: fc.constantFrom(false, false, false, true),
  options: fc.record(
    {
      [`${BRIDGE}gateway_mode_ipv4`]: mode,
      [`${BRIDGE}gateway_mode_ipv6`]: mode,
      [`${BRIDGE}enable_icc`]: fc.constantFrom('true', 'false'),
      [`${BRIDGE}enable_ip_masquerade`]: fc.constantFrom('true', 'false'),
      [`${BRIDGE}inhibit_ipv4`]: fc.constantFrom('true', 'false'),
      [`${BRIDGE}host_binding_ipv4`]: fc.constant('192.0.2.9'),
      [`${BRIDGE}trusted_host_interfaces`]: fc.constant('eth7'),
      'com.docker.network.host_ipv4': fc.constant('192.0.2.7'),
      firewall: fc.constantFrom('cnm', 'host', 'host'),
      dns: fc.constantFrom('gateway', 'on', 'off'),
    },
    { requiredKeys: [] },
  ),
});
export type Settings = typeof settings extends fc.Arbitrary<infer Value> ? Value : never;

/** Four ports of the host for everybody, so that they get into each other's way. */
const FIRST = 8080;
const hostIp = fc.constantFrom<Ip | undefined>(
  ...[undefined, undefined, '0.0.0.0', '127.0.0.2', '192.0.2.1', '::', '2001:db8::1'].map((text) =>
    text === undefined ? undefined : ip(text),
  ),
);
const wish = fc.record({
  proto: fc.constantFrom(6, 6, 6, 6, 17, 132),
  hostIp,
  kind: fc.constantFrom('exact', 'exact', 'range', 'ephemeral', 'block'),
  offset: fc.integer({ min: 0, max: 1 }),
});
type Wish = typeof wish extends fc.Arbitrary<infer Value> ? Value : never;

const slot = fc.integer({ min: 1, max: 2 });
export const event = fc.oneof(
  { weight: 2, arbitrary: fc.record({ does: fc.constant('create' as const), n: slot, settings }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('remove' as const), n: slot }) },
  {
    weight: 6,
    arbitrary: fc.record({
      does: fc.constantFrom(
        'start' as const,
        'drop' as const,
        'join' as const,
        'leave' as const,
        'leave' as const,
        'revoke' as const,
      ),
      n: slot,
      e: slot,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      does: fc.constant('publish' as const),
      n: slot,
      e: slot,
      wishes: fc.array(wish, { maxLength: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('restart' as const), flushed: fc.boolean() }) },
);
export type Event = typeof event extends fc.Arbitrary<infer Value> ? Value : never;
/** From the `at`-th step on, so many steps fail. Most often none does. */
export const fault = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  {
    weight: 1,
    arbitrary: fc.record({ at: fc.integer({ min: 0, max: 14 }), times: fc.integer({ min: 1, max: 4 }) }),
  },
);
export type Fault = typeof fault extends fc.Arbitrary<infer Value> ? Value : never;

export function networkSpec(n: number, { families, internal, options }: Settings): NetworkSpec {
  const subnet = (pool: string, gateway: string) => ({
    addressSpace: '',
    pool: prefix(pool),
    gateway: prefix(gateway),
    aux: {},
  });
  return {
    id: `a${n}`.repeat(32),
    driver: 'cnm-bridge',
    origin: 'docker',
    options: Object.fromEntries(Object.entries(options)),
    internal,
    enableIpv4: families.includes('4'),
    enableIpv6: families.includes('6'),
    ipv4: families.includes('4') ? [subnet(`10.${n}.0.0/24`, `10.${n}.0.1/24`)] : [],
    ipv6: families.includes('6') ? [subnet(`fd00:${n}::/64`, `fd00:${n}::1/64`)] : [],
  };
}

export function endpointSpec({ id, ipv4, ipv6 }: NetworkSpec, n: number, e: number): EndpointSpec {
  return {
    id: `e${n}${e}f`.repeat(16),
    network: id,
    ...(ipv4.length > 0 && { address: prefix(`10.${n}.0.${e + 1}/24`) }),
    ...(ipv6.length > 0 && { addressV6: prefix(`fd00:${n}::${e + 1}/64`) }),
    options: {},
    ports: [],
  };
}

/** Each has a container port of its own; a block is three neighbours that keep their numbers. */
export function bindings(wishes: readonly Wish[]): readonly PortBinding[] {
  return wishes.flatMap(({ proto, hostIp, kind, offset }, index) => {
    const base = { proto, ...(hostIp !== undefined && { hostIp }) };
    const exact = (port: number, hostPort: number) => ({ ...base, port, hostPort, hostPortEnd: hostPort });
    const port = 80 + index;
    switch (kind) {
      case 'exact':
        return [exact(port, FIRST + offset)];
      case 'range':
        return [{ ...base, port, hostPort: FIRST, hostPortEnd: FIRST + 3 }];
      case 'ephemeral':
        return [{ ...base, port, hostPort: 0, hostPortEnd: 0 }];
      default:
        return [0, 1, 2].map((k) => exact(FIRST + k, FIRST + k));
    }
  });
}
