/**
 * Sysctls of the real kernel: each namespace its own, and a /proc/sys that a container runtime made read-only.
 *
 *     this process ── fresh netns (dot.7) ── unshare -m: /proc/sys read-only, as in a managed plugin
 *           ╰──────── netns file `box` (dot.7)
 */
import { join } from 'node:path';
import t from 'tap';
import { createNetns, removeNetns, withNetns } from '../../kernel/netns.ts';
import { readSysctl, writeSysctl } from '../../kernel/sysctl.ts';
import { enterFreshNetns, ip, netnsFolder, sh } from './namespace.ts';

const KEY = 'net.ipv4.conf.dot/7.rp_filter';

t.test('the thread’s namespace decides', async (t) => {
  const sys = await enterFreshNetns();
  const folder = await netnsFolder();
  t.teardown(folder.remove);
  const box = join(folder.path, 'box');
  createNetns(sys, box);
  ip('link add dot.7 type bridge');
  ip('link add dot.7 type bridge', box);
  const before = readSysctl(KEY);
  t.equal(
    withNetns(sys, box, () => writeSysctl(KEY, '2')),
    before,
  );
  t.equal(readSysctl(KEY), before, 'ours is as it was');
  t.equal(sh(`nsenter --net=${box} sysctl -n ${KEY}`).trim(), '2', 'as sysctl(8) sees it');
  t.equal(
    withNetns(sys, box, () => writeSysctl(KEY, '2')),
    undefined,
  );
  removeNetns(sys, box);
});

t.test('read-only: an error that says so, until it is remounted', async (t) => {
  await enterFreshNetns();
  const modules = join(import.meta.dirname, '../../kernel');
  const script = `
    const { makeProcSysWritable, writeSysctl } = await import('${modules}/sysctl.ts');
    const { loadSyscalls } = await import('${modules}/syscall.ts');
    const attempt = () => { try { return writeSysctl('net.ipv4.ip_forward', '1'); } catch (error) { return error.message; } };
    console.log(attempt());
    makeProcSysWritable(loadSyscalls().mount);
    console.log(attempt());`;
  // --input-type keeps the script out of a file; the module resolves node_modules from where it is imported.
  const out = sh(`unshare -m sh -ec '
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys
    exec "$0" --input-type=module -e "$1"' '${process.execPath}' "$(cat <<'SCRIPT'
${script}
SCRIPT
)"`);
  t.same(out.trim().split('\n'), ['sysctl net.ipv4.ip_forward: EROFS (it is 0, wanted 1)', '0']);
  t.equal(readSysctl('net.ipv4.ip_forward'), '1');
});
