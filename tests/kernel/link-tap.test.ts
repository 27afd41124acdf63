/*
 * What a tap hears and says, against the kernel: a namespace of its own.
 *
 *   near0 ══ far0 10.1.0.2, and on near0 a macvlan link child0 with MAC 02:00:00:00:00:07
 */
import t from 'tap';
import { setTimeout as sleep } from 'node:timers/promises';
import { ip as address } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { openLinkTap } from '../../kernel/link-tap.ts';
import { enterFreshNetns, ip, openDescriptors } from './namespace.ts';

const sys = await enterFreshNetns();
const CHILD = mac('02:00:00:00:00:07');
const PEER = mac('02:00:00:00:00:02');
ip('link add name near0 type veth peer name far0 address 02:00:00:00:00:02');
ip('link add name child0 link near0 address 02:00:00:00:00:07 type macvlan mode bridge');
for (const link of ['near0', 'far0', 'child0']) ip(`link set ${link} up`);

const child = { mac: CHILD, address: address('10.1.0.7'), port: 68 };
const peer = { mac: PEER, address: address('10.1.0.2'), port: 67 };
const payload = Uint8Array.from([1, 2, 3]);

t.test('datagrams for the MAC of a macvlan link, on its parent', async (t) => {
  const descriptors = openDescriptors();
  const near = openLinkTap(sys, 'near0', 68);
  const far = openLinkTap(sys, 'far0', 67);
  const arrived = async (tap: typeof near) => {
    for (const end = Date.now() + 15_000; Date.now() < end;) {
      const one = tap.receive();
      if (one !== undefined) return one;
      await sleep(1);
    }
    return undefined;
  };
  t.ok(near.send({ from: child, to: peer, payload }));
  t.same(await arrived(far), { from: child, to: peer, payload }, 'with the child’s MAC');
  t.equal(near.receive(), undefined, 'what is said is not heard');
  far.send({ from: peer, to: { ...child, port: 69 }, payload });
  far.send({ from: peer, to: child, payload });
  t.same(await arrived(near), { from: peer, to: child, payload }, 'and of another port nothing');
  t.equal(near.receive(), undefined);
  ip('link set near0 down');
  t.notOk(near.send({ from: child, to: peer, payload }), 'a link that is down takes nothing');
  near.receive();
  ip('link set near0 up');
  near.close();
  far.close();
  for (const end = Date.now() + 15_000; openDescriptors() !== descriptors && Date.now() < end;)
    await sleep(5);
  t.equal(openDescriptors(), descriptors);
});

t.test('a link that is not there', (t) => {
  const descriptors = openDescriptors();
  t.throws(() => openLinkTap(sys, 'nothere', 68), /^ioctl: ENODEV/);
  t.equal(openDescriptors(), descriptors);
  t.end();
});
