/**
 * `npm run bench [-- NAME…]`: measures cnm-bridge against its peers, side by side in one run, and prints the table that
 * stands in docs/benchmarks.md. Names: docker-20.10, docker-28.5, handlers, bulk, throughput, ports, ipam, ipam-cluster, dns, macvlan, overlay, overlay-vtep,
 * overlay-start (default: all). Needs root and a
 * quiet machine; everything happens in the lab's namespaces.
 */
import { cpus, release } from 'node:os';
import { openLab } from '../tests/lab/lab.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { run } from '../tests/lab/command.ts';
import { dnsBench } from './dns.ts';
import { dockerBench } from './docker.ts';
import { handlerBench } from './handlers.ts';
import { ipamClusterBench } from './ipam-cluster.ts';
import { ipamBench } from './ipam.ts';
import { macvlanBench } from './macvlan.ts';
import { overlayBench, overlayVtepBench } from './overlay.ts';
import { overlayStartBench } from './overlay-start.ts';
import { portsBench } from './ports.ts';
import { type Figures, type Row, row, table } from './side-by-side.ts';
import { throughputBench } from './throughput.ts';

const benches: Readonly<Record<string, (lab: Lab) => Promise<readonly Row[]>>> = {
  'docker-20.10': (lab) => dockerBench(lab, '20.10', 30),
  'docker-28.5': (lab) => dockerBench(lab, '28.5', 30),
  handlers: handlerBench,
  bulk: bulkBench,
  throughput: (lab) => throughputBench(lab, 5),
  ports: portsBench,
  ipam: ipamBench,
  'ipam-cluster': ipamClusterBench,
  dns: dnsBench,
  macvlan: macvlanBench,
  overlay: overlayBench,
  'overlay-vtep': overlayVtepBench,
  'overlay-start': overlayStartBench,
};

/** In a process of its own, in a namespace of its own: it makes thousands of links. */
async function bulkBench(): Promise<readonly Row[]> {
  const output = await run([
    'unshare',
    '--net',
    '--mount',
    process.execPath,
    `${import.meta.dirname}/bulk.ts`,
    '5',
  ]);
  const result = JSON.parse(output) as Record<'ours' | 'theirs', Record<string, Figures>>;
  return ['create', 'delete'].map((what) =>
    row(
      `1,000 endpoints, ${what} (against ip -batch)`,
      result.ours[what],
      result.theirs[what],
      'ms',
      '≤ 1.2',
    ),
  );
}

async function main(names: readonly string[]): Promise<void> {
  const unknown = names.find((name) => !(name in benches));
  if (unknown !== undefined)
    throw new Error(`There is no benchmark "${unknown}"; there are ${Object.keys(benches).join(', ')}`);
  const rows: Row[] = [];
  for (const [name, bench] of Object.entries(benches)) {
    if (names.length > 0 && !names.includes(name)) continue;
    process.stderr.write(`${name} …\n`);
    const endings: (() => Promise<void>)[] = [];
    const lab = await openLab({ teardown: (fn) => endings.push(fn) });
    try {
      rows.push(...(await bench(lab)));
    } finally {
      for (const end of endings.reverse()) await end();
    }
  }
  process.stdout.write(
    `${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}, Linux ${release()}, Node ${process.version}\n\n${table(rows)}\n`,
  );
}

await main(process.argv.slice(2));
