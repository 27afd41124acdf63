/** The keys of two hosts fit, whatever they do; and what an encrypted network is made of. */
import fc from 'fast-check';
import t from 'tap';
import { ip } from '../../address/ip.ts';
import { prefix } from '../../address/prefix.ts';
import { type Encryption, type HostSettings, stateName } from '../../cnm/driver.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { type FakeKernelOptions, fakeKernel } from '../../kernel/fake.ts';
import type { Plan, XfrmStateAdd } from '../../kernel/step.ts';
import { encryptionSteps } from './encryption.ts';
import { overlay } from './index.ts';
import { outside } from './underlay.ts';

const A = ip('192.0.2.1');
const B = ip('192.0.2.2');
const KEYS: Encryption = { secrets: ['s'.repeat(32)], period: 40_000, sending: 40_000, lasts: 1000 };

function states(plan: Plan): readonly XfrmStateAdd[] {
  return plan.filter((step): step is XfrmStateAdd => step.do === 'xfrm.state.add');
}

function of(local: typeof A, remote: typeof A, keys: Encryption, network = { vni: 70, port: 4789 }) {
  const all = states(encryptionSteps({ ...network, local, remotes: [remote] }, keys));
  const text = (direction: readonly XfrmStateAdd[]) =>
    direction.map(({ spi, key, dst }) => `${dst} ${spi} ${key}`);
  return {
    sent: text(all.filter(({ src }) => src === local)),
    received: text(all.filter(({ dst }) => dst === local)),
  };
}

t.test('what one sends the other receives, and nobody else', (t) => {
  const [a, b] = [of(A, B, KEYS), of(B, A, KEYS)];
  t.equal(a.sent.length, 1);
  t.ok(b.received.includes(a.sent[0] ?? ''));
  t.ok(a.received.includes(b.sent[0] ?? ''));
  const others = [
    of(B, A, { ...KEYS, secrets: ['t'.repeat(32)] }),
    of(B, A, KEYS, { vni: 71, port: 4789 }),
    of(B, A, KEYS, { vni: 70, port: 4790 }),
    of(B, ip('192.0.2.3'), KEYS),
  ];
  for (const other of others) t.notOk(other.received.includes(a.sent[0] ?? ''));
  const spis = [...a.sent, ...a.received].map((text) => text.split(' ')[1]);
  t.equal(new Set(spis).size, spis.length, 'every state has an SPI of its own');
  t.end();
});

t.test('whatever the order in which hosts rotate, what is sent is received', (t) => {
  const phases = [['1'], ['1', '2'], ['2', '1'], ['2']];
  const secretsOf = (phase: number) => (phases[phase] ?? []).map((digit) => digit.repeat(32));
  const step = fc.record({
    host: fc.constantFrom(0 as const, 1 as const),
    does: fc.constantFrom('rotate', 'file', 'clock'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const hosts: [
        { phase: number; period: number; sending: number },
        { phase: number; period: number; sending: number },
      ] = [
        { phase: 0, period: 0, sending: 0 },
        { phase: 0, period: 0, sending: 0 },
      ];
      for (const { host, does } of steps) {
        const [own, other] = [hosts[host], hosts[1 - host] ?? hosts[0]];
        // As OverlayKeys lets it; clocks are apart by less than a period; a file's next form comes when all hosts have the one before.
        if (does === 'rotate' && own.sending <= own.period) own.sending = own.period + 1;
        if (does === 'clock' && own.period <= other.period) own.period += 1;
        if (does === 'file' && own.phase <= other.phase && own.phase < phases.length - 1) own.phase += 1;
        const [a, b] = hosts.map(({ phase, period, sending }, index) =>
          of(index === 0 ? A : B, index === 0 ? B : A, {
            secrets: secretsOf(phase),
            period,
            sending: Math.max(period, sending),
            lasts: 1000,
          }),
        );
        if (a === undefined || b === undefined) return false;
        if (!a.sent.every((one) => b.received.includes(one))) return false;
        if (!b.sent.every((one) => a.received.includes(one))) return false;
      }
      return true;
    }),
  );
  t.end();
});

