/** Networks and endpoints as Docker asks for them, with as little in them as can be: each test says what matters to it. */
import { prefix } from '../address/prefix.ts';
import type { EndpointSpec, NetworkSpec, Subnet } from '../cnm/model.ts';

export function subnet(pool: string, gateway?: string): Subnet {
  return {
    addressSpace: 'LocalDefault',
    pool: prefix(pool),
    ...(gateway !== undefined && { gateway: prefix(gateway) }),
    aux: {},
  };
}

/** 10.1.0.0/24 with a gateway. */
export function networkSpec(driver: string, changes: Partial<NetworkSpec> = {}): NetworkSpec {
  return {
    id: 'a1'.repeat(32),
    driver,
    origin: 'docker',
    options: {},
    internal: false,
    enableIpv4: true,
    enableIpv6: false,
    ipv4: [subnet('10.1.0.0/24', '10.1.0.1/24')],
    ipv6: [],
    ...changes,
  };
}

/** On that network, with 10.1.0.2. */
export function endpointSpec(changes: Partial<EndpointSpec> = {}): EndpointSpec {
  return {
    id: 'e1'.repeat(32),
    network: 'a1'.repeat(32),
    address: prefix('10.1.0.2/24'),
    options: {},
    ports: [],
    ...changes,
  };
}
