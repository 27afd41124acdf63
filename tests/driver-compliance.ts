/**
 * What every driver must keep, whatever it builds: run by each driver's own tests on the fake kernel, through the real
 * life cycle of cnm/. A driver that passes needs no code for rollback, delete, restart or repair.
 */
import type { Test } from 'tap';
import type { Cnm } from '../cnm/cnm.ts';
import type { Driver } from '../cnm/driver.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import type { EndpointSpec, NetworkSpec } from '../cnm/model.ts';
import { wholeNetwork } from '../cnm/plans.ts';
import { isUnicast, macBytes } from '../address/mac.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';

export interface ComplianceFixture {
  /** A valid network, and `other`, one that can live beside it. */
  readonly network: NetworkSpec;
  readonly other: NetworkSpec;
  /** Two valid endpoints of `network`. */
  readonly endpoints: readonly [EndpointSpec, EndpointSpec];
  /** Specs that the driver must refuse, with a word that its message must contain. */
  readonly refused: readonly { readonly spec: NetworkSpec; readonly names: string }[];
  /** A host on which the driver can work, for example with the parent link that it needs. */
  readonly kernel?: () => FakeKernel;
}

/** As createCnm has it from its run directory. */
const HOST = { netnsDir: '/run/cnm/netns' };

interface Bench {
  readonly kernel: FakeKernel;
  readonly store: Store;
  cnm: Cnm;
  /** What a crash leaves: a new Cnm on the same kernel and store. */
  restart(): void;
}