t.test('what was sent with is not sent with again, and whatever is sent is received', (t) => {
  const spent = new Set<string>();
  const receivedBy = (ahead: number) => of(B, A, { ...KEYS, period: KEYS.period + ahead }).received;
  const ciphers = Array.from({ length: 4 }, () => {
    const all = states(encryptionSteps({ vni: 70, port: 4789, local: A, remotes: [B] }, { ...KEYS, spent }));
    const [sent] = all.filter(({ src }) => src === A);
    if (sent === undefined) return undefined;
    const text = `${B} ${sent.spi} ${sent.key}`;
    for (const ahead of [-1, 0, 1]) t.ok(receivedBy(ahead).includes(text), 'also by whose clock is off');
    if (sent.once) spent.add(stateName(sent));
    return sent.cipher;
  });
  t.same(
    ciphers,
    ['gcm', 'gcm', 'cbc', 'cbc'],
    'of this period, of the next one, and then what may be used again',
  );
  t.equal(spent.size, 2);
  t.end();
});

const UPLINK: FakeKernelOptions = {
  links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24'), prefix('2001:db8::1/64')] }],
};
const HOST: HostSettings = { netnsDir: '/run/cnm/netns', encryption: KEYS };

function spec(options: Readonly<Record<string, string>> = {}): NetworkSpec {
  return {
    id: '0123456789abcdef'.repeat(4),
    driver: 'cnm-overlay',
    origin: 'docker',
    options: { vni: '70', peers: `${A},${B}`, 'ip-range': 'any', encrypted: '', ...options },
    internal: false,
    enableIpv4: true,
    enableIpv6: false,
    ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), aux: {} }],
    ipv6: [],
  };
}

async function plan(network: NetworkSpec, kernel: FakeKernelOptions = UPLINK, host = HOST): Promise<Plan> {
  return overlay.presence?.(network, await fakeKernel(kernel).facts(), host) ?? [];
}

t.test('the guard is first, the policy before any link, and no key is ever shown', async (t) => {
  const steps = await plan(spec());
  const kinds = steps.map((step) => step.do);
  t.equal(kinds[0], 'encrypted.guard');
  t.ok(kinds.lastIndexOf('xfrm.state.add') < kinds.indexOf('xfrm.policy.add'));
  t.ok(kinds.lastIndexOf('xfrm.policy.add') < kinds.indexOf('link.add'));
  const sent = states(steps).findIndex(({ src }) => src === A);
  t.equal(sent, states(steps).length - 1, 'to receive with before to send with');
  const words = steps.map(describe).join('\n');
  for (const { key } of states(steps)) t.notMatch(words, key);
  t.match(words, "flag esn replay-window 4096 aead 'rfc4106(gcm(aes))' KEY 128");
  t.match(words, "auth-trunc 'hmac(sha256)' KEY 128 enc 'cbc(aes)' KEY");
  t.match(words, 'nft add element inet cnm_encrypted networks { 4789 . 70 : 0x63000046 }');
  t.same(await plan(spec({ encrypted: 'true' })), steps, 'with no value, as with Docker, or in a word');
  const clear = await plan(spec({ encrypted: 'false' }));
  t.same(
    clear.map((step) => step.do),
    kinds.filter((kind) => !/^(?:xfrm|encrypted)/.test(kind)),
  );
  await t.rejects(plan(spec({ encrypted: 'aes' })), {
    code: 'option-invalid',
    message: 'encrypted cannot be "aes": it must be true or false',
  });
});

t.test('every tunnel of a network, to every peer', async (t) => {
  const two: NetworkSpec = {
    ...spec({ vni: '70,71', peers: `${A},${B},192.0.2.3` }),
    ipv4: ['10.1.0.0/24', '10.2.0.0/24'].map((pool) => ({ addressSpace: '', pool: prefix(pool), aux: {} })),
  };
  const steps = await plan(two);
  t.equal(steps.filter((step) => step.do === 'encrypted.guard').length, 2);
  t.equal(steps.filter((step) => step.do === 'xfrm.policy.add').length, 4);
  t.equal(states(steps).length, 4 * 9);
});

t.test(
  'a node that joins the swarm gets keys, one that leaves loses them, and nobody else does',
  async (t) => {
    const [third, fourth] = [ip('192.0.2.3'), ip('192.0.2.4')];
    const swarm = spec({ peers: 'swarm', advertise: A });
    const presence = await plan(swarm, UPLINK, { ...HOST, nodes: [A, B, third] });
    const follow = (nodes: readonly (typeof A)[]) =>
      overlay.follow?.({ ...swarm, presence }, { ...HOST, nodes }) ?? [];
    t.same(follow([A, B, third]), presence, 'the same nodes, the same plan');
    const next = follow([A, B, fourth]);
    const peersOf = (of: Plan) => new Set(states(of).flatMap(({ src, dst }) => [src, dst]));
    t.same([...peersOf(next)].sort(), [A, B, fourth]);
    t.equal(states(next).length, 18);
    const before = states(presence).map((step) => JSON.stringify(step));
    const kept = states(next).filter((step) => before.includes(JSON.stringify(step)));
    t.equal(kept.length, 9, 'those of the node that stays');
    const { encryption: without, ...none } = { ...HOST, nodes: [A, B] };
    t.ok(without);
    const blind = overlay.follow?.({ ...swarm, presence }, none) ?? [];
    t.same(states(blind), states(presence), 'without a secret they stay as they are');
  },
);

