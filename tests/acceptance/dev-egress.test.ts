import t from 'tap';
import { openLab, WORLD6 } from '../lab/lab.ts';
import { answer, ask } from './published.ts';
const DRIVERS = { drivers: ['bridge', 'overlay'] };
t.test('egress', async (t) => {
  const lab = await openLab(t);
  const h2 = await lab.dockerHost({ ...DRIVERS, plugin: 'sockets', engine: '28.5' });
  await h2.docker('network', 'create', '-d', 'cnm-overlay', '--ipv6', '--ipv4=false', '--subnet', 'fd00:6::/64', '-o', 'vni=9', '-o', `peers=${h2.address}`, '-o', 'ip-range=any', '-o', 'egress=gateway', 'six');
  await answer(h2, 'web', ['tcp:80'], '--network', 'six', '-p', '8080:80');
  console.log(await h2.inContainer('web', 'ip', 'addr'));
  console.log(await h2.inContainer('web', 'ip', '-6', 'route'));
  t.equal(await ask(lab.world, `tcp:[${h2.address6}]:8080`), 'web 2001:db8:1::1');
  t.ok(await h2.containerPings('web', WORLD6, 3));
  console.log(await h2.sh('cat /proc/net/nf_conntrack | head; nft list table inet cnm | head -40; iptables -S DOCKER-USER; ip -6 route; ip route'));
});
