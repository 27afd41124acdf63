/**
 * I23: killed with SIGKILL before and after each store write: what was answered stands, what was not answered is either there
 * once or not at all, and nothing that was released is held. The process that dies is this file itself, started again.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ip } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { addressOf, prefix } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { openStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { createIpam } from './index.ts';
import type { Ipam } from './ipam.ts';

const POOL = prefix('10.0.0.0/30');
const ID = 'cnm-local/10.0.0.0/30';
/** Said before an operation, and after it with its answer: what is begun and not answered may be either way. */
type Line = readonly ['begin' | 'done', operation: string, ...words: string[]];

/** An address rests, comes back to its name, and is taken from a full pool. */
const LIFE: readonly (readonly ['+' | '-', name: string])[] = [
  ['+', 'a'],
  ['+', 'b'],
  ['-', 'a'],
  ['+', 'a'],
  ['-', 'b'],
  ['+', 'c'],
];

if (process.argv[2] === 'live') await live(process.argv[3] ?? '', Number(process.argv[4]), process.argv[5]);
else test();

async function live(directory: string, fatal: number, when: string | undefined): Promise<void> {
  const store = mortal(await openStore(directory), fatal, when === 'after');
  const ipam = await createIpam({ store });
  const held = new Map<string, Ip>();
  await said('pool', '', async () => (await ipam.requestPool(request())).pool);
  for (const [sign, name] of LIFE) {
    if (sign === '+') {
      const answer = await said('+', name, () =>
        ipam.requestAddress(ID, { gateway: false, serial: false, name }),
      );
      held.set(name, addressOf(answer));
    } else {
      const address = held.get(name) ?? ip('0.0.0.0');
      await said('-', address, async () => {
        await ipam.releaseAddress(ID, address);
        return prefix(`${address}/32`);
      });
    }
  }
  await said('release', '', async () => {
    await ipam.releasePool(ID);
    return POOL;
  });
  await store.close();
}

function request() {
  return { space: 'cnm-local', pool: POOL, v6: false, options: {} };
}

async function said(operation: string, name: string, work: () => Promise<Prefix>): Promise<Prefix> {
  say(['begin', operation, name]);
  const answer = await work();
  say(['done', operation, name, answer]);
  return answer;
}

function say(line: Line): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

function mortal(store: Store, fatal: number, after: boolean): Store {
  let writes = 0;
  const die = () => process.kill(process.pid, 'SIGKILL');
  return {
    notices: store.notices,
    get: (key) => store.get(key),
    list: (start) => store.list(start),
    close: () => store.close(),
    async write(changes) {
      writes += 1;
      if (writes === fatal && !after) die();
      await store.write(changes);
      if (writes === fatal) die();
    },
  };
}

function test(): void {
  const writes = LIFE.length + 2;
  t.test('a life with no end in between leaves nothing', async (t) => {
    await inDirectory(async (directory) => {
      const lines = run(directory, 0, 'after');
      t.equal(lines.filter(([word]) => word === 'done').length, writes);
      const store = await openStore(directory);
      t.same(store.list('ipam/'), []);
      await store.close();
    });
  });
  for (const when of ['before', 'after'] as const) {
    for (let fatal = 1; fatal <= writes; fatal += 1) {
      t.test(`killed ${when} write ${fatal}`, (t) =>
        inDirectory(async (directory) => {
          const lines = run(directory, fatal, when);
          const store = await openStore(directory);
          const ipam = await createIpam({ store });
          t.same(faults(lines, ipam), [], JSON.stringify(lines.at(-1)));
          if (ipam.pools().length > 0) t.same(await fill(ipam), [], 'every address is to be had once');
          await store.close();
        }),
      );
    }
  }
}

async function inDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'cnm-ipam-'));
  try {
    await use(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function run(directory: string, fatal: number, when: string): readonly Line[] {
  const child = spawnSync(process.execPath, [import.meta.filename, 'live', directory, String(fatal), when], {
    encoding: 'utf8',
  });
  return child.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

/** What the answers and the records do not agree on. */
function faults(lines: readonly Line[], ipam: Ipam): readonly string[] {
  const last = lines.at(-1);
  const open = last?.[0] === 'begin' ? last : undefined;
  const held = new Map<string, string>();
  for (const [word, operation, name = '', answer = ''] of lines) {
    if (word !== 'done') continue;
    if (operation === '+') held.set(answer.replace(/\/.*/, ''), name);
    if (operation === '-') held.delete(name);
  }
  const view = ipam.pools().find(({ poolId }) => poolId === ID);
  if (view === undefined) return ['pool', 'release'].includes(open?.[1] ?? '') ? [] : ['the pool is lost'];
  const kept = new Map(view.leases.map(({ address, name }) => [String(address), name ?? '']));
  const lost = [...held].filter(([address, name]) => kept.get(address) !== name);
  const more = [...kept].filter(([address]) => !held.has(address));
  return [
    ...lost
      .filter(([address]) => !(open?.[1] === '-' && open[2] === address))
      .map(([address]) => `${address} is lost`),
    ...more
      .filter(([, name]) => !(open?.[1] === '+' && open[2] === name))
      .map(([address]) => `${address} is held by nobody`),
  ];
}

/** What is wrong with the addresses that are left. */
async function fill(ipam: Ipam): Promise<readonly string[]> {
  const given: string[] = ipam.pools()[0]?.leases.map(({ address }) => address) ?? [];
  for (;;) {
    const answer = await ipam.requestAddress(ID, { gateway: false, serial: false }).catch(() => undefined);
    if (answer === undefined) break;
    given.push(addressOf(answer));
  }
  const wanted = [1, 2].map((n) => `10.0.0.${n}`);
  return given.sort().join() === wanted.join() ? [] : given;
}
