import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { LeaseView } from '../ipam/dhcp/leases.ts';
import { endpointLease, leaseFields } from './lease.ts';

const view: LeaseView = {
  network: 'n',
  endpoint: 'e',
  wire: 'eth0',
  identity: { mac: mac('02:00:00:00:00:07'), clientId: '00776562' },
  returns: true,
  lease: {
    address: prefix('10.0.0.7/24'),
    routes: [],
    dns: [],
    server: ip('10.0.0.1'),
    serverMac: mac('02:00:00:00:00:01'),
    renewAt: Date.UTC(2026, 0, 1, 12),
    rebindAt: Date.UTC(2026, 0, 1, 21),
    expiresAt: Date.UTC(2026, 0, 2),
  },
  phase: 'bound',
};

t.test('a lease, in words', (t) => {
  const told = {
    ...view,
    identity: { ...view.identity, hostName: 'web' },
    lease: { ...view.lease, dns: [ip('10.0.0.53'), ip('10.0.0.54')], domain: 'lan' },
  };
  t.same(leaseFields(endpointLease(told)), [
    ['lease', 'of 10.0.0.1, until 2026-01-02T00:00:00.000Z, renewed from 2026-01-01T12:00:00.000Z (bound)'],
    ['client id', '00:77:65:62'],
    ['host name', 'web'],
    ['its dns', '10.0.0.53, 10.0.0.54'],
    ['its domain', 'lan'],
  ]);
  const ever = { ...view.lease, renewAt: Number.MAX_SAFE_INTEGER, expiresAt: Number.MAX_SAFE_INTEGER };
  t.same(leaseFields(endpointLease({ ...view, lease: ever })), [
    ['lease', 'of 10.0.0.1, for ever (bound)'],
    ['client id', '00:77:65:62'],
  ]);
  t.end();
});
