/**
 * Holds every import to the directions of docs/architecture.md: address ← kernel ← cnm ← drivers, plugin-api, inspect;
 * store and address import nothing of ours; main.ts alone knows all folders. Reads the sources, runs nothing.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import t from 'tap';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '..');

interface Rule {
  /** Our folders that may be imported; `type:` in front = types only. */
  readonly ours: readonly string[];
  readonly packages: readonly string[];
  /** Node's own modules; `*` = all of them. */
  readonly builtins: readonly string[];
}

/** Node's modules that only compute. */
const PURE = ['node:util', 'node:crypto', 'node:path', 'node:buffer', 'node:assert', 'node:zlib'];
const ANYTHING: Rule = { ours: ['*'], packages: ['*'], builtins: ['*'] };

/** The longest folder that fits a file decides. A file that no line fits is a breach: a new folder belongs in here. */
const RULES: Readonly<Record<string, Rule>> = {
  'address/': { ours: [], packages: [], builtins: PURE },
  'store/': {
    ours: [],
    packages: [],
    builtins: [...PURE, 'node:fs', 'node:fs/promises', 'node:sqlite', 'node:timers/promises'],
  },
  ...etcd(['store/etcd.ts', 'store/etcd-entry.ts', 'store/etcd-lease.ts']),
  ...etcd(['store/etcd-members.ts', 'store/etcd-watch.ts']),
  'kernel/': { ours: ['address/'], packages: ['netlink', 'koffi'], builtins: ['*'] },
  'cnm/': { ours: ['address/', 'kernel/', 'store/'], packages: ['zod'], builtins: PURE },
  'ipam/': { ours: ['address/', 'store/', 'cnm/'], packages: ['zod'], builtins: PURE },
  'drivers/': { ours: ['drivers/', 'type:cnm/'], packages: [], builtins: [] },
  'drivers/bridge/': driver(),
  'drivers/macvlan/': driver(),
  'drivers/overlay/': { ...driver(), builtins: [...PURE, 'node:dgram'] },
  'dns/': {
    ours: ['address/', 'cnm/', 'ipam/'],
    packages: ['dns-packet', 'zod'],
    builtins: [...PURE, 'node:dgram', 'node:net', 'node:fs', 'node:fs/promises', 'node:events'],
  },
  'plugin-api/': edge(['express', 'zod', 'prom-client']),
  'inspect/': edge(
    ['express', 'zod', 'prom-client', 'commander', 'picocolors'],
    ['type:dns/', 'type:drivers/overlay/check/'],
  ),
  // Runs the person's own command in a namespace that `kernel/` made; nothing of the daemon's goes this way.
  'inspect/cli/exec.ts': {
    ours: ['inspect/'],
    packages: [],
    builtins: [...PURE, 'node:child_process', 'node:fs', 'node:os', 'node:path'],
  },
  'packaging/': { ours: [], packages: [], builtins: ['*'] },
  'daemon/': {
    ours: ['address/', 'cnm/', 'kernel/', 'ipam/', 'type:store/', 'type:dns/'],
    packages: [],
    builtins: [...PURE, 'node:http', 'node:net', 'node:fs'],
  },
  // It acts on what the driver makes of messages and facts.
  'daemon/overlay-check/': {
    ours: ['address/', 'cnm/', 'type:kernel/', 'daemon/', 'drivers/overlay/'],
    packages: [],
    builtins: PURE,
  },
  // This host's way to etcd.
  'daemon/cluster.ts': {
    ours: ['type:ipam/', 'daemon/', 'store/'],
    packages: [],
    builtins: ['node:crypto', 'node:fs', 'node:os', 'node:tls'],
  },
  // It tells systemd that the daemon is ready.
  'daemon/process.ts': { ours: ['type:cnm/'], packages: [], builtins: ['node:child_process'] },
  'daemon/log-format.test.ts': { ours: [], packages: ['pino'], builtins: [] },
  // The thread that moves packets: the switching of a driver with the hands of kernel/.
  'vtep-worker.ts': {
    ours: ['address/', 'drivers/', 'kernel/'],
    packages: [],
    builtins: ['node:fs', 'node:worker_threads'],
  },
  'main.ts': { ours: ['*'], packages: ['pino'], builtins: ['*'] },
  'tests/': ANYTHING,
  'bench/': ANYTHING,
  'docs/': ANYTHING,
};

