/**
 * 1,000 endpoints on one bridge, made and removed: our own life cycle (records on disk included) in the process, against
 * `ip -batch` making the same links with the same addresses and no records at all.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prefix } from '../address/prefix.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import type { EndpointSpec, NetworkSpec } from '../cnm/model.ts';
import { drivers } from '../drivers/index.ts';
import { openKernel } from '../kernel/linux.ts';
import { openStore } from '../store/sqlite.ts';
import { run } from '../tests/lab/command.ts';
import { alternate, timed } from './side-by-side.ts';

const COUNT = 1000;

const network: NetworkSpec = {
  id: 'cd'.repeat(32),
  driver: 'cnm-bridge',
  origin: 'docker',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: '', pool: prefix('10.88.0.0/16'), gateway: prefix('10.88.0.1/16'), aux: {} }],
  ipv6: [],
};

function endpoint(n: number): EndpointSpec {
  const address = prefix(`10.88.${1 + Math.floor(n / 250)}.${1 + (n % 250)}/16`);
  return {
    id: n.toString(16).padStart(4, '0').repeat(16),
    network: network.id,
    address,
    options: {},
    ports: [],
  };
}

/** What our plan holds: a veth pair with alias, MAC of the inner end, master, up. */
function ipCommands(n: number): { add: string; del: string } {
  const [outer, inner] = [`bo${n}`, `bi${n}`];
  const mac = `02:42:0a:58:${(1 + Math.floor(n / 250)).toString(16).padStart(2, '0')}:${(1 + (n % 250)).toString(16).padStart(2, '0')}`;
  return {
    add: [
      `link add ${outer} type veth peer name ${inner} address ${mac}`,
      `link set ${outer} alias "cnm ${network.id} ${n}" addrgenmode none`,
      `link set ${inner} alias "cnm ${network.id} ${n}"`,
      `link set ${outer} master bulk`,
      `link set ${outer} up`,
    ].join('\n'),
    del: `link del ${outer}`,
  };
}

/** To be run in a network namespace of its own (see run.ts). Prints one JSON line. */
export async function bulk(rounds: number): Promise<unknown> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-bench-'));
  const kernel = await openKernel({ netnsDir: join(folder, 'netns'), log: silent });
  const store = await openStore(join(folder, 'state'));
  const cnm = createCnm({ kernel, store, drivers, log: silent, runDir: folder });
  await kernel.prepare();
  await cnm.createNetwork(network);
  await run(['ip', 'link', 'add', 'bulk', 'type', 'bridge']);
  await run(['ip', 'link', 'set', 'bulk', 'up']);
  const commands = Array.from({ length: COUNT }, (_, n) => ipCommands(n));
  await writeFile(join(folder, 'add'), commands.map(({ add }) => add).join('\n'));
  await writeFile(join(folder, 'del'), commands.map(({ del }) => del).join('\n'));
  const all = Array.from({ length: COUNT }, (_, n) => endpoint(n));
  const result = await alternate(
    {
      ours: async () => ({
        create: await timed(() => Promise.all(all.map((one) => cnm.createEndpoint(one)))),
        delete: await timed(() => Promise.all(all.map((one) => cnm.deleteEndpoint(network.id, one.id)))),
      }),
      theirs: async () => ({
        create: await timed(() => run(['ip', '-batch', join(folder, 'add')])),
        delete: await timed(() => run(['ip', '-batch', join(folder, 'del')])),
      }),
    },
    rounds,
    1,
  );
  await cnm.deleteNetwork(network.id);
  await cnm.close();
  await kernel.close();
  await store.close();
  await run(['umount', join(folder, 'netns')]).catch(() => undefined);
  await rm(folder, { recursive: true, force: true });
  return result;
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write(`${JSON.stringify(await bulk(Number(process.argv[2] ?? 3)))}\n`);
}
