/** Hosts over a cluster store in memory that share a secret: whatever is sent by a host that is in the cluster, every other one there can read. */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { FakeCluster, type FakeClient } from '../../store/cluster-fake.ts';
import { memoryStore } from '../../store/memory.ts';
import { silent } from '../log.ts';
import { SharedSecret } from './secret.ts';
import { until } from '../../tests/until.ts';

const LIFE = 1_000_000;
const TTL = 10;

/** What its kernel has outlives its daemon, and so does its store. */
class Host {
  readonly id: string;
  readonly #server: FakeCluster;
  readonly #store = memoryStore();
  readonly #clock: { now: number };
  readonly #check: () => void;
  kernel: readonly string[] = [];
  readonly told: string[] = [];
  client: FakeClient;
  secret: SharedSecret;
  cut = false;

  constructor(server: FakeCluster, id: string, clock: { now: number }, check: () => void) {
    this.#server = server;
    this.id = id;
    this.#clock = clock;
    this.#check = check;
    this.client = server.client();
    this.secret = this.#start();
  }

  #start(): SharedSecret {
    const secret: SharedSecret = new SharedSecret({
      cluster: this.client,
      store: this.#store,
      host: { id: this.id, name: `name-${this.id}`, boot: 'one' },
      life: LIFE,
      log: { ...silent, error: (facts: object) => this.told.push(JSON.stringify(facts)) },
      now: () => this.#clock.now,
      pace: { ttl: TTL, retry: 1, patience: 5000 },
      onChange: async () => {
        await setImmediate();
        this.kernel = secret.secrets;
        this.#check();
      },
    });
    secret.start();
    return secret;
  }

  /** kill -9: what was under way is cut off. */
  async restart(): Promise<void> {
    this.cut = false;
    await this.client.close();
    await this.secret.close();
    this.client = this.#server.client();
    this.secret = this.#start();
  }

  sever(): void {
    if (this.cut) this.client.heal();
    else this.client.cut();
    this.cut = !this.cut;
  }
}

/** Hosts, and what is wrong between any two of them that count as there. */
function world(count: number) {
  const server = new FakeCluster();
  const clock = { now: 1_000_000_000 };
  const wrong: string[] = [];
  const hosts: Host[] = [];
  const check = () => {
    const there = hosts.filter(({ id }) => server.entry(`secret/has/${id}`) !== undefined);
    for (const one of there)
      for (const other of there)
        if (!other.kernel.includes(one.kernel[0] ?? '')) wrong.push(`${other.id} cannot read ${one.id}`);
  };
  for (let number = 1; number <= count; number += 1) hosts.push(new Host(server, `h${number}`, clock, check));
  const close = async () => {
    for (const host of hosts) await host.secret.close();
    for (const host of hosts) await host.client.close();
  };
  return { server, clock, wrong, hosts, check, close };
}

/** All have the same, and nothing else. */
async function agree(hosts: readonly Host[], not: readonly string[] = []): Promise<string> {
  const first = hosts[0];
  await until('one secret', () => {
    const one = first?.kernel[0];
    return (
      one !== undefined &&
      !not.includes(one) &&
      hosts.every(({ kernel }) => kernel.length === 1 && kernel[0] === one)
    );
  });
  return first?.kernel[0] ?? '';
}

t.test('one is made for all, and replaced for all, by whichever host is asked', async (t) => {
  const { server, hosts, wrong, close } = world(3);
  const first = await agree(hosts);
  t.match(first, /^[0-9a-f]{64}$/);
  await hosts[1]?.secret.rotate();
  t.not(hosts[1]?.kernel[0], first, 'who was asked sends with it by now');
  const second = await agree(hosts, [first]);
  t.same(
    server.entries('secret/has/').map(({ value }) => value),
    [
      { has: 2, sends: 2 },
      { has: 2, sends: 2 },
      { has: 2, sends: 2 },
    ],
  );
  await hosts[2]?.secret.rotate();
  await agree(hosts, [first, second]);
  t.same(wrong, []);
  await close();
});

t.test(
  'who does not answer holds it up until he counts as gone, and then has it when he is back',
  async (t) => {
    const { server, hosts, wrong, close } = world(3);
    const [one, two, three] = hosts;
    if (one === undefined || two === undefined || three === undefined) return;
    const first = await agree(hosts);
    await until('all to say so', () => server.entries('secret/has/').length === 3);
    three.sever();
    const rotation = one.secret.rotate();
    const having = () =>
      server.entries('secret/has/').filter(({ value }) => JSON.stringify(value).includes('"has":2'));
    await until('two hosts to have it', () => having().length === 2);
    t.equal(one.kernel[0], first, 'it is not sent with');
    const told = { why: '' };
    const again = () =>
      two.secret.rotate().catch((error: unknown) => {
        told.why = String(error);
      });
    await until('the others to be heard of', () => {
      void again();
      return /being replaced already; it waits for name-h3$/.test(told.why);
    });
    server.advance(TTL * 1000 + 1);
    await rotation;
    await agree([one, two], [first]);
    t.same(three.kernel, [first], 'who is cut off stays as he is');
    await t.rejects(three.secret.rotate(), { code: 'cluster-unreachable' });
    three.sever();
    await agree(hosts, [first]);
    t.same(wrong, []);
    await close();
  },
);

