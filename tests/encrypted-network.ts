/** An encrypted network of two hosts, and an endpoint on it, for tests of its keys. */
import { prefix } from '../address/prefix.ts';
import type { EndpointSpec, NetworkSpec } from '../cnm/model.ts';

export const NETWORK: NetworkSpec = {
  id: 'a1'.repeat(32),
  driver: 'cnm-overlay',
  origin: 'cnm',
  options: { vni: '70', peers: '192.0.2.1,192.0.2.2', 'ip-range': 'any', encrypted: '' },
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  ipv6: [],
};

export const ENDPOINT: EndpointSpec = {
  id: 'e1'.repeat(32),
  network: NETWORK.id,
  address: prefix('10.1.0.2/24'),
  options: {},
  ports: [],
};

/** The host's own, by which it reaches the other one. */
export const UPLINK = { links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }] };
