/** The questions, the answers and what they mean, between stations whose sockets are joined in memory; the network may lose what it likes. */
import t from 'tap';
import { ip, type Ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import { silent } from '../../cnm/log.ts';
import type { NetworkRecord } from '../../cnm/model.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import type { ProbeSocketOptions } from '../../kernel/kernel.ts';
import type { Plan } from '../../kernel/step.ts';
import { presencePlan } from '../../drivers/overlay/plan.ts';
import { changedBelow, type Ground, findings } from '../../drivers/overlay/check/findings.ts';
import { echoRequest, parseIcmp } from '../../drivers/overlay/check/icmp.ts';
import { Station } from './station.ts';
import { type Evidence, Survey } from '../../drivers/overlay/check/survey.ts';
import { type Tunnel, tunnelsOf } from '../../drivers/overlay/check/tunnels.ts';

const A = ip('192.0.2.1');
const B = ip('192.0.2.2');
const SETTINGS = { netnsDir: '/run/cnm/netns' };

/** What is under way: to whom, of which kind, and how long inside the tunnel. */
interface Flight {
  readonly from: Ip;
  readonly to: Ip;
  readonly kind: 'icmp' | 'tunnel' | 'offload';
  readonly length: number;
}

async function record(local: Ip, options: Readonly<Record<string, string>> = {}): Promise<NetworkRecord> {
  const spec = {
    id: 'n'.repeat(64),
    driver: 'cnm-overlay',
    origin: 'cnm' as const,
    options: { vni: '70', peers: `${A},${B}`, 'ip-range': 'any', ...options },
    internal: false,
    enableIpv4: true,
    enableIpv6: false,
    ipv4: [{ addressSpace: 'x', pool: prefix('10.1.0.0/24'), aux: {} }],
    ipv6: [],
  };
  const links = [{ name: 'eth0', addresses: [prefix(`${local}/24`)] }];
  const routes = [{ to: prefix('192.0.2.0/24'), link: 'eth0' }];
  const facts = await fakeKernel({ links, routes }).facts();
  const presence: Plan = presencePlan(spec, facts, SETTINGS);
  return { ...spec, presence, state: 'ready', createdAt: '', plan: [] };
}

/** Two stations and what lies between them. */
class Wire {
  readonly #queues = new Map<string, { bytes: Buffer; from: Ip }[]>();
  passes: (flight: Flight) => boolean = () => true;

  kernel(local: Ip) {
    const send = (to: Ip, flight: Omit<Flight, 'from' | 'to'>, bytes: Buffer): void => {
      if (!this.passes({ ...flight, from: local, to })) return;
      this.#put(`${to} ${flight.kind === 'icmp' ? 'icmp' : 'tunnel'}`, bytes, local);
      if (flight.kind === 'icmp' && bytes[0] === 8)
        this.#put(`${local} icmp`, Buffer.concat([Buffer.of(0), bytes.subarray(1)]), to);
    };
    return {
      probeSocket: ({ kind, netns, deaf }: ProbeSocketOptions) => ({
        drain: (hear: (bytes: Buffer, from: Ip) => void) => {
          const name = `${local} ${netns === undefined ? kind : 'tunnel'}`;
          if (deaf !== true)
            for (const { bytes, from } of this.#queues.get(name)?.splice(0) ?? []) hear(bytes, from);
        },
        send: (bytes: Uint8Array, to: Ip) => {
          const buffer = Buffer.from(bytes);
          if (kind === 'icmp') send(to, { kind, length: 0 }, buffer);
          else send(to, { kind: 'tunnel', length: buffer.length - 22 }, buffer.subarray(8 + 42));
        },
        close: () => undefined,
      }),
      sendUnfinished: (_netns: string, _link: string, frame: Uint8Array) => {
        send(
          local === A ? B : A,
          { kind: 'offload', length: frame.length - 14 },
          Buffer.from(frame.subarray(42)),
        );
      },
    };
  }

  #put(name: string, bytes: Buffer, from: Ip): void {
    const queue = this.#queues.get(name) ?? [];
    queue.push({ bytes, from });
    this.#queues.set(name, queue);
  }
}

interface World {
  readonly evidence: Evidence;
  readonly ground: Ground;
}

async function survey(
  passes: (flight: Flight) => boolean,
  there: Readonly<Record<string, string>> | 'no network' = {},
): Promise<World> {
  const wire = new Wire();
  wire.passes = passes;
  const open = (local: Ip, records: readonly NetworkRecord[]) => {
    const cnm = { networks: () => records, endpoints: () => [], watch: () => () => undefined };
    const station = new Station({ cnm, kernel: wire.kernel(local), log: silent });
    station.start();
    return station;
  };
  const [a, b] = [
    open(A, [await record(A)]),
    open(B, there === 'no network' ? [] : [await record(B, there)]),
  ];
  const [tunnel] = a.tunnels();
  const { here } = tunnel ?? {};
  if (tunnel === undefined || here === undefined) throw new Error('no tunnel');
  // The other station's clock ticks while this one waits. Time passes by turns: a process that had to wait for its own has missed nothing.
  let passed = 0;
  const wait = async () => {
    await new Promise<void>((resolve) => void setTimeout(resolve, 5));
    passed += 5;
  };
  const unstarted = b.listen(() => undefined);
  const pace = { interval: 120, attempts: 3, wait, elapsed: () => passed };
  const evidence = await new Survey(a, tunnel, here, B, 'test').run(pace);
  unstarted();
  a.close();
  b.close();
  return { evidence, ground: { tunnel, here, own: [], forwarding: new Map() } };
}

function codesOf({ evidence, ground }: World): readonly string[] {
  return findings(evidence, ground).map(({ code }) => code);
}

t.test('what is lost on the way has a name', async (t) => {
  const cases: readonly [name: string, passes: (flight: Flight) => boolean, wanted: readonly string[]][] = [
    ['nothing', () => true, []],
    ['ping alone', ({ kind }) => kind !== 'icmp', []],
    ['all', () => false, ['unreachable']],
    ['the tunnel there', ({ kind, to }) => kind === 'icmp' || to !== B, ['blocked-there']],
    ['the tunnel back', ({ kind, to }) => kind === 'icmp' || to !== A, ['blocked-back']],
    ['the tunnel', ({ kind }) => kind === 'icmp', ['blocked-there', 'blocked-back']],
    ['checksums there', ({ kind, to }) => kind !== 'offload' || to !== B, ['checksum-there']],
    ['checksums back', ({ kind, to }) => kind !== 'offload' || to !== A, ['checksum-back']],
    ['large ones there', ({ length, to }) => length <= 1350 || to !== B, ['mtu-there']],
    ['large ones back', ({ length, to }) => length <= 1111 || to !== A, ['mtu-back']],
    ['large ones', ({ length }) => length <= 1391, ['mtu-there', 'mtu-back']],
  ];
  await Promise.all(
    cases.map(async ([name, passes, wanted]) => {
      t.same(codesOf(await survey(passes)), wanted, `lost: ${name}`);
    }),
  );
});

t.test('the longest that passes is found to the byte', async (t) => {
  for (const limit of [577, 1350, 1449]) {
    const { evidence } = await survey(({ length, to }) => length <= limit || to !== B);
    t.equal(evidence.longestThere, limit);
    t.equal(evidence.longestBack, undefined);
  }
});

t.test('what is advised counts all that goes below', async (t) => {
  const { evidence, ground } = await survey(({ length, to }) => length <= 1350 || to !== B);
  const { tunnel, here } = ground;
  const advice = (longestThere: number, over: Ground, mtu?: number) => {
    const side = evidence.side && {
      ...evidence.side,
      encrypted: over.tunnel.encrypted,
      mtu: mtu ?? over.here.mtu,
    };
    const found = findings({ ...evidence, longestThere, ...(side && { side }) }, over);
    return found.map(
      ({ code, todo }) => `${code}: ${todo.replace(/.*-o com\.docker\.network\.driver\./, '')}`,
    );
  };
  const plain = [`mtu-there: mtu=1400, or let the way carry 1500 bytes`];
  t.same(advice(1350, ground), plain);
  t.same(advice(1350, ground, 1400), [...plain, 'mtu-differs: mtu=1450']);
  // A router of 1400: AES-GCM takes 84 of it for 1316 inside; AES-CBC 92 for 1408, which fill 1500.
  const encrypted = { ...ground, tunnel: { ...tunnel, encrypted: true }, here: { ...here, mtu: 1408 } };
  const cipher = ['mtu-there: mtu=1400, or let the way carry 1500 bytes'];
  t.same(advice(1316, encrypted), cipher);
  t.same(advice(1316, encrypted, 1312), [...cipher, 'mtu-differs: mtu=1404']);
  const over6 = { ...encrypted, here: { ...encrypted.here, local: ip('2001:db8::1'), mtu: 1376 } };
  t.same(advice(1296, over6), ['mtu-there: mtu=1400, or let the way carry 1488 bytes']);
});

t.test('settings that differ have a name each', async (t) => {
  const cases: readonly [there: Readonly<Record<string, string>>, wanted: readonly string[]][] = [
    [{ vni: '71' }, ['other-vni']],
    [{ port: '4790' }, ['other-port']],
    [{ peers: `${B},192.0.2.9` }, ['not-listed']],
    [{ 'com.docker.network.driver.mtu': '1400' }, ['mtu-differs']],
  ];
  for (const [there, wanted] of cases) {
    // The kernel there would not hand over what has another VNI, nor what comes to another port.
    const isOther = wanted.some((code) => code.startsWith('other'));
    const found = codesOf(await survey(({ kind }) => kind === 'icmp' || !isOther, there));
    t.same(
      found.filter((code) => !code.startsWith('mtu-there') && !code.startsWith('mtu-back')),
      wanted,
      wanted.join(),
    );
  }
});

t.test('a refusal of this host’s own firewall', async (t) => {
  const { evidence, ground } = await survey(({ kind }) => kind === 'icmp');
  const refused = new Map([[1, 'EPERM']]);
  t.same(codesOf({ evidence: { ...evidence, refused }, ground }), ['refused-here']);
});

t.test('a host with another network alone, one without any, one without cnmd', async (t) => {
  const other = { vni: '99', peers: `${B},192.0.2.9` };
  t.same(codesOf(await survey(({ kind }) => kind === 'icmp', other)), ['unknown-there']);
  t.same(
    codesOf(await survey(({ kind }) => kind === 'icmp', 'no network')),
    ['silent'],
    'nobody there answers',
  );
  const { evidence, ground } = await survey(() => false);
  const pong = { ...evidence, pong: true };
  t.same(codesOf({ evidence: pong, ground }), ['silent']);
  const closed = { kind: 'unreachable', why: 'port', to: B, port: 4789, by: B } as const;
  t.same(codesOf({ evidence: { ...pong, unreachable: [closed] }, ground }), ['port-closed']);
});

t.test('what is the same container on two hosts, and what is sent elsewhere', async (t) => {
  const { evidence, ground } = await survey(() => true);
  const [address, at] = ['10.1.0.9', mac('02:42:0a:01:00:09')];
  const more = { ...evidence, entries: [[address, at]] as const };
  t.same(codesOf({ evidence: more, ground }), []);
  t.same(codesOf({ evidence: more, ground: { ...ground, own: [[address, 'x']] } }), ['address-twice']);
  const forwarding = new Map([[at, ip('192.0.2.7')]]);
  t.same(codesOf({ evidence: more, ground: { ...ground, forwarding } }), ['entry-elsewhere']);
  t.same(codesOf({ evidence: { ...evidence, clockAhead: -30_000 }, ground }), ['clock']);
  t.same(changedBelow(1450, 1450), []);
  t.match(changedBelow(1450, 8950), [{ code: 'mtu-changed' }]);
});

t.test('a stranger learns nothing, and is sent nothing through a tunnel', async (t) => {
  const wire = new Wire();
  const sent: Flight[] = [];
  wire.passes = (flight) => sent.push(flight) > 0;
  const own = await record(B, { peers: `${B},192.0.2.9` });
  const cnm = { networks: () => [own], endpoints: () => [], watch: () => () => undefined };
  const station = new Station({ cnm, kernel: wire.kernel(B), log: silent });
  station.start();
  const asker = wire.kernel(A).probeSocket({ kind: 'icmp', address: A });
  const [tunnel] = tunnelsOf(own) as readonly [Tunnel];
  const text = JSON.stringify({
    ...{
      say: 'ask',
      id: 'x',
      question: 1,
      from: A,
      vni: tunnel.vni,
      port: tunnel.port,
      way: 'icmp',
      size: 1450,
    },
    by: ['icmp', 'tunnel', 'offload'],
  });
  asker.send(echoRequest(4, 1, Buffer.from(`cnm-check/1 ${text}`)), B);
  station.listen(() => undefined)();
  station.close();
  t.same(
    sent.map(({ kind }) => kind),
    ['icmp', 'icmp'],
    'the question, and one answer beside the tunnel',
  );
  const answers: string[] = [];
  asker.drain((bytes) => {
    const heard = parseIcmp(4, bytes);
    if (heard?.kind === 'request') answers.push(heard.data.toString());
  });
  t.match(answers, [/"listed":false,"pools":\[\],"ranges":\[\]/]);
  t.notMatch(answers, [/10\.1\.0/]);
});
