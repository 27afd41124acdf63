/**
 * Ports that are held: nobody else gets them, nobody is answered, and who has a port already is named. In a namespace of
 * its own, on its loopback interface.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import type { Ip } from '../../address/ip.ts';
import { KernelError } from '../../kernel/kernel.ts';
import { PortHolder } from '../../kernel/port-holder.ts';
import type { Ports } from '../../kernel/ports.ts';
import { serve } from '../firewall/world.ts';
import { enterFreshNetns, ip, openDescriptors, sh } from './namespace.ts';

const sys = await enterFreshNetns();
const holder = new PortHolder(sys);
t.teardown(() => {
  holder.close();
});

const ports = (proto: Ports['proto'], address: string, port: number, portEnd = port): Ports => ({
  proto,
  address: address as Ip,
  port,
  portEnd,
});
const refusal = (wanted: Ports): KernelError => {
  try {
    holder.hold(wanted);
  } catch (error) {
    if (error instanceof KernelError) return error;
  }
  throw new Error('it was held');
};
/** Whether another process can listen there, or send there and be answered. */
const works = (command: string, seconds = 1): boolean => {
  try {
    sh(`timeout ${seconds} socat ${command} </dev/null 2>&1`);
    return true;
  } catch (error) {
    // timeout(1): it was still listening.
    return (error as { status?: number }).status === 124;
  }
};

t.test('nobody else gets a port that is held', (t) => {
  t.ok(works('TCP4-LISTEN:8080 -') && works('UDP4-RECV:5300 -'), 'free ports can be had');
  holder.hold(ports('tcp', '0.0.0.0', 8080));
  holder.hold(ports('udp', '0.0.0.0', 5300));
  holder.hold(ports('tcp', '::', 8081));
  // What cannot be had says so when it has started, whenever that is.
  t.notOk(works('TCP4-LISTEN:8080 -', 30));
  t.notOk(works('TCP4-LISTEN:8080,reuseaddr,bind=127.0.0.1 -', 30), 'nor with SO_REUSEADDR');
  t.notOk(works('UDP4-RECV:5300 -', 30));
  t.notOk(works('UDP4-RECV:5300,reuseaddr,bind=127.0.0.1 -', 30), 'nor with SO_REUSEADDR');
  t.notOk(works('TCP6-LISTEN:8081 -', 30));
  t.ok(works('TCP4-LISTEN:8081 -'), 'the other family is free');
  t.ok(works('TCP6-LISTEN:8080,ipv6only=1 -'), 'the other family is free');
  t.end();
});

t.test('nobody is answered', (t) => {
  t.throws(() => sh('socat - TCP4:127.0.0.1:8080,connect-timeout=0.5 </dev/null'), /timed out/);
  t.throws(
    () => sh('socat - TCP4:127.0.0.1:8089,connect-timeout=10 </dev/null'),
    /refused/,
    'as a free port would',
  );
  sh('echo x | socat -u - UDP4:127.0.0.1:5300');
  t.match(sh('ss -Hlun sport = 5300'), /UNCONN 0 /, 'what is sent there takes no memory');
  t.end();
});

t.test('released', (t) => {
  holder.release(ports('tcp', '0.0.0.0', 8080), [8080, 8099]);
  t.ok(works('TCP4-LISTEN:8080 -'));
  t.same([...holder.held()], ['udp 0.0.0.0 5300', 'tcp :: 8081']);
  t.end();
});

t.test('who has it already', async (t) => {
  const stop = await serve(undefined, 'stranger', [
    '127.0.0.1/tcp:9000',
    'tcp:9001',
    '127.0.0.1/udp:9002',
    '::1/tcp:9003',
  ]);
  t.teardown(stop);
  for (const wanted of [
    ports('tcp', '127.0.0.1', 9000),
    ports('tcp', '0.0.0.0', 9000),
    ports('tcp', '127.0.0.1', 9001),
    ports('udp', '0.0.0.0', 9002),
    ports('tcp', '::', 9003),
  ]) {
    const { errno, detail, message } = refusal(wanted);
    t.equal(errno, 'EADDRINUSE', message);
    t.match(detail, new RegExp(`:${wanted.port} is held by node \\(pid \\d+\\)$`));
  }
});

t.test('a range is held whole or not at all', (t) => {
  const before = openDescriptors();
  const stranger = new PortHolder(sys);
  stranger.hold(ports('tcp', '127.0.0.1', 8505));
  const { errno, message } = refusal(ports('tcp', '0.0.0.0', 8500, 8510));
  t.equal(errno, 'EADDRINUSE');
  t.match(message, /^hold tcp 0\.0\.0\.0:8505: EADDRINUSE/);
  stranger.close();
  t.equal(openDescriptors(), before);
  t.same(holder.hold(ports('tcp', '0.0.0.0', 8500, 8510)).length, 11);
  t.same(holder.hold(ports('tcp', '0.0.0.0', 8505, 8512)), [8511, 8512], 'the rest of a range');
  t.end();
});

t.test('an address that the host has not', (t) => {
  const { errno, detail } = refusal(ports('tcp', '192.0.2.9', 80));
  t.same([errno, detail], ['EADDRNOTAVAIL', 'this host has no address 192.0.2.9']);
  ip('addr add 192.0.2.9/32 dev lo');
  t.same(holder.hold(ports('tcp', '192.0.2.9', 80)), [80]);
  t.end();
});

t.test('sctp, also where the kernel has none', (t) => {
  t.same(holder.hold(ports('sctp', '0.0.0.0', 8080)), [8080]);
  t.ok(holder.held().has('sctp 0.0.0.0 8080'));
  t.end();
});

t.test('as many as the limit of open files allows', async (t) => {
  const script = `
    const { PortHolder } = await import('${import.meta.dirname}/../../kernel/port-holder.ts');
    const { loadSyscalls } = await import('${import.meta.dirname}/../../kernel/syscall.ts');
    const holder = new PortHolder(loadSyscalls());
    try { holder.hold({ proto: 'tcp', address: '0.0.0.0', port: 20000, portEnd: 21000 }); } catch (error) { console.log(error.message); }
    console.log(holder.held().size);`;
  const child = spawn('sh', [
    '-c',
    'ulimit -n 256; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  await once(child, 'close');
  t.match(out, /EMFILE \(each published port takes one file descriptor.*\n0\n$/);
});

t.test('ten thousand', (t) => {
  const before = process.cpuUsage();
  holder.hold(ports('tcp', '0.0.0.0', 20_000, 29_999));
  const { user, system } = process.cpuUsage(before);
  t.ok((user + system) / 1000 < 1000, `${((user + system) / 1000).toFixed(0)} ms of processor time`);
  t.end();
});
