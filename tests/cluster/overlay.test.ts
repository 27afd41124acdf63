/*
 * An overlay network of three hosts that share an etcd: no list of peers, no ranges, no VNI. Scenarios 7 and 8.
 *
 *   uplink ──┬── etcd 198.51.100.10
 *            ├── h1 .11 (dockerd 20.10, cnmd)
 *            ├── h2 .12 (dockerd 28.5, cnmd)
 *            └── h3 .13 (cnmd, the tunnel in user space)
 */
import { join as path } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { EndpointView } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { EtcdHost } from './etcd-host.ts';

t.test('an overlay network by way of etcd', async (t) => {
  const lab = await openLab(t);
  const store = await lab.peer({ name: 'store' });
  const etcd = new EtcdHost(store);
  await etcd.start();
  const settings = {
    drivers: ['bridge', 'overlay'],
    arguments: ['--cluster', `etcd://${store.address}:2379`],
  };
  const [h1, h2, h3] = await Promise.all([
    lab.bareHost({ ...settings, name: 'h1' }),
    lab.bareHost({ ...settings, name: 'h2' }),
    lab.bareHost({ ...settings, name: 'h3' }),
  ]);
  for (const h of [h1, h2, h3]) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
  const boxes: EndpointView[] = [];
  for (const h of [h1, h2, h3]) {
    const vtep = h === h3 ? 'userspace' : 'kernel';
    await h.cnm('network', 'create', '-d', 'cnm-overlay', '--subnet', '10.1.0.0/24', '--ipam-opt', 'space=cnm-global', '-o', `vtep=${vtep}`, 'uber');
    await h.cnm('sandbox', 'create', `box-${h.name}`);
    boxes.push(JSON.parse(await h.cnm('sandbox', 'join', `box-${h.name}`, '--network', 'uber', '--json')) as EndpointView);
  }
  console.log(await etcd.keys('/cnm/overlay/'));
  for (const h of [h1, h2, h3]) {
    console.log(h.name, await h.sh('for n in /run/cnm/netns/ov-*; do nsenter --net=$n bridge fdb show; nsenter --net=$n ip neigh; nsenter --net=$n ip -d link show vx0; done'));
    for (const box of boxes) {
      const to = (box.addresses[0] ?? '').replace(/\/.*/, '');
      const { code, stdout, stderr } = await h.tryCnm('sandbox', 'exec', `box-${h.name}`, '--', 'ping', '-c1', '-W2', to);
      t.equal(code, 0, `${h.name} → ${to} ${stdout}${stderr}`);
    }
    const { code, stdout, stderr } = await h.tryCnm('sandbox', 'exec', `box-${h.name}`, '--', 'ping', '-c1', '-W2', 'box-h2');
    t.equal(code, 0, `${h.name} → ${stdout}${stderr}`);
    console.log(await h.cnm('doctor').catch(e => String(e)));
  }
});
