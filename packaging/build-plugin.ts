/**
 * `npm run build:plugin -- DIR`: makes DIR/config.json and DIR/rootfs/ for `docker plugin create NAME DIR`, out of what is
 * installed on this machine and with no network: the running Node, the firewall tools, the libraries that both load, our
 * code, and the packages that it depends on.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { pluginConfig } from './plugin-config.ts';
import { copyProgram, diskUsage } from './programs.ts';

const ROOT = join(import.meta.dirname, '..');
const LIMIT_MB = 150;

/** iptables has its names as links to one program per form; what kernel/accept.ts runs, for both families. */
const PROGRAMS = [
  'nft',
  ...['iptables', 'ip6tables']
    .flatMap((name) => [`${name}-nft`, `${name}-legacy`])
    .flatMap((name) => [name, `${name}-restore`]),
];

function main(argv: readonly string[]): void {
  const [target, ...rest] = argv;
  if (target === undefined || rest.length > 0 || target.startsWith('-')) {
    process.stderr.write('Usage: npm run build:plugin -- DIR\n');
    process.exitCode = 2;
    return;
  }
  const directory = resolve(target);
  if (existsSync(directory) && !isReplaceable(directory)) {
    process.stderr.write(
      `${directory} is not empty and was not made by this command; name another folder.\n`,
    );
    process.exitCode = 2;
    return;
  }
  const rootfs = join(directory, 'rootfs');
  rmSync(rootfs, { recursive: true, force: true });
  for (const folder of ['bin', 'app', 'data', 'run', 'tmp', 'proc', 'sys', 'dev', 'etc'])
    mkdirSync(join(rootfs, folder), { recursive: true });
  // As on the host: Docker names its namespaces /var/run/docker/netns/….
  mkdirSync(join(rootfs, 'var'));
  symlinkSync('../run', join(rootfs, 'var/run'));

  addNode(rootfs);
  addFirewallTools(rootfs);
  addCode(rootfs);
  writeFileSync(join(directory, 'config.json'), `${JSON.stringify(pluginConfig(), null, 2)}\n`);
  tryStart(rootfs);
  report(directory, rootfs);
}

/** An image that lacks a library or a file of a package shows here, and not as a plugin that Docker calls dead. */
function tryStart(rootfs: string): void {
  const programs = [
    ['/bin/node', '/app/main.js', '--version'],
    ['/bin/node', '-e', "require('/app/node_modules/koffi').load('libc.so.6')"],
    // It reads its protocol files when it is loaded.
    ['/bin/node', '-e', "require('/app/node_modules/etcd3')"],
    ...PROGRAMS.map((name) => [`/usr/sbin/${name}`, '--version']),
  ];
  if (process.getuid?.() !== 0) {
    process.stderr.write('Not root: the image was not tried (chroot).\n');
    return;
  }
  for (const program of programs)
    execFileSync('/usr/sbin/chroot', [rootfs, ...program], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {},
    });
}

/** An empty folder, or one that this command has filled before. */
function isReplaceable(directory: string): boolean {
  return readdirSync(directory).every((name) => name === 'config.json' || name === 'rootfs');
}

/** The binary that runs this script. Its symbol table is 17 MB that only a debugger reads. */
function addNode(rootfs: string): void {
  const node = join(rootfs, 'bin/node');
  copyProgram(process.execPath, rootfs, node);
  try {
    execFileSync('strip', ['--strip-all', node], { stdio: 'ignore' });
  } catch {
    process.stderr.write(
      'strip (package binutils) is not installed: the image keeps the symbols of node, 17 MB.\n',
    );
  }
}

function addFirewallTools(rootfs: string): void {
  for (const name of PROGRAMS) {
    const path = which(name);
    if (path === undefined) throw new Error(`${name} is not installed; apt-get install nftables iptables`);
    const program = realpathSync(path);
    const inside = join(rootfs, 'usr/sbin', basename(program));
    if (!existsSync(inside)) copyProgram(program, rootfs, inside);
    if (basename(program) !== name) symlinkSync(basename(program), join(rootfs, 'usr/sbin', name));
  }
  addXtablesModules(rootfs);
}

