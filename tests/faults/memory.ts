/**
 * What a Node process holds when its garbage is collected: how long V8 lets garbage lie is a matter of how busy the machine is, and its resident
 * size says little. Asked by way of its inspector, which SIGUSR1 opens on 127.0.0.1:9229; so this program runs in the process's network namespace:
 *
 *   node tests/faults/memory.ts PID      prints the megabytes in use of the heap
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run } from '../lab/command.ts';
import { NODE } from '../lab/host.ts';
import type { CnmHost } from '../lab/docker-host.ts';

const SELF = fileURLToPath(import.meta.url);

/** Megabytes of the heap that cnmd uses. */
export async function heapOf(host: CnmHost): Promise<number> {
  const pid = await host.cnmd.pid();
  return Number(await run(['nsenter', '-t', String(host.pid), '-n', NODE, SELF, String(pid)]));
}

/** Methods of the Chrome DevTools Protocol (Runtime, HeapProfiler). */
class Inspector {
  readonly #socket: WebSocket;
  #last = 0;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  static async open(pid: number): Promise<Inspector> {
    process.kill(pid, 'SIGUSR1');
    const socket = new WebSocket(await address());
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', reject);
    });
    return new Inspector(socket);
  }

  call(method: string, params: object = {}): Promise<unknown> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve) => {
      const hear = (event: MessageEvent) => {
        const answer = JSON.parse(String(event.data)) as { readonly id?: number; readonly result?: unknown };
        if (answer.id !== id) return;
        this.#socket.removeEventListener('message', hear);
        resolve(answer.result);
      };
      this.#socket.addEventListener('message', hear);
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  close(): void {
    this.#socket.close();
  }
}

/** It is opened by another thread, a moment after the signal. */
async function address(): Promise<string> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    try {
      const answer = await fetch('http://127.0.0.1:9229/json/list');
      const [target] = (await answer.json()) as readonly { readonly webSocketDebuggerUrl: string }[];
      if (target !== undefined) return target.webSocketDebuggerUrl;
    } catch {
      await sleep(100);
    }
  }
  throw new Error('the inspector does not answer on 127.0.0.1:9229');
}

async function heapInUse(pid: number): Promise<number> {
  const inspector = await Inspector.open(pid);
  await inspector.call('HeapProfiler.collectGarbage');
  const { result } = (await inspector.call('Runtime.evaluate', {
    expression: 'process.memoryUsage().heapUsed',
  })) as { readonly result: { readonly value: number } };
  inspector.close();
  return result.value / 2 ** 20;
}

if (process.argv[1] === SELF) console.log(await heapInUse(Number(process.argv[2])));
