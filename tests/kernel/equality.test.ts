/**
 * The fake kernel and the real one answer alike. Every case runs on a fake host, and on Linux in a network namespace of its own:
 *
 *     this process ── fresh netns (br-test, outer ═ inner, strangers' bridges) ── netns files box, docker, orphan
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fakeKernel } from '../../kernel/fake.ts';
import { openKernel } from '../../kernel/linux.ts';
import { PortHolder } from '../../kernel/port-holder.ts';
import { CASES, mac } from './cases.ts';
import { IPSEC_CASES } from './ipsec-cases.ts';
import { TUNNEL_CASES } from './tunnel-cases.ts';
import { UPLINK_CASES } from './uplink-cases.ts';
import type { World } from './cases.ts';
import { MACVLAN_CASES } from './sub-interface-cases.ts';
import { enterFreshNetns, ip, netnsFolder, openDescriptors, sh } from './namespace.ts';

const STRANGER_MAC = mac('02:00:5e:00:00:07');
const FOLDER = '/cnm-kernel-test';
const FOREIGN = '/docker-netns';

function fakeWorld(): World {
  const kernel = fakeKernel();
  return {
    kernel,
    path: (name) => join(FOLDER, name),
    foreignPath: (name) => join(FOREIGN, name),
    addBridge: (name, address) => {
      kernel.addLink({
        name,
        kind: 'bridge',
        mac: STRANGER_MAC,
        ...(address !== undefined && { addresses: [address] }),
      });
    },
    destroyLink: (name) => {
      kernel.destroyLink(name);
    },
    occupyPort: (ports) => {
      kernel.occupyPort(ports, 'stranger');
    },
    addNetns: (path) => {
      kernel.addNetns(path);
    },
    destroyNetns: (path) => {
      kernel.destroyNetns(path);
    },
    moveAway: (link, path, as) => {
      kernel.moveAway(link, path, as);
    },
    moveBack: (path, as, name) => {
      kernel.moveBack(path, as, name);
    },
  };
}

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

async function linuxWorld(netnsDir: string, foreign: string, stranger: PortHolder): Promise<World> {
  const kernel = await openKernel({ netnsDir, log: quiet });
  await kernel.prepare();
  return {
    kernel,
    path: (name) => join(netnsDir, name),
    foreignPath: (name) => join(foreign, name),
    addBridge: (name, address) => {
      ip(`link add ${name} address ${STRANGER_MAC} type bridge`);
      ip(`link set ${name} up`);
      if (address !== undefined) ip(`addr add ${address} dev ${name}`);
    },
    destroyLink: (name) => {
      ip(`link del ${name}`);
    },
    occupyPort: (ports) => {
      stranger.hold(ports);
    },
    addNetns: (path) => {
      writeFileSync(path, '');
      sh(`unshare --net sh -c 'ip link set lo up; mount --bind /proc/self/ns/net ${path}'`);
    },
    destroyNetns: (path) => {
      sh(`umount ${path}`);
      rmSync(path);
    },
    moveAway: (link, path, as) => {
      ip(`link set ${link} netns ${path} name ${as}`);
      ip(`link set ${as} up`, path);
    },
    moveBack: (path, as, name) => {
      ip(`link set ${as} down`, path);
      ip(`link set ${as} netns ${String(process.pid)} name ${name}`, path);
    },
  };
}

const ALL_CASES = { ...CASES, ...MACVLAN_CASES, ...TUNNEL_CASES, ...UPLINK_CASES, ...IPSEC_CASES };

t.test('the fake kernel and the real one', async (t) => {
  const open: number[] = [];
  for (const [name, run] of Object.entries(ALL_CASES)) {
    await t.test(name, async (t) => {
      const [ours, foreign] = [await netnsFolder(), await netnsFolder()];
      const stranger = new PortHolder(await enterFreshNetns());
      const world = await linuxWorld(ours.path, foreign.path, stranger);
      try {
        const real = plain(await run(world), [ours.path, foreign.path]);
        t.same(real, plain(await run(fakeWorld()), [FOLDER, FOREIGN]));
      } finally {
        await world.kernel.close();
        stranger.close();
        ours.remove();
        foreign.remove();
      }
      t.notOk(existsSync(ours.path));
      open.push(openDescriptors());
    });
  }
  // The first case opens what Node keeps for child processes.
  t.equal(open.at(-1), open[0], 'every descriptor is closed');
});

/** As JSON has it, without `undefined`, and without the folders' names. */
function plain(seen: unknown, folders: readonly string[]): unknown {
  const text = folders.reduce((all, folder) => all.replaceAll(folder, ''), JSON.stringify(seen));
  return JSON.parse(text) as unknown;
}