t.test('in a cluster: keys for the hosts that its records tell of, and for no others', async (t) => {
  const [third, six] = [ip('192.0.2.3'), ip('2001:db8::2')];
  const agreed: NetworkSpec = {
    ...spec({ advertise: A }),
    options: { encrypted: '', advertise: A },
    agreement: { plane: 'cluster', id: 'a1', name: 'x', numbers: [70], shared: [prefix('10.1.0.0/24')] },
  };
  const presence = await plan(agreed);
  t.same(
    presence.filter(({ do: kind }) => /^(?:xfrm|encrypted)/.test(kind)).map((step) => step.do),
    ['encrypted.guard'],
    'nobody is known yet, and nothing goes out',
  );
  const follow = (from: Plan, remotes: readonly (typeof A)[]) =>
    overlay.follow?.({ ...agreed, presence: from }, { ...HOST, remotes }) ?? [];
  const two = follow(presence, [B, third, A, six]);
  t.equal(states(two).length, 18, 'not for itself, nor for whom it has no way to');
  const one = follow(two, [B]);
  t.same(follow(presence, [B]), one);
  t.equal(states(one).length, 9);
  t.same(follow(one, []), presence);
  const rest = (of: Plan) => of.filter(({ do: kind }) => !kind.startsWith('xfrm'));
  t.same(rest(two), rest(presence), 'all else stays');
  t.match(overlay.sharing?.terms(agreed)?.equal, { encrypted: 'yes' });
  t.notOk(overlay.sharing?.terms({ ...agreed, options: {} })?.equal['encrypted']);
});

t.test('the MTU: what ESP takes with its padding', async (t) => {
  const mtuOf = async (options: Readonly<Record<string, string>>) => {
    const link = (await plan(spec(options))).find((step) => step.do === 'link.add');
    return link?.mtu;
  };
  t.equal(await mtuOf({}), 1408);
  t.equal(await mtuOf({ 'com.docker.network.driver.mtu': '9000' }), 8896);
  t.equal(await mtuOf({ 'com.docker.network.driver.mtu': '1515' }), 1408);
  t.equal(await mtuOf({ 'com.docker.network.driver.mtu': '1516' }), 1424);
  t.equal(await mtuOf({ peers: '2001:db8::1,2001:db8::2' }), 1376);
});

t.test('what is below has room for what is inside, and one byte less has not', async (t) => {
  for (const [family, hosts] of [
    [4, `${A},${B}`],
    [6, '2001:db8::1,2001:db8::2'],
  ] as const) {
    const inside = async (below: number) => {
      const options = { peers: hosts, 'com.docker.network.driver.mtu': String(below) };
      return (await plan(spec(options))).find((step) => step.do === 'link.add')?.mtu ?? 0;
    };
    for (const length of [1280, 1408, 8896]) {
      const below = outside(length, family, 'cbc');
      t.ok((await inside(below)) >= length, `${length} in ${below}`);
      t.ok((await inside(below - 1)) < length);
      const gcm = outside(length, family, 'gcm');
      t.ok(gcm < below && outside(length, family) < gcm, 'AES-GCM takes less, and none nothing');
      t.ok((await inside(gcm)) <= length, 'what is advised for what has passed is no more than that');
    }
  }
});

t.test('without a secret, or a kernel that can, there is no such network', async (t) => {
  const none: HostSettings = { netnsDir: HOST.netnsDir };
  await t.rejects(plan(spec(), UPLINK, none), {
    code: 'option-invalid',
    message: /needs a secret .*--overlay-keys FILE/,
  });
  const noEsp = 'ENOSYS; this kernel has no ESP with AES-GCM';
  await t.rejects(plan(spec(), { ...UPLINK, noEsp }), {
    code: 'option-invalid',
    message: /cannot be had on this host \(ENOSYS; this kernel has no ESP.*nothing is sent in the clear/,
  });
  const clear = { vni: '70', peers: `${A},${B}`, 'ip-range': 'any' };
  t.ok(
    (await plan({ ...spec(), options: clear }, { ...UPLINK, noEsp }, none)).length > 0,
    'one in the clear there is',
  );
});
