import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { portOwner } from './port-owner.ts';

/** Lines as Linux 6.18 shows them (`cat /proc/net/tcp`), with other inodes. */
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000 100 0 0 10 0
   1: 020200C0:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 100 0 0 10 0
   2: 020200C0:1F92 010200C0:01BB 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000000000000000 20 4 0 10 -1
   3: 0100007F:1F93 00000000:0000 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000000000000000
`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F94 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0000000000000000 100 0 0 10 0
   1: B80D0120000000000000000001000000:1F95 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 555 1 0000000000000000 100 0 0 10 0
`;

t.test('a process by the socket that is in the way', (t) => {
  const proc = t.testdir({ 'thread-self': { net: { tcp: TCP, tcp6: TCP6 } } });
  const running = (pid: number, exe: string | undefined, inodes: readonly number[]): void => {
    mkdirSync(`${proc}/${pid}/fd`, { recursive: true });
    writeFileSync(`${proc}/${pid}/comm`, 'comm\n');
    if (exe !== undefined) symlinkSync(exe, `${proc}/${pid}/exe`);
    for (const [fd, inode] of inodes.entries()) symlinkSync(`socket:[${inode}]`, `${proc}/${pid}/fd/${fd}`);
  };
  running(10, '/usr/sbin/nginx', [1, 111, 222]);
  running(20, '/usr/bin/old (deleted)', [333, 444]);
  running(30, undefined, [555]);
  const owner = (address: string, port: number): string | undefined =>
    portOwner('tcp', ip(address), port, proc);
  t.equal(owner('127.0.0.1', 8080), 'nginx (pid 10)');
  t.equal(owner('0.0.0.0', 8080), 'nginx (pid 10)', 'every address collides with each');
  t.equal(owner('127.0.0.2', 8080), undefined, 'another address');
  t.equal(owner('192.0.2.2', 8081), 'nginx (pid 10)');
  t.equal(owner('::', 8081), undefined, 'the other family');
  t.equal(owner('192.0.2.2', 8082), 'old (pid 20)', 'a connection that uses the port');
  t.equal(owner('127.0.0.1', 8083), undefined, 'TIME_WAIT belongs to nobody');
  t.equal(owner('192.0.2.2', 8084), 'old (pid 20)', 'an IPv6 socket on :: that has IPv4 too');
  t.equal(owner('2001:db8::1', 8085), 'comm (pid 30)', 'no program file');
  t.equal(owner('2001:db8::1', 8086), undefined);
  t.equal(portOwner('sctp', ip('0.0.0.0'), 80, proc), undefined, 'no table');
  t.end();
});
