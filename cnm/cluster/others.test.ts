/** What is believed of another host that is silent, and for how long. */
import { getEventListeners } from 'node:events';
import t from 'tap';
import { ip, type Ip } from '../../address/ip.ts';
import type { WatchChange } from '../../store/cluster.ts';
import { memoryStore } from '../../store/memory.ts';
import { until } from '../../tests/plane-double.ts';
import { silent } from '../log.ts';
import { onNetwork } from './keys.ts';
import { Others, type OthersParts } from './others.ts';

const PREFIX = onNetwork('n');
const HOST = `${PREFIX}h2`;

class Bench {
  revision = 1;
  readonly asked: Ip[] = [];
  readonly known = new Set<string>();
  readonly others: Others;

  constructor(parts: Pick<OthersParts, 'isThere'> & Partial<OthersParts>) {
    this.others = new Others({
      ...{
        prefix: PREFIX,
        me: 'h1',
        here: ip('192.0.2.1'),
        onGeneration: () => undefined,
        log: silent,
        records: memoryStore(),
      },
      ...{ saysAll: () => Promise.resolve(false), pace: { ask: 1, askAgain: 1, back: 1 } },
      listener: (news) => {
        if (news.what !== 'changes') return;
        for (const id of news.gone) this.known.delete(id);
        for (const { id } of news.put) this.known.add(id);
      },
      ...parts,
      isThere: (address) => {
        this.asked.push(address);
        return parts.isThere(address);
      },
    });
    this.others.start();
  }

  hear(...changes: readonly WatchChange[]): void {
    this.others.hear({ kind: 'changes', revision: this.revision, changes });
  }

  isHere(at = '192.0.2.2'): void {
    this.revision += 1;
    const place = { name: 'two', at, details: {} };
    this.hear({ put: { key: HOST, value: place, revision: this.revision } });
  }

  /** Its lease has ended. */
  isCutOff(): void {
    this.revision += 1;
    this.hear({ delete: HOST, revision: this.revision });
  }
}

t.test('a host that answers for days costs no memory', async (t) => {
  const signals: AbortSignal[] = [];
  const { AbortController: Original } = globalThis;
  t.teardown(() => {
    globalThis.AbortController = Original;
  });
  globalThis.AbortController = class extends Original {
    constructor() {
      super();
      signals.push(this.signal);
    }
  };
  const bench = new Bench({ isThere: () => Promise.resolve(true) });
  bench.isHere();
  bench.isCutOff();
  await until('it to be asked often', () => bench.asked.length > 50);
  const most = Math.max(...signals.map((signal) => getEventListeners(signal, 'abort').length));
  t.ok(most <= 1, `${most} listeners`);
  bench.others.close(false);
});

t.test('one that is back, and cut off again before it has said everything, is asked again', async (t) => {
  let answers = ip('192.0.2.2');
  let isAwaited = false;
  const pace = {
    ...{ ask: 1, askAgain: 1 },
    /** It is asked for when the host is found to be back. */
    get back() {
      isAwaited = true;
      return 20;
    },
  };
  const bench = new Bench({ isThere: (address) => Promise.resolve(address === answers), pace });
  bench.isHere();
  bench.isCutOff();
  await until('it to be asked', () => bench.asked.length > 1);
  answers = ip('192.0.2.3');
  bench.isHere(answers);
  await until('it to be found back', () => isAwaited);
  bench.isCutOff();
  const asked = () => bench.asked.filter((one) => one === answers).length;
  await until('it to be asked where it is now, or given up', () => asked() > 20 || !bench.known.has('h2'));
  t.ok(bench.known.has('h2'), 'it answers: so it is believed');
  answers = ip('192.0.2.4');
  await until('it to be forgotten', () => !bench.known.has('h2'));
  bench.others.close(false);
});

t.test('a host that was this machine under another id is gone with its lease', async (t) => {
  const here = ip('192.0.2.2');
  const bench = new Bench({ here, isThere: (address) => Promise.resolve(address === here) });
  bench.isHere(here);
  t.ok(bench.known.has('h2'));
  bench.isCutOff();
  await until('it to be forgotten', () => !bench.known.has('h2') || bench.asked.length > 100);
  t.notOk(bench.known.has('h2'), 'it is this host that answers');
  bench.others.close(false);
});
