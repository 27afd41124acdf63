// lab: vm 8021q
/*
 * The virtual machine: what this machine's kernel may lack is there. That a Docker Engine runs in it, and a peer on a trunk with a tag inside
 * of a tag, show in acceptance/macvlan-vlan.test.ts.
 *
 *                  ┌ access 100 ── eth1 a 10.100.0.2/24
 *   h eth1 ── trunk┤
 *                  └ access 200 ── eth1 b 10.200.0.2/24
 */
import { release } from 'node:os';
import t from 'tap';
import { capture } from '../acceptance/observe.ts';
import { openLab } from './lab.ts';
import { subInterface, vlanSwitch } from './vlan.ts';

t.test('its kernel is Debian’s', (t) => {
  t.match(release(), /^\d+\.\d+\.\d+.*-amd64$/);
  t.end();
});

t.test('VLANs', async (t) => {
  const lab = await openLab(t);
  const machine = (name: string) => lab.peer({ name, uplink: false });
  const [h, a, b] = [await machine('h'), await machine('a'), await machine('b')];
  const [trunk = ''] = await vlanSwitch(
    lab,
    { host: h, link: 'eth1', trunk: [100, 200] },
    { host: a, link: 'eth1', access: 100, addresses: ['10.100.0.2/24'] },
    { host: b, link: 'eth1', access: 200, addresses: ['10.200.0.2/24'] },
  );
  await t.test('a switch keeps them apart', async (t) => {
    for (const [tag, other] of [
      [100, 200],
      [200, 100],
    ] as const) {
      const link = await subInterface(h, 'eth1', { tags: [tag], addresses: [`10.${tag}.0.1/24`] });
      const listen = (argv: readonly string[]) => lab.world.spawnNet(argv);
      const seen = await capture(listen, `-e -i ${trunk} icmp`, async () => {
        t.ok(await h.pings(`10.${tag}.0.2`, 5), `who is in VLAN ${tag}`);
      });
      t.match(
        seen,
        new RegExp(
          `ethertype 802\\.1Q \\(0x8100\\).* vlan ${tag}, .* > 10\\.${tag}\\.0\\.2: ICMP echo request`,
        ),
      );
      // As if the other's address were in this VLAN.
      await h.net('ip', 'address', 'add', `10.${other}.0.9/24`, 'dev', link);
      t.notOk(await h.pings(`10.${other}.0.2`, 1), `who is in VLAN ${other} is not to be reached in ${tag}`);
      await h.net('ip', 'link', 'del', link);
    }
  });
});
