/*
 * dns/README.md as a stranger reads it: every example typed on a host with Docker, in order, on 20.10 and on 28.5. The image alpine is
 * the lab's here.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../lab/command.ts';
import { REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { installCommand } from './observe.ts';

async function examples(): Promise<readonly string[]> {
  const text = await readFile(join(REPOSITORY, 'dns/README.md'), 'utf8');
  const blocks = [...text.matchAll(/^```console\n([^]*?)^```$/gm)].map((match) => match[1] ?? '');
  return blocks.flatMap((block) => [...block.matchAll(/^# (.*)$/gm)].map((match) => match[1] ?? ''));
}

/** What a line must print, by its beginning. */
const PRINTED: Readonly<Record<string, RegExp>> = {
  'cnm dns ls backend': /db +backend +10\.60\.0\.\d+ +storage/,
  'docker exec web ping -c1 db.backend': /1 packets transmitted, 1 (?:packets )?received/,
  'docker exec web ping -c1 db': /1 packets transmitted, 1 (?:packets )?received/,
  'cnm dns query storage': /rule +name: [^]*\n {2}storage 10 A 10\.60\.0\./,
  'cnm dns query --type SRV': /SRV 0 0 5432 db\.backend/,
  'cnm dns query nobody.backend': /NXDOMAIN[^]*inside-network[^]*no such name/,
  'cnm sandbox exec one -- cat': /^nameserver 127\.0\.0\.11\nsearch lab\noptions ndots:1$/m,
  'cnm sandbox exec one -- getent hosts api': /^10\.61\.0\.\d+ +api/,
  'cnm sandbox exec one -- getent hosts two.lab': /^10\.61\.0\.\d+ +two\.lab/,
};

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`the README of the resolver, on Engine ${engine}`, async (t) => {
    const lab = await openLab(t);
    // As `"dns": ["127.0.0.12"]` in daemon.json.
    const h = await lab.dockerHost({ engine, plugin: 'sockets', dockerd: ['--dns', '127.0.0.12'] });
    await installCommand(h);
    await writeFile(h.outside('/etc/resolv.conf'), 'nameserver 127.0.0.9\n');
    const lines = await examples();
    t.ok(lines.length > 18);
    for (const line of lines) {
      const [, printed] = Object.entries(PRINTED).find(([start]) => line.startsWith(start)) ?? [];
      const type = () => h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
      // Docker tells of a container's name some time after it has started it; these lines only ask.
      const asked = async () => {
        const output = await type();
        return (output.code === 0 && printed?.test(output.stdout) === true) || undefined;
      };
      if (printed !== undefined) await until(line, 60_000, asked).catch(() => undefined);
      const { code, stdout, stderr } = await type();
      t.equal(code, 0, `# ${line}\n${stderr}`);
      if (printed !== undefined) t.match(stdout, printed, line);
      // Nobody told this container, and Docker's own resolver knows no such records.
      if (line === 'cnm dns query storage --from web') {
        const ask = ['dig', '+short', '@127.0.0.11', '_5432._tcp.storage', 'SRV'];
        t.match(await h.inContainer('db', ...ask), /5432 db\.backend/, 'by the daemon’s own setting');
      }
    }
  });
}
