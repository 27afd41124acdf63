import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { SandboxDns, SandboxRecord } from '../cnm/model.ts';
import { SandboxFiles } from './sandbox-files.ts';

const HOST = {
  servers: ['10.0.0.53'],
  search: ['corp.example', '.'],
  options: ['ndots:5', 'edns0'],
};

function sandbox(digit: string, dns?: SandboxDns): SandboxRecord {
  const id = digit.repeat(64);
  return { id, name: `s${digit}`, path: '', state: 'ready', createdAt: '', plan: [], ...(dns && { dns }) };
}

t.test('a file for each sandbox, and for nobody else', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cnm-files-'));
  t.teardown(() => {
    rmSync(dir, { recursive: true });
  });
  const folder = join(dir, 'resolv');
  const lines = (digit: string) =>
    readFileSync(join(folder, `${digit.repeat(12)}.conf`), 'utf8')
      .trim()
      .split('\n')
      .slice(1);
  mkdirSync(folder);
  writeFileSync(join(folder, 'of-before.conf'), '');
  const files = new SandboxFiles(dir);

  const plain = sandbox('a');
  files.sync([plain, sandbox('b', { search: ['demo', '.'], options: ['ndots:2'] })], HOST);
  t.same(readdirSync(folder), ['aaaaaaaaaaaa.conf', 'bbbbbbbbbbbb.conf'], 'what was left over is gone');
  t.same(lines('a'), ['nameserver 127.0.0.11', 'search corp.example', 'options edns0 ndots:0']);
  t.same(lines('b'), ['nameserver 127.0.0.11', 'search demo', 'options ndots:2'], 'its own');

  const made = statSync(join(folder, 'aaaaaaaaaaaa.conf')).ino;
  files.sync([plain], HOST);
  t.same(readdirSync(folder), ['aaaaaaaaaaaa.conf']);
  t.equal(statSync(join(folder, 'aaaaaaaaaaaa.conf')).ino, made, 'nothing new to say: not written');

  files.sync([plain], { servers: [], search: [], options: [] });
  t.same(lines('a'), ['nameserver 127.0.0.11', 'options ndots:0'], 'the host has changed');
  t.end();
});