t.test('an old one is replaced by itself; a cluster that has lost it is given it back', async (t) => {
  const { server, clock, hosts, wrong, close } = world(2);
  const first = await agree(hosts);
  await until('all to say so', () => server.entries('secret/has/').length === 2);
  clock.now += LIFE + 1;
  const second = await agree(hosts, [first]);
  server.transact([], [{ delete: 'secret/now' }]);
  await until('it to be there again', () =>
    JSON.stringify(server.entry('secret/now')?.value ?? '').includes(second),
  );
  for (const host of hosts) host.sever();
  await hosts[0]?.restart();
  t.same(hosts[0]?.secret.secrets, [second], 'a daemon that begins without the cluster knows it');
  t.same(wrong, []);
  await close();
});

t.test('what a host says of itself, taken out of the cluster by hand, is there again', async (t) => {
  const { server, hosts, close } = world(2);
  await agree(hosts);
  const said = () => ['secret/host/', 'secret/has/'].flatMap((prefix) => server.entries(prefix));
  await until('all to say so', () => said().length === 4);
  const before = said();
  server.transact(
    [],
    before.map(({ key }) => ({ delete: key })),
  );
  await until('all to be there again', () => said().length === 4);
  const plain = (entries: typeof before) => entries.map(({ key, value, lease }) => ({ key, value, lease }));
  t.same(plain(said()), plain(before));
  await close();
});

t.test('a rotation that does not reach the cluster is said to have done nothing', async (t) => {
  const { server, hosts, close } = world(2);
  await agree(hosts);
  await until('all to say so', () => server.entries('secret/has/').length === 2);
  const [one] = hosts;
  if (one === undefined) return;
  one.client.fate = (what) => (what === 'change' ? 'lost' : 'answered');
  const before = server.entry('secret/now');
  await t.rejects(one.secret.rotate(), {
    code: 'cluster-unreachable',
    message: /cannot be replaced now: .*does not answer/,
  });
  t.same(server.entry('secret/now'), before);
  await close();
});

t.test('one that nobody here can read is left alone, and said to be in the way', async (t) => {
  const { server, hosts, close } = world(2);
  const first = await agree(hosts);
  const [one] = hosts;
  server.transact([], [{ put: 'secret/now', value: { later: 'version' } }]);
  const advice = /secret\/now in .* is not as this cnmd writes it: delete it, and the hosts put back/;
  await until('it to be heard of', async () => {
    const refusal: unknown = await one?.secret.rotate().catch((error: unknown) => error);
    return advice.test(String(refusal));
  });
  await until('it to be told', () => one?.told.some((line) => advice.test(line)) ?? false);
  t.same(server.entry('secret/now')?.value, { later: 'version' });
  t.same(one?.kernel, [first], 'keys stay as they are');
  server.transact([], [{ delete: 'secret/now' }]);
  await until('it to be there again', () =>
    JSON.stringify(server.entry('secret/now')?.value ?? '').includes(first),
  );
  await close();
});

t.test('whatever happens, what is sent can be read', async (t) => {
  const deed = fc.record({ host: fc.nat(2), does: fc.constantFrom('rotate', 'kill', 'cut', 'time', 'age') });
  await fc.assert(
    fc.asyncProperty(fc.array(deed, { maxLength: 15 }), async (deeds) => {
      const { server, clock, hosts, wrong, check, close } = world(3);
      await agree(hosts);
      for (const { host: number, does } of deeds) {
        const host = hosts[number];
        if (does === 'rotate') void host?.secret.rotate().catch(() => undefined);
        else if (does === 'kill') await host?.restart();
        else if (does === 'cut') host?.sever();
        else if (does === 'time') server.advance(TTL * 600);
        else clock.now += LIFE / 2;
        for (let turn = 0; turn < 10; turn += 1) await setImmediate();
        check();
      }
      for (const host of hosts) if (host.cut) host.sever();
      server.advance(TTL * 1000 + 1);
      await agree(hosts);
      await close();
      return wrong.length === 0;
    }),
    { numRuns: 30 },
  );
  t.pass();
});
