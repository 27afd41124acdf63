import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { fakeKernel } from './fake.ts';
import { withNics } from './nic.ts';

t.test('what sysfs says of physical devices', async (t) => {
  const sysfs = mkdtempSync(join(tmpdir(), 'cnm-sysfs-'));
  t.teardown(() => {
    rmSync(sysfs, { recursive: true });
  });
  for (const [name, driver] of [
    ['eth0', 'igb'],
    ['wlan0', 'iwlwifi'],
    ['br0', 'igb'],
  ] as const) {
    mkdirSync(join(sysfs, name, 'device'), { recursive: true });
    symlinkSync(`../../../bus/pci/drivers/${driver}`, join(sysfs, name, 'device/driver'));
  }
  mkdirSync(join(sysfs, 'wlan0/phy80211'));
  const kernel = fakeKernel({
    links: [{ name: 'eth0' }, { name: 'wlan0' }, { name: 'odd0' }, { name: 'br0', kind: 'bridge' }],
  });
  const { links } = withNics((await kernel.facts()).host, sysfs);
  t.same(links.get('eth0')?.nic, { driver: 'igb', wireless: false });
  t.same(links.get('wlan0')?.nic, { driver: 'iwlwifi', wireless: true });
  for (const name of ['odd0', 'br0', 'lo']) t.equal(links.get(name)?.nic, undefined, name);
});