/** The cluster store's client; nothing else of store/ reaches a network. */
function etcd(files: readonly string[]): Readonly<Record<string, Rule>> {
  const packages = ['etcd3', '@grpc/grpc-js', 'cockatiel'];
  const rule = { ours: ['store/'], packages, builtins: [...PURE, 'node:timers/promises'] };
  return Object.fromEntries(files.map((file) => [file, rule]));
}

function driver(): Rule {
  return { ours: ['address/', 'cnm/', 'type:kernel/'], packages: ['zod'], builtins: PURE };
}

/** Where requests come in: no child processes, no datagrams. */
function edge(packages: readonly string[], more: readonly string[] = []): Rule {
  const builtins = [...PURE, 'node:http', 'node:net', 'node:fs', 'node:fs/promises', 'node:events'];
  return {
    ours: ['address/', 'cnm/', 'ipam/', 'kernel/', ...more],
    packages,
    builtins: [...builtins, 'node:process', 'node:stream', 'node:timers/promises', 'node:url', 'node:os'],
  };
}

/** `kernel/` acts. From outside (but for main.ts) only those of its files may be run that compute: see `actsInKernel`. */
const MAY_ACT = ['main.ts', 'vtep-worker.ts', 'tests/', 'bench/'];

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

/** Every import, re-export, `import()` and `import('…').Type` of a source file. */
function importsOf(path: string, text: string): readonly Import[] {
  const found: Import[] = [];
  const add = (node: ts.Node | undefined, typeOnly: boolean) => {
    if (node !== undefined && ts.isStringLiteralLike(node)) found.push({ from: node.text, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeImport(node.importClause));
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && isLoad(node.expression)) add(node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return found;
}

function isTypeImport(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const names = clause.namedBindings;
  return (
    clause.name === undefined &&
    names !== undefined &&
    ts.isNamedImports(names) &&
    names.elements.length > 0 &&
    names.elements.every((element) => element.isTypeOnly)
  );
}

function isLoad(callee: ts.Expression): boolean {
  return (
    callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require')
  );
}

type Sources = ReadonlyMap<string, string>;

/** All breaches of one file, each a sentence. */
function breaches(path: string, sources: Sources): readonly string[] {
  const key = ruleKey(path);
  if (key === undefined) return [`${path} lies in no folder that tests/layout.test.ts knows`];
  const rule = isTest(path) ? forTests(RULES[key]) : RULES[key];
  if (rule === undefined) return [];
  const kept = importsOf(path, sources.get(path) ?? '').filter(
    (one) => !allowed(path, key, rule, one, sources),
  );
  return kept.map(({ from, typeOnly }) => `${path} must not import ${typeOnly ? 'types of ' : ''}${from}`);
}

function ruleKey(path: string): string | undefined {
  const fits = Object.keys(RULES).filter(
    (key) => path === key || (key.endsWith('/') && path.startsWith(key)),
  );
  const byLength = fits.sort((a, b) => b.length - a.length);
  return (
    (byLength[0] ?? (path.endsWith('.test.ts') && ruleKey(path.replace('.test.ts', '.ts')))) || undefined
  );
}

/** `suite.ts`, `x-suite.ts`: tests that several implementations of one contract share. */
function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || /[/-]suite\.ts$/.test(path);
}

/** A test beside its source may use the test tools and any double or neighbour, but no package that its folder may not. */
function forTests(rule: Rule | undefined): Rule | undefined {
  if (rule === undefined) return undefined;
  return { ours: ['*'], packages: [...rule.packages, 'tap', 'fast-check'], builtins: ['*'] };
}

function allowed(
  path: string,
  key: string,
  rule: Rule,
  { from, typeOnly }: Import,
  sources: Sources,
): boolean {
  const permits = (list: readonly string[], name: string) => list.includes('*') || list.includes(name);
  if (from.startsWith('node:')) return permits(rule.builtins, from);
  if (!from.startsWith('.')) return permits(rule.packages, packageName(from));
  const target = join(dirname(path), from);
  const own = target.startsWith(key) || target === key;
  const folders = rule.ours.filter((one) => typeOnly || !one.startsWith('type:'));
  const listed = folders.some((one) => one === '*' || target.startsWith(one.replace('type:', '')));
  if (!own && !listed) return false;
  // drivers/index.ts lists the drivers by their front door; the drivers themselves do not know each other.
  if (key === 'drivers/' && target.startsWith('drivers/')) return /^drivers\/[a-z]+\/index\.ts$/.test(target);
  if (own || typeOnly || !target.startsWith('kernel/')) return true;
  const mayAct = MAY_ACT.some((one) => path.startsWith(one)) || isTest(path);
  return mayAct || !actsInKernel(target, sources);
}

function packageName(from: string): string {
  return from
    .split('/')
    .slice(0, from.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Whether running a file of `kernel/` brings in a package or a module of Node's that does more than compute. */
function actsInKernel(path: string, sources: Sources, seen = new Set<string>()): boolean {
  if (seen.has(path)) return false;
  seen.add(path);
  const source = sources.get(path);
  if (source === undefined) return true;
  return importsOf(path, source).some(({ from, typeOnly }) => {
    if (typeOnly || PURE.includes(from)) return false;
    return !from.startsWith('.') || actsInKernel(join(dirname(path), from), sources, seen);
  });
}

function projectSources(): Sources {
  const paths = globSync('**/*.ts', {
    cwd: ROOT,
    exclude: (path) => /^(node_modules|dist|build|\.tap|\.git)(\/|$)/.test(relative('.', path)),
  });
  return new Map(paths.map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]));
}

t.test('every import follows the directions', (t) => {
  const sources = projectSources();
  t.ok(sources.size > 20, `${sources.size} sources were read`);
  t.strictSame([...sources.keys()].flatMap((path) => breaches(path, sources)).sort(), []);
  t.end();
});

t.test('the check finds what it is there to find', (t) => {
  const KERNEL: Sources = new Map([
    ['kernel/kernel.ts', "import type { Facts } from './facts.ts'; export class KernelError {}"],
    ['kernel/linux.ts', "import koffi from 'koffi';"],
    ['kernel/describe.ts', "import { sep } from 'node:path'; import { x } from '../address/ip.ts';"],
    ['kernel/wrapped.ts', "export { openKernel } from './linux.ts';"],
    ['address/ip.ts', ''],
  ]);
  const cases: readonly [path: string, text: string, ok: boolean][] = [
    ['address/ip.ts', "import { x } from '../kernel/step.ts';", false],
    ['address/ip.ts', "import type { Step } from '../kernel/step.ts';", false],
    ['address/ip.ts', "import { isIPv6 } from 'node:net';", false],
    ['store/sqlite.ts', "import { DatabaseSync } from 'node:sqlite';", true],
    ['store/sqlite.ts', "import { CnmError } from '../cnm/errors.ts';", false],
    ['store/etcd.ts', "import { Etcd3 } from 'etcd3'; import { x } from './cluster.ts';", true],
    ['store/cluster-fake.ts', "import { Etcd3 } from 'etcd3';", false],
    ['ipam/index.ts', "import { Etcd3 } from 'etcd3';", false],
    ['kernel/linux.ts', "import type { Driver } from '../cnm/driver.ts';", false],
    ['kernel/nft.ts', "import { execFile } from 'node:child_process';", true],
    ['cnm/index.ts', "import { KernelError } from '../kernel/kernel.ts';", true],
    ['cnm/index.ts', "import { describe } from '../kernel/describe.ts';", true],
    ['cnm/index.ts', "import type { X } from '../kernel/linux.ts';", true],
    ['cnm/index.ts', "import { openKernel } from '../kernel/linux.ts';", false],
    ['cnm/index.ts', "import { openKernel } from '../kernel/wrapped.ts';", false],
    ['cnm/index.ts', "const k = await import('../kernel/linux.ts');", false],
    ['cnm/index.ts', "import { bridge } from '../drivers/bridge/index.ts';", false],
    ['cnm/index.ts', "import { spawn } from 'node:child_process';", false],
    ['cnm/index.test.ts', "import t from 'tap'; import { x } from '../kernel/fake.ts';", true],
    ['cnm/index.test.ts', "import express from 'express';", false],
    ['ipam/index.ts', "import { CnmError } from '../cnm/errors.ts';", true],
    ['ipam/index.ts', "import { adminApp } from '../inspect/admin-api.ts';", false],
    ['drivers/index.ts', "import { bridge } from './bridge/index.ts';", true],
    ['drivers/index.ts', "import { plan } from './bridge/plan.ts';", false],
    ['drivers/bridge/plan.ts', "import type { Step } from '../../kernel/step.ts';", true],
    ['drivers/bridge/plan.ts', "import { type Step } from '../../kernel/step.ts';", true],
    ['drivers/bridge/plan.ts', "import { KernelError } from '../../kernel/kernel.ts';", false],
    ['drivers/bridge/plan.ts', "import { x } from '../macvlan/plan.ts';", false],
    ['drivers/bridge/plan.ts', "import { readFileSync } from 'node:fs';", false],
    ['drivers/overlay/vtep.ts', "import { createSocket } from 'node:dgram';", true],
    ['plugin-api/app.ts', "import express from 'express';", true],
    ['plugin-api/app.ts', "import { pino } from 'pino';", false],
    ['plugin-api/app.ts', "import { createSocket } from 'node:dgram';", false],
    ['plugin-api/app.ts', "export { x } from '../inspect/admin-api.ts';", false],
    ['plugin-api/app.ts', "export { openKernel } from '../kernel/linux.ts';", false],
    ['inspect/cnm.ts', "import { program } from 'commander';", true],
    ['inspect/cnm.ts', "type A = import('../plugin-api/app.ts').App;", false],
    ['dns/zone.ts', "import packet from 'dns-packet';", true],
    ['inspect/dns.ts', "import packet from 'dns-packet';", false],
    ['main.ts', "import { openKernel } from './kernel/linux.ts'; import { pino } from 'pino';", true],
    ['main.ts', "import express from 'express';", false],
    ['daemon/overlay-check/x.ts', "import { x } from '../../drivers/overlay/check/frame.ts';", true],
    ['daemon/overlay.ts', "import { x } from '../drivers/overlay/check/frame.ts';", false],
    ['inspect/x.ts', "import type { X } from '../drivers/overlay/check/report.ts';", true],
    ['inspect/x.ts', "import { x } from '../drivers/overlay/check/report.ts';", false],
    ['inspect/x.ts', "import type { X } from '../drivers/overlay/plan.ts';", false],
    ['daemon/upkeep.ts', "import { pino } from 'pino';", false],
    ['daemon/upkeep.ts', "import { openKernel } from '../kernel/linux.ts';", false],
    ['daemon/upkeep.test.ts', "import t from 'tap'; import { x } from './upkeep.ts';", true],
    ['helpers/string.ts', '', false],
    ['stray.ts', '', false],
  ];
  for (const [path, text, ok] of cases) {
    const found = breaches(path, new Map([...KERNEL, [path, text]]));
    t.equal(found.length === 0, ok, `${ok ? 'allowed' : 'refused'}: ${path}: ${text}`);
  }
  t.end();
});
