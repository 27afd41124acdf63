// lab: vm sctp 8021q dummy sch_netem
import t from 'tap';
import { openLab } from './lab.ts';
t.test('probe', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  t.comment(await h.sh('uname -a; lsmod | head -30; ip link'));
  await h.docker('network', 'create', '--driver', h.driver('bridge'), 'n1');
  await h.container('c1', 'n1');
  t.ok(await h.containerPings('c1', '203.0.113.1'));
});
