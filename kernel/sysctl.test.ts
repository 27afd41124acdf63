import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeProcSysWritable, readSysctl, writeSysctl } from './sysctl.ts';

function tree(dir: string): string {
  mkdirSync(join(dir, 'net/ipv4/conf/eth0.100'), { recursive: true });
  writeFileSync(join(dir, 'net/ipv4/ip_forward'), '1\n');
  writeFileSync(join(dir, 'net/ipv4/ip_local_port_range'), '32768\t60999\n');
  writeFileSync(join(dir, 'net/ipv4/conf/eth0.100/forwarding'), '0\n');
  return dir;
}

t.test('dots separate, a slash is a dot in an interface name', (t) => {
  const root = tree(t.testdir());
  t.equal(readSysctl('net.ipv4.ip_forward', root), '1');
  t.equal(readSysctl('net.ipv4.conf.eth0/100.forwarding', root), '0');
  t.equal(readSysctl('net.ipv4.none', root), undefined);
  t.equal(readSysctl('net.ipv4.ip_forward.below', root), undefined);
  t.end();
});

t.test('written only when it differs', (t) => {
  const root = tree(t.testdir());
  t.equal(writeSysctl('net.ipv4.ip_forward', '1', root), undefined);
  t.equal(writeSysctl('net.ipv4.ip_local_port_range', '32768 60999', root), undefined);
  t.equal(readFileSync(join(root, 'net/ipv4/ip_forward'), 'utf8'), '1\n');
  t.equal(readFileSync(join(root, 'net/ipv4/ip_local_port_range'), 'utf8'), '32768\t60999\n');
  t.equal(writeSysctl('net.ipv4.conf.eth0/100.forwarding', '1', root), '0');
  t.equal(readSysctl('net.ipv4.conf.eth0/100.forwarding', root), '1');
  t.end();
});

t.test('errors name the sysctl and both values', (t) => {
  const root = tree(t.testdir());
  t.match(
    t.throws(() => writeSysctl('net.ipv4.none', '1', root)),
    {
      errno: 'ENOENT',
      operation: 'sysctl net.ipv4.none',
      detail: 'there is none, wanted 1',
    },
  );
  // The kernel's own answer: nobody may write this one.
  t.match(
    t.throws(() => writeSysctl('kernel.ostype', 'x')),
    {
      operation: 'sysctl kernel.ostype',
      errno: /^E(ACCES|PERM|ROFS)$/,
      detail: 'it is Linux, wanted x',
    },
  );
  for (const key of ['', '.', 'net..x', 'net.ipv4.//.x', '/etc.passwd.', 'net.a\0b']) {
    t.match(
      t.throws(() => readSysctl(key, root)),
      { errno: 'EINVAL' },
      JSON.stringify(key),
    );
  }
  t.end();
});

t.test('a read-only /proc/sys is remounted with the flags that it had', (t) => {
  const calls: unknown[] = [];
  const mount = (...args: unknown[]): void => void calls.push(args);
  const line = (options: string): string =>
    `22 1 0:5 / /proc rw,nosuid - proc proc rw\n99 22 0:5 /sys /proc/sys ${options} - proc proc rw\n`;
  makeProcSysWritable(mount, '22 1 0:5 / /proc rw,nosuid - proc proc rw\n');
  makeProcSysWritable(mount, line('rw,nosuid'));
  t.same(calls, []);
  makeProcSysWritable(mount, line('ro,nosuid,nodev,noexec,relatime'));
  // mount(2): MS_REMOUNT 32 | MS_BIND 4096 | MS_NOSUID 2 | MS_NODEV 4 | MS_NOEXEC 8
  t.same(calls, [['none', '/proc/sys', 4142]]);
  t.end();
});
