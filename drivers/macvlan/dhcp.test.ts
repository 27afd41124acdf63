import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac, macFromSeed } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { Leased } from '../../cnm/leases.ts';
import type { EndpointSpec, NetworkSpec } from '../../cnm/model.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import { macvlan } from './index.ts';
import { networkSpec } from '../../tests/specs.ts';

const network = networkSpec('cnm-macvlan', {
  id: '0123456789abcdef'.repeat(4),
  options: { parent: 'eth0', dhcp: 'true' },
  ipv4: [],
});
const LEASED: Leased = {
  address: prefix('10.0.0.7/24'),
  gateway: ip('10.0.0.1'),
  routes: [{ destination: prefix('10.9.0.0/16'), nextHop: ip('10.0.0.2') }],
  mtu: 1400,
  dns: [],
};
const MAC = mac('02:00:00:00:00:07');

const endpoint = (more: Partial<EndpointSpec> = {}) => ({
  id: 'e'.repeat(64),
  network: network.id,
  options: {},
  ports: [],
  ...more,
  mac: more.mac ?? MAC,
});
const leased = (more: Partial<Leased> = {}) => {
  const all = { ...LEASED, ...more };
  return endpoint({ address: all.address, leased: all });
};

async function refusal(changes: Partial<NetworkSpec>): Promise<string> {
  const facts = await fakeKernel({ links: [{ name: 'eth0', mac: MAC }] }).facts();
  try {
    macvlan.network({ ...network, ...changes }, facts, []);
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return '';
}

t.test('what such a network may be', async (t) => {
  t.equal(await refusal({}), '');
  const pool = { addressSpace: 'LocalDefault', pool: prefix('10.0.0.0/24'), aux: {} };
  t.match(
    await refusal({ ipv4: [pool] }),
    /has subnet 10\.0\.0\.0\/24 of an IPAM: create it with --ipam-driver null/,
  );
  t.match(await refusal({ enableIpv6: true }), /there is no DHCPv6 here/);
  t.match(await refusal({ enableIpv4: false }), /is for IPv4, which the network has not/);
  t.match(await refusal({ options: { dhcp: 'true' } }), /add parent=/);
  t.match(await refusal({ options: { ...network.options, host_access: 'true' } }), /do not go together/);
});

t.test('what the server gave is handed on', (t) => {
  t.match(macvlan.join(network, leased()), {
    gateway: '10.0.0.1',
    routes: [{ destination: '10.9.0.0/16', nextHop: '10.0.0.2' }],
  });
  const own = { ...leased(), options: { 'cnm.routes': '10.8.0.0/16 via 10.0.0.3' } };
  t.match(macvlan.join(network, own).routes, [{}, { destination: '10.8.0.0/16', nextHop: '10.0.0.3' }]);
  t.throws(
    () => macvlan.join(network, { ...leased(), options: { 'cnm.routes': '10.8.0.0/16 via 10.1.0.3' } }),
    /not in the network's subnet 10\.0\.0\.0\/24/,
  );
  const inside = macvlan.join({ ...network, internal: true }, leased());
  t.same([inside.gateway, inside.routes], [undefined, []], 'an internal network has no way out');
  t.end();
});

t.test('the MTU: the server’s, and no more than the user’s and the parent’s', (t) => {
  const mtu = (of: NetworkSpec & { found?: Record<string, string> }, one: ReturnType<typeof leased>) =>
    macvlan.endpoint(of, one).flatMap((step) => (step.do === 'link.add' ? [step.mtu] : []))[0];
  t.equal(mtu(network, leased()), 1400);
  t.equal(mtu({ ...network, found: { mtu: '1500' } }, leased({ mtu: 9000 })), 1500);
  const smaller = { ...network, options: { ...network.options, 'com.docker.network.driver.mtu': '1300' } };
  t.equal(mtu(smaller, leased()), 1300);
  t.end();
});

t.test('as whom an endpoint asks', (t) => {
  const asked = (more: Partial<EndpointSpec>) => {
    const one = endpoint(more);
    return macvlan.leaseRequest?.(network, { ...one, mac: more.mac ?? macvlan.mac(network, one) });
  };
  t.same(asked({}), { wire: 'eth0', returns: false }, 'nobody knows who it is');
  t.equal(macvlan.mac(network, endpoint()), macFromSeed('e'.repeat(64)));
  t.same(asked({ mac: MAC }), { wire: 'eth0', returns: true });
  t.same(asked({ name: 'web' }), { wire: 'eth0', hostName: 'web', returns: true });
  t.same(asked({ name: 'a_b' }), { wire: 'eth0', returns: true }, 'no name of a host');
  t.same(asked({ options: { 'dhcp.client_id': 'web' } }), {
    wire: 'eth0',
    clientId: '00776562',
    returns: true,
  });
  t.match(asked({ options: { 'dhcp.client_id': '01:02:42:0A:14:00:07' } }), { clientId: '0102420a140007' });
  t.match(asked({ name: 'x', options: { 'dhcp.hostname': 'web.lan' } }), { hostName: 'web.lan' });
  const [one, same, other] = ['a', 'a', 'b'].map((id) =>
    macvlan.mac(network, endpoint({ options: { 'dhcp.client_id': id } })),
  );
  t.equal(one, same);
  t.not(one, other);
  t.throws(() => asked({ options: { 'dhcp.client_id': '' } }), /dhcp\.client_id cannot be ""/);
  t.throws(() => asked({ options: { 'dhcp.hostname': '-a' } }), /dhcp\.hostname cannot be "-a"/);
  const plain = {
    ...network,
    options: { parent: 'eth0' },
    ipv4: [{ addressSpace: '', pool: prefix('10.0.0.0/24'), aux: {} }],
  };
  t.throws(
    () => macvlan.endpoint(plain, endpoint({ options: { 'dhcp.hostname': 'web' } })),
    /of a network with dhcp=true, which this one is not/,
  );
  t.end();
});
