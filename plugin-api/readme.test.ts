/** The examples of README.md, posted in order to a plugin: documents are run. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { memoryIpam, testPlugin } from '../tests/plugin-double.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import { memoryStore } from '../store/memory.ts';
import { networkDriverRouter } from './network-driver.ts';
import { ipamDriverRouter } from './ipam-driver.ts';

const README = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');

interface Example {
  readonly method: string;
  readonly request: string;
  readonly reply: unknown;
}

function examples(): readonly Example[] {
  return README.split(/^### /m)
    .slice(1)
    .map((section) => ({
      method: /^\S+/.exec(section)?.[0] ?? '',
      request: block(section, 'request'),
      reply: JSON.parse(block(section, 'reply')) as unknown,
    }));
}

function block(section: string, kind: string): string {
  const found = new RegExp(`^\`\`\`json ${kind}\n([^]*?)^\`\`\`$`, 'm').exec(section);
  if (found?.[1] === undefined) throw new Error(`no ${kind} in ${section.slice(0, 60)}`);
  return found[1];
}

/** The reply with every text cut where the document has `…`. */
function like(actual: unknown, written: unknown): unknown {
  if (typeof written === 'string' && typeof actual === 'string' && written.endsWith('…')) {
    return actual.startsWith(written.slice(0, -1)) ? written : actual;
  }
  if (Array.isArray(actual)) return actual.map((one, index) => like(one, at(written, index)));
  if (typeof actual !== 'object' || actual === null) return actual;
  return Object.fromEntries(
    Object.entries(actual).map(([key, value]) => [key, like(value, at(written, key))]),
  );
}

function at(value: unknown, key: string | number): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

t.test('every example is answered as it is written', async (t) => {
  const plugin = await testPlugin();
  t.teardown(() => plugin.close());
  for (const { method, request, reply } of examples()) {
    const { body } = await plugin.post(method, request);
    t.same(like(body, reply), reply, method);
  }
  t.same(plugin.cnm.networks(), [], 'they take away what they made');
});

t.test('every call that is served is documented', (t) => {
  const log = silent;
  const cnm = createCnm({
    kernel: fakeKernel(),
    store: memoryStore(),
    drivers: [bridge],
    log,
    runDir: '/run/cnm',
  });
  const routers = [networkDriverRouter(cnm, bridge, { log }), ipamDriverRouter(memoryIpam(), { log })];
  const served = routers.flatMap((router) => router.stack.map(({ route }) => route?.path.slice(1) ?? ''));
  const documented = examples().map(({ method }) => method);
  // Named in the section of AllocateNetwork.
  const expected = new Set([...served, 'Plugin.Activate']);
  expected.delete('NetworkDriver.FreeNetwork');
  t.same(new Set(documented), expected);
  t.match(README, 'NetworkDriver.FreeNetwork');
  t.end();
});
