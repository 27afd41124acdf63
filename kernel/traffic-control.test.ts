/**
 * Golden bytes are those of tc(8) of iproute2 6.1, taken with `strace -e trace=sendmsg -e write=3` in a namespace where v0 has
 * index 1001 and i0 1003; each message without its length, sequence number and port, and without the flags REQUEST and ACK.
 */
import t from 'tap';
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import type { NetlinkRequest } from './netlink.ts';
import * as tc from './traffic-control.ts';
import { golden, type Message } from '../tests/kernel/golden.ts';

function ours({ type, flags, data }: NetlinkRequest): Message {
  return { type, flags, data: Buffer.from(data).toString('hex') };
}

const BUCKET = { rate: 12_500_000, burst: 250_000, limit: 875_000 };

t.test('requests are the bytes that tc(8) sends', (t) => {
  const messages: readonly (readonly [command: string, request: NetlinkRequest, hex: string])[] = [
    [
      'qdisc del dev v0 root',
      tc.deleteBucket(1001),
      '24000000250005001da9016b0000000000000000e903000000000000ffffffff00000000',
    ],
    [
      'qdisc add dev v0 ingress',
      tc.addIngress(1001),
      '30000000240005061da9016b0000000000000000e90300000000fffff1ffffff000000000c000100696e677265737300',
    ],
    [
      'qdisc del dev v0 ingress',
      tc.deleteIngress(1001),
      '30000000250005001da9016b0000000000000000e90300000000fffff1ffffff000000000c000100696e677265737300',
    ],
    [
      'filter replace dev v0 ingress protocol all prio 1 handle 800::800 u32 match u32 0 0 action mirred egress redirect dev i0',
      tc.redirectIngress(1001, 1003),
      '8c0000002c000504dfa9016b0000000000000000e903000000080080f2ffffff0003010008000100753332006000020038000700' +
        '340001000b0001006d697272656400002400028020000200000000000000000004000000000000000000000001000000eb030000' +
        '240005000100010000000000000000000000000000000000000000000000000000000000',
    ],
  ];
  for (const [command, request, hex] of messages) {
    t.same(ours(request), golden(hex), `tc ${command}`);
  }
  t.end();
});

/**
 * Of tc(8)'s message all but TCA_TBF_RTAB, a table of 1 KiB that a kernel since 3.9 reads only for a rate of unknown link layer, and in
 * the rate what belongs to that table (cell_log, cell_align).
 */
t.test('a token bucket is the bytes that tc(8) sends, without its table', (t) => {
  t.same(ours(tc.setBucket(1001, BUCKET, 'replace')), {
    type: 36,
    flags: 0x500,
    data:
      '00000000e903000000000000ffffffff00000000' +
      '0800010074626600' +
      '34000200' +
      '28000100' +
      '00010000' +
      '00000000' +
      '20bcbe00' +
      '000000000000000000000000' +
      'f8590d00' +
      'b4c40400' +
      '00000000' +
      '0800060090d00300',
  });
  const large = ours(tc.setBucket(1001, { ...BUCKET, rate: 6_250_000_000 }, 'add'));
  t.equal(large.flags, 0x600);
  t.match(large.data, 'ffffffff', 'the 32 bits of the rate are full');
  t.ok(large.data.endsWith('0c000400806e877401000000'), 'TCA_TBF_RATE64');
  t.end();
});

const message = (request: NetlinkRequest): NetlinkMessage => ({
  ...{ type: request.type, flags: 0, seq: 0, port: 0 },
  data: Buffer.from(request.data),
});

t.test('what is set is what is read', (t) => {
  for (const bucket of [
    BUCKET,
    { ...BUCKET, rate: 6_250_000_000 },
    { rate: 1000, burst: 1518, limit: 1568 },
  ]) {
    const read = tc.decodeBucket(message(tc.setBucket(1001, bucket, 'add')));
    t.equal(read?.index, 1001);
    t.ok(tc.sameBucket(read, bucket));
    t.notOk(tc.sameBucket(read, { ...bucket, rate: bucket.rate + 1 }));
    t.notOk(tc.sameBucket(read, { ...bucket, limit: bucket.limit + 1 }));
    t.notOk(tc.sameBucket(read, { ...bucket, burst: Math.round(bucket.burst * 1.01) }));
  }
  t.equal(tc.decodeRedirect(message(tc.redirectIngress(1001, 1003))), 1003);
  t.equal(tc.decodeBucket(message(tc.addIngress(1001))), undefined);
  t.notOk(tc.sameBucket(undefined, BUCKET));
  t.end();
});
