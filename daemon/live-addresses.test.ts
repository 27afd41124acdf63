import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { liveAddresses } from './live-addresses.ts';

t.test('addresses of the host and of containers', async (t) => {
  const { host } = await fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.7/24'), prefix('fd00::7/64')] }],
  }).facts();
  const inside = { ...host, addresses: [{ link: 'eth0', prefix: prefix('10.1.0.2/24') }] };
  const live = [...liveAddresses({ host, netns: new Map([['/run/docker/netns/a', inside]]) })];
  for (const address of ['192.0.2.7', 'fd00::7', '10.1.0.2'])
    t.ok(live.map(String).includes(address), address);
});
