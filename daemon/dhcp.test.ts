/** The daemon was killed between a lease that a server gave and the endpoint that was to have its address: the next one makes them agree. */
import t from 'tap';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import { macvlan } from '../drivers/macvlan/index.ts';
import { testServer } from '../ipam/dhcp/fake-server.ts';
import { createDhcpLeases, type LeaseRecord } from '../ipam/dhcp/leases.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { until } from '../tests/until.ts';
import { createDhcp } from './dhcp.ts';
import { networkSpec } from '../tests/specs.ts';

const network = networkSpec('cnm-macvlan', {
  origin: 'cnm',
  options: { parent: 'eth0', dhcp: 'true' },
  ipv4: [],
});
const endpoint = { id: 'e1'.repeat(32), network: network.id, options: {}, ports: [] };
const OTHER = prefix('10.0.0.99/24');

t.test('an endpoint has the address of its lease, where the daemon ended in between', async (t) => {
  const kernel = fakeKernel({ links: [{ name: 'eth0', mac: mac('52:54:00:00:00:01') }] });
  const store = memoryStore();
  const { tap } = testServer();
  const born = () => {
    const leases = createDhcpLeases({ store, tap, log: silent });
    t.teardown(() => leases.close());
    const cnm = createCnm({ kernel, store, drivers: [macvlan], log: silent, runDir: '/run/cnm', leases });
    return { leases, cnm };
  };
  const before = born();
  await before.cnm.createNetwork(network);
  const { path } = await before.cnm.createSandbox('web');
  await before.cnm.joinSandbox('web', endpoint);
  await before.leases.close();
  const key = `dhcp/${network.id}/${endpoint.id}`;
  const record = store.get(key) as LeaseRecord;
  await store.write([{ put: key, value: { ...record, lease: { ...record.lease, address: OTHER } } }]);

  const { leases, cnm } = born();
  const engine = { follow: () => () => undefined };
  const dhcp = createDhcp({ leases, cnm, engine, log: silent });
  await cnm.reconcile();
  await dhcp.start();
  await until('the record to say so', () => cnm.endpoint(network.id, endpoint.id)?.address === OTHER);
  const { netns } = await kernel.facts({ netns: [path] });
  const there = netns.get(path)?.addresses.filter(({ link }) => link === 'eth0');
  t.same(
    there?.map((one) => one.prefix),
    [OTHER],
  );
  t.same((await cnm.drift()).differences, []);
  await dhcp.close();
});
