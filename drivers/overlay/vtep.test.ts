import fc from 'fast-check';
import t from 'tap';
import { encodeVxlan } from './vxlan.ts';
import { DROPS, Vtep, VtepPort } from './vtep.ts';

const [h2, h3, other] = [{ name: 'h2' }, { name: 'h3' }, { name: 'other' }];
type Peer = { name: string };

function frame(to: string, from: string): Buffer {
  return Buffer.concat([Buffer.from((to + from).replaceAll(':', ''), 'hex'), Buffer.alloc(60, 1)]);
}
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const A = '02:42:0a:01:00:02';
const B = '02:42:0a:01:00:03';

function datagram(vni: number, inner: Buffer): Uint8Array {
  const buffer = Buffer.concat([Buffer.alloc(8), inner]);
  return encodeVxlan(buffer, 8, buffer.length, vni);
}

function port(vni = 7): { readonly port: VtepPort<Peer>; readonly vtep: Vtep<Peer> } {
  const vtep = new Vtep<Peer>(vni, [h2, h3]);
  const all = new VtepPort<Peer>();
  all.add(vtep);
  return { port: all, vtep };
}

t.test('what is not known goes to all, what was seen goes there, groups always to all', (t) => {
  const { port: all, vtep } = port();
  t.same(vtep.destinations(frame(B, A), 0), [h2, h3]);
  t.equal(all.receive(datagram(7, frame(A, B)), h3, 1000), 7);
  t.same(vtep.destinations(frame(B, A), 2000), [h3]);
  t.same(vtep.destinations(frame(BROADCAST, A), 2000), [h2, h3]);
  t.same(vtep.destinations(frame('33:33:00:00:00:01', A), 2000), [h2, h3]);
  t.end();
});

t.test('who has moved is where it was seen last; who is silent for long is forgotten', (t) => {
  const { port: all, vtep } = port();
  all.receive(datagram(7, frame(BROADCAST, B)), h3, 0);
  all.receive(datagram(7, frame(BROADCAST, B)), h2, 10);
  t.same(vtep.destinations(frame(B, A), 300_010), [h2]);
  t.same(vtep.destinations(frame(B, A), 300_011), [h2, h3]);
  t.equal(vtep.known, 0);
  t.end();
});

t.test('what is dropped, and why; nothing is learned from it', (t) => {
  const { port: all, vtep } = port();
  const whole = datagram(7, frame(A, B));
  const cases = [
    ['short', Buffer.alloc(7), h2],
    ['no-vni', Buffer.alloc(100), h2],
    ['runt', whole.subarray(0, 21), h2],
    ['unknown-vni', datagram(8, frame(A, B)), h2],
    ['stranger', whole, other],
    ['stranger', whole, undefined],
    ['bad-source', datagram(7, frame(A, BROADCAST)), h2],
    ['bad-source', datagram(7, frame(A, '03:00:00:00:00:01')), h2],
  ] as const;
  for (const [reason, bytes, from] of cases) t.equal(all.receive(bytes, from, 0), reason);
  t.equal(vtep.known, 0);
  t.same(new Set(cases.map(([reason]) => reason)), new Set(DROPS));
  all.remove(7);
  t.ok(all.isEmpty);
  t.equal(all.receive(whole, h2, 0), 'unknown-vni');
  t.end();
});

t.test('two VNIs of one port know nothing of each other', (t) => {
  const { port: all, vtep } = port(7);
  const second = new Vtep<Peer>(8, [h2]);
  all.add(second);
  t.equal(all.receive(datagram(8, frame(A, B)), h2, 0), 8);
  t.equal(vtep.known, 0);
  t.equal(second.known, 1);
  t.equal(all.receive(datagram(8, frame(A, B)), h3, 0), 'stranger', 'a host of the one is none of the other');
  t.end();
});

t.test('made-up addresses fill the table no further than its limit', (t) => {
  const { port: all, vtep } = port();
  for (let n = 0; n < 70_000; n += 1) {
    const from = n.toString(16).padStart(8, '0').replace(/../g, ':$&');
    all.receive(datagram(7, frame(A, `02:00${from}`)), h2, n);
  }
  t.equal(vtep.known, 65_536);
  t.same(vtep.destinations(frame('02:00:00:01:11:6f', A), 70_000), [h2], 'the newest is known');
  t.same(vtep.destinations(frame('02:00:00:00:00:00', A), 70_000), [h2, h3], 'the oldest is not');
  t.end();
});

t.test('any bytes from anybody: a VNI of ours or a reason', (t) => {
  const { port: all } = port();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(h2, other, undefined), (bytes, from) => {
      const answer = all.receive(bytes, from, 0);
      return answer === 7 ? from === h2 : DROPS.includes(answer as (typeof DROPS)[number]);
    }),
    { numRuns: 3000 },
  );
  t.end();
});