/** All of them: `iptables -S` lists other people's rules too, and fails on a match that it has no module for. */
function addXtablesModules(rootfs: string): void {
  const folder = readdirSync('/usr/lib')
    .map((name) => join('/usr/lib', name, 'xtables'))
    .find((path) => existsSync(path));
  if (folder === undefined)
    throw new Error('The modules of iptables are not where Debian puts them, /usr/lib/*/xtables');
  cpSync(folder, join(rootfs, folder), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !/\/lib(eb|arp)t_/.test(path),
  });
}

/** Compiled, because Node would otherwise strip the types of every file at every start. */
function addCode(rootfs: string): void {
  const app = join(rootfs, 'app');
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  // Types are what `npm run check` is for; here a build must not wait for them.
  const options = [
    '-p',
    join(ROOT, 'tsconfig.build.json'),
    '--noCheck',
    '--declaration',
    'false',
    '--outDir',
    app,
  ];
  execFileSync(process.execPath, [tsc, ...options], { stdio: 'inherit', cwd: ROOT });
  rmSync(join(app, 'packaging'), { recursive: true, force: true });
  cpSync(join(ROOT, 'package.json'), join(app, 'package.json'));
  const wanted = new Set<string>();
  for (const name of dependencies(ROOT)) collect(ROOT, name, wanted);
  for (const folder of wanted) addPackage(folder, join(app, folder.slice(ROOT.length + 1)), rootfs);
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function dependencies(folder: string): readonly string[] {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
  return Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
}

/** Adds the folder that `name` resolves to from `from`, and those of its own dependencies. Optional ones may be absent. */
function collect(from: string, name: string, found: Set<string>): void {
  for (let folder = from; folder.startsWith(ROOT); folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name);
    if (!existsSync(join(candidate, 'package.json'))) continue;
    if (found.has(candidate)) return;
    found.add(candidate);
    for (const dependency of dependencies(candidate)) collect(candidate, dependency, found);
    return;
  }
}

/** What no import at run time reaches: types, sources of addons, maps, documents; prebuilt code for other machines. */
const UNUSED = /\.(d\.[cm]?ts|[cm]?ts|map|md|markdown|flow|c|cc|cpp|h|hh|gypi?|S|asm)$/;
const UNUSED_FOLDERS = new Set(['node_modules', 'test', 'tests', 'docs', 'benchmarks', '.github']);

function addPackage(folder: string, target: string, rootfs: string): void {
  cpSync(folder, target, {
    recursive: true,
    filter: (path) => {
      const inside = path.slice(folder.length + 1);
      if (inside === '') return true;
      if (inside.split('/').some((part) => UNUSED_FOLDERS.has(part)) || UNUSED.test(inside)) return false;
      return !isForAnotherMachine(inside);
    },
  });
  for (const file of readdirSync(target, { recursive: true, encoding: 'utf8' }))
    if (file.endsWith('.node')) copyProgram(join(target, file), rootfs);
}

/** Folders of prebuilt addons are named `linux-x64`, `darwin-arm64`, … */
function isForAnotherMachine(path: string): boolean {
  const built = /(?:^|\/)(linux|darwin|win32|freebsd|openbsd|android|musl)[-_]([a-z0-9]+)(?:\/|$)/.exec(path);
  return built !== null && (built[1] !== process.platform || built[2] !== process.arch);
}

function which(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

function report(directory: string, rootfs: string): void {
  const megabytes = diskUsage(rootfs) / 1e6;
  const parts = ['bin', 'usr', 'lib', 'lib64', 'app'].map((name) => {
    const path = join(rootfs, name);
    return `${basename(path)} ${existsSync(path) ? (diskUsage(path) / 1e6).toFixed(1) : '0'}`;
  });
  process.stdout.write(`${directory}: ${megabytes.toFixed(1)} MB (${parts.join(', ')})\n`);
  if (megabytes <= LIMIT_MB) return;
  process.stderr.write(`That is more than the ${LIMIT_MB} MB that this image may have.\n`);
  process.exitCode = 1;
}

main(process.argv.slice(2));
