/** The npm package: what `npm run build` compiles and `npm pack` would put in, run as its two commands. No network. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '../..');

interface Manifest {
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly files: readonly string[];
}

t.test('the package, installed in an empty folder', (t) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;
  const folder = t.testdir({ node_modules: { '.bin': {}, 'cnm-suite': {} } });
  const installed = join(folder, 'node_modules/cnm-suite');
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', join(installed, 'dist')], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  cpSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
  for (const path of manifest.files.filter((path) => path !== 'dist')) {
    mkdirSync(join(installed, path, '..'), { recursive: true });
    cpSync(join(ROOT, path), join(installed, path), { recursive: true });
  }
  // What npm would fetch.
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'));
  for (const [name, path] of Object.entries(manifest.bin)) {
    chmodSync(join(installed, path), 0o755);
    symlinkSync(join('../cnm-suite', path), join(folder, 'node_modules/.bin', name));
  }

  const run = (name: string, ...args: string[]) => {
    const env = { PATH: `${join(ROOT, 'node_modules/.bin')}:/usr/bin:/bin` };
    const { status, stdout, stderr } = spawnSync(join(folder, 'node_modules/.bin', name), args, {
      encoding: 'utf8',
      env,
    });
    return { status, stdout, stderr };
  };
  for (const name of ['cnm', 'cnmd'])
    t.strictSame(run(name, '--version'), { status: 0, stdout: `${name} ${manifest.version}\n`, stderr: '' });
  t.match(run('cnmd', '--log-level', 'loud'), { status: 2, stderr: /^cnmd: --log-level: 'loud'/ });
  t.match(run('cnm', '--socket', '/nowhere', 'network', 'ls'), { status: 2 });
  t.match(run('cnm', 'network', 'ls', '--socket', '/nowhere'), { status: 1, stderr: /no socket \/nowhere/ });
  t.end();
});