export function driverCompliance(t: Test, driver: Driver, fixture: ComplianceFixture): void {
  const bench = (): Bench => {
    const kernel = (fixture.kernel ?? fakeKernel)();
    const store = memoryStore();
    const make = () => createCnm({ kernel, store, drivers: [driver], log: silent, runDir: '/run/cnm' });
    const built: Bench = { kernel, store, cnm: make(), restart: () => (built.cnm = make()) };
    return built;
  };
  const { network, other, endpoints } = fixture;
  const [first, second] = endpoints;

  t.test('create and delete leave nothing, and again is success', async (t) => {
    const { kernel, store, cnm } = bench();
    const before = kernel.snapshot();
    for (let round = 0; round < 2; round += 1) await cnm.createNetwork(network);
    const created = kernel.snapshot();
    await cnm.createNetwork(network);
    t.same(kernel.snapshot(), created, 'the same request again changes nothing');
    for (let round = 0; round < 2; round += 1) await cnm.createEndpoint(first);
    await cnm.createEndpoint(second);
    await cnm.deleteEndpoint(network.id, first.id);
    await cnm.deleteEndpoint(network.id, first.id);
    await cnm.deleteEndpoint(network.id, second.id);
    t.same(kernel.snapshot(), created, 'endpoints are gone without a trace');
    await cnm.deleteNetwork(network.id);
    await cnm.deleteNetwork(network.id);
    t.same(withoutKept(kernel.snapshot()), withoutKept(before), 'the network is gone without a trace');
    t.same(store.list(''), [], 'no record is left');
  });

  t.test('plans are pure: the same arguments give the same plan, and nothing is touched', async (t) => {
    const { kernel } = bench();
    const facts = await kernel.facts();
    const before = kernel.snapshot();
    t.same(driver.network(network, facts, []), driver.network(network, facts, []));
    const presence = driver.presence?.(network, facts, HOST);
    t.same(driver.presence?.(network, facts, HOST), presence);
    const mac = driver.mac(network, first);
    t.equal(driver.mac(network, first), mac);
    const present = { ...network, ...(presence !== undefined && { presence }) };
    t.same(driver.endpoint(present, { ...first, mac }), driver.endpoint(present, { ...first, mac }));
    t.same(JSON.parse(JSON.stringify([presence])), [presence ?? null], 'plans survive JSON');
    t.same(
      JSON.parse(JSON.stringify(driver.network(network, facts, []))),
      driver.network(network, facts, []),
      'plans survive JSON',
    );
    t.same(kernel.snapshot(), before);
  });

  t.test('the MAC of an endpoint is unicast and locally administered, and differs between endpoints', (t) => {
    const macs = endpoints.map((endpoint) => driver.mac(network, endpoint));
    for (const mac of macs) {
      t.ok(isUnicast(mac));
      t.ok((macBytes(mac)[0] ?? 0) & 0x02, 'locally administered');
    }
    t.not(macs[0], macs[1]);
    t.end();
  });

  t.test('join names a link that exists, of at most 15 bytes', async (t) => {
    const { kernel, cnm } = bench();
    await cnm.createNetwork(network);
    await cnm.createEndpoint(first);
    const info = await cnm.join(network.id, first.id, '/var/run/docker/netns/abc');
    t.ok((await kernel.facts()).host.links.has(info.srcName));
    t.ok(Buffer.byteLength(info.srcName) <= 15);
    t.match(info.dstPrefix, /^[a-z]/);
    t.same(
      await cnm.join(network.id, first.id, '/var/run/docker/netns/abc'),
      info,
      'again is the same answer',
    );
    await t.rejects(cnm.join(network.id, first.id, '/other'), { code: 'endpoint-busy' });
    await cnm.leave(network.id, first.id);
    await cnm.leave(network.id, first.id);
  });

  t.test('SrcName is unique over 10,000 endpoint ids that begin alike (P24)', (t) => {
    const ids = Array.from({ length: 10_000 }, (_, n) => `deadbeef${n.toString(16).padStart(56, '0')}`);
    const names = new Set(ids.map((id) => driver.join(network, { ...first, id }).srcName));
    t.equal(names.size, ids.length);
    t.end();
  });

  t.test('a bad network is refused by name, and changes nothing', async (t) => {
    for (const { spec, names } of fixture.refused) {
      const { kernel, store, cnm } = bench();
      const before = kernel.snapshot();
      await t.rejects(cnm.createNetwork(spec), { name: 'CnmError', message: new RegExp(escape(names)) });
      t.same(kernel.snapshot(), before);
      t.same(store.list(''), []);
    }
  });

  t.test('two networks live side by side; the end of one does not touch the other', async (t) => {
    const { kernel, cnm } = bench();
    await cnm.createNetwork(other);
    const alone = kernel.snapshot();
    await cnm.createNetwork(network);
    await cnm.createEndpoint(first);
    await cnm.deleteNetwork(network.id);
    t.same(withoutKept(kernel.snapshot()), withoutKept(alone));
  });

  t.test('a failure at any step leaves nothing behind', async (t) => {
    const steps = await countSteps(bench(), network, first);
    for (let failing = 0; failing < steps; failing += 1) {
      const { kernel, store, cnm } = bench();
      const before = kernel.snapshot();
      let step = 0;
      kernel.failAt((_step, phase) => phase === 'apply' && step++ === failing, 'ENOMEM');
      await t.rejects(
        cnm.createNetwork(network).then(() => cnm.createEndpoint(first)),
        { message: /ENOMEM/ },
      );
      await cnm.deleteNetwork(network.id);
      t.same(withoutKept(kernel.snapshot()), withoutKept(before), `failed at step ${failing}`);
      t.same(store.list(''), []);
    }
  });

  t.test('a restart finds nothing to do; what was deleted by hand is put back', async (t) => {
    const b = bench();
    await b.cnm.createNetwork(network);
    await b.cnm.createEndpoint(first);
    const whole = b.kernel.snapshot();
    b.restart();
    const quiet = await b.cnm.reconcile();
    t.same(quiet, { undone: [], finished: [], repaired: [], removed: [], failed: [] });
    t.same(b.kernel.snapshot(), whole);
    for (const step of b.cnm.networks().flatMap(wholeNetwork))
      if (step.do === 'link.add') b.kernel.destroyLink(step.name, step.netns);
    const report = await b.cnm.reconcile();
    t.same(report.failed, []);
    t.same(
      await b.cnm.drift(),
      { differences: [], orphans: [], rulesetCurrent: true },
      'repaired in one pass',
    );
    await b.cnm.deleteNetwork(network.id);
  });

  t.test('what bears our mark and has no record is removed; strangers stay', async (t) => {
    const b = bench();
    const before = b.kernel.snapshot();
    await b.cnm.createNetwork(network);
    await b.cnm.createEndpoint(first);
    const records = b.store.list('').map(([key]) => ({ delete: key }));
    await b.store.write(records);
    b.restart();
    await b.cnm.reconcile({ removeOrphans: false });
    t.not((await b.cnm.drift()).orphans.length, 0, 'orphans are seen, and left when told so');
    await b.cnm.reconcile();
    t.same(withoutKept(b.kernel.snapshot()), withoutKept(before));
  });
}

/** Sysctls that a network switches on and leaves on (`keep`) are the one thing that may differ afterwards. */
function withoutKept(snapshot: unknown): unknown {
  return JSON.parse(
    JSON.stringify(snapshot, (key, value: unknown) => (key === 'sysctls' ? undefined : value)),
  );
}

async function countSteps(bench: Bench, network: NetworkSpec, endpoint: EndpointSpec): Promise<number> {
  await bench.cnm.createNetwork(network);
  await bench.cnm.createEndpoint(endpoint);
  const plans = [...bench.cnm.networks().map(wholeNetwork), bench.cnm.endpoints()[0]?.plan ?? []];
  return plans.flat().length;
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
