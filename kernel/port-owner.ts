/** Who holds a port of this host, for the words of an error: looked up only then, because it reads all of /proc. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { familyOf, ipBytes, isAny } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import type { TransportProtocol } from './step.ts';

/**
 * `nginx (pid 417)`, or undefined when nobody is to be seen: the holder is in another process namespace (the daemon runs
 * as a managed plugin), belongs to the kernel, or has gone meanwhile.
 * @param proc Root of the process file system.
 */
export function portOwner(
  proto: TransportProtocol,
  address: Ip,
  port: number,
  proc = '/proc',
): string | undefined {
  for (const inode of socketsAt(proto, address, port, proc)) {
    const pid = processWith(inode, proc);
    if (pid !== undefined) return `${nameOf(pid, proc)} (pid ${pid})`;
  }
  return undefined;
}

/**
 * Inodes of the sockets in the way, listening ones first. An IPv6 socket on `::` may have IPv4 too (IPV6_V6ONLY is not
 * shown), so that for an IPv4 port the sockets of both families count.
 */
function socketsAt(proto: TransportProtocol, address: Ip, port: number, proc: string): readonly string[] {
  const tables = familyOf(address) === 4 ? [proto, `${proto}6`] : [`${proto}6`];
  return tables
    .flatMap((table) => rows(`${proc}/thread-self/net/${table}`))
    .filter((row) => row.port === port && collide(row.address, address))
    .sort((a, b) => Number(b.listening) - Number(a.listening))
    .map(({ inode }) => inode);
}

interface Row {
  /** In hexadecimal digits, as the table has it. */
  readonly address: string;
  readonly port: number;
  readonly listening: boolean;
  readonly inode: string;
}

const TCP_LISTEN = '0A';

/** net/ipv4/tcp_ipv4.c get_tcp4_sock(): number, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode. */
function rows(file: string): readonly Row[] {
  return readText(file)
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , state = '', , , , , , inode = ''] = line.trim().split(/\s+/);
      const [address = '', port = ''] = local.split(':');
      if (inode === '' || inode === '0') return [];
      return [{ address, port: Number.parseInt(port, 16), listening: state === TCP_LISTEN, inode }];
    });
}

/** The same address, or one of them is every address. */
function collide(row: string, address: Ip): boolean {
  return /^0+$/.test(row) || isAny(address) || row === tableText(address);
}

/** Words of four bytes, each as the processor reads it; those where Node runs are little-endian, s390x apart. */
function tableText(address: Ip): string {
  const bytes = Buffer.from(ipBytes(address));
  return bytes.swap32().toString('hex').toUpperCase();
}

function processWith(inode: string, proc: string): string | undefined {
  return list(proc)
    .filter((name) => /^\d+$/.test(name))
    .find((pid) =>
      list(`${proc}/${pid}/fd`).some((fd) => link(`${proc}/${pid}/fd/${fd}`) === `socket:[${inode}]`),
    );
}

/** The program's file; `comm` is what the process calls its main thread, which for Node is no name (`MainThread`). */
function nameOf(pid: string, proc: string): string {
  const file = link(`${proc}/${pid}/exe`)?.replace(/ \(deleted\)$/, '');
  return file === undefined ? readText(`${proc}/${pid}/comm`).trim() : basename(file);
}

// Processes come and go while they are looked at.
function list(folder: string): readonly string[] {
  return attempt(() => readdirSync(folder)) ?? [];
}

function link(file: string): string | undefined {
  return attempt(() => readlinkSync(file));
}

function readText(file: string): string {
  return attempt(() => readFileSync(file, 'utf8')) ?? '';
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}
