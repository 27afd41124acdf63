/**
 * The real kernel, seen with ip(8). Each test has a network namespace of its own:
 *
 *     this process ── fresh netns:  br-test ── outer ═ inner ──> netns files box, other
 *                                   stranger (a bridge that is not ours)
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { Kernel, KernelChange } from '../../kernel/kernel.ts';
import { openKernel } from '../../kernel/linux.ts';
import type { KernelOptions } from '../../kernel/linux.ts';
import { listNetns, withNetns } from '../../kernel/netns.ts';
import type { Plan, Step } from '../../kernel/step.ts';
import type { Syscalls } from '../../kernel/syscall.ts';
import {
  BRIDGE,
  ENDPOINT,
  ENDPOINT_PLAN,
  errnoOf,
  mac,
  NETWORK,
  NETWORK_PLAN,
  prefix,
  sandboxPlan,
  VETH,
} from './cases.ts';
import { until } from '../lab/command.ts';
import { enterFreshNetns, ip, ipJson, linkNames, netnsFolder, openDescriptors, sh } from './namespace.ts';

interface Place {
  readonly kernel: Kernel;
  readonly sys: Syscalls;
  readonly path: (name: string) => string;
  readonly folder: string;
}

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** @param body What is tested; the place is gone afterwards, whatever happens. */
async function inPlace(
  body: (place: Place) => Promise<void>,
  options: Partial<KernelOptions> = {},
): Promise<void> {
  const folder = await netnsFolder();
  const sys = await enterFreshNetns();
  const kernel = await openKernel({ netnsDir: folder.path, log: quiet, ...options });
  try {
    await kernel.prepare();
    await body({ kernel, sys, folder: folder.path, path: (name) => join(folder.path, name) });
  } finally {
    await kernel.close();
    folder.remove();
  }
}

/** What a call that must fail fails with. */
async function failure(act: Promise<unknown>): Promise<unknown> {
  return act.then(
    () => 'no failure',
    (error: unknown) => error,
  );
}

function link(name: string, netns?: string): Record<string, unknown> {
  return ipJson(`link show dev ${name}`, netns)[0] ?? {};
}

/** No IPv6 link-local addresses, no `valid_lft`. */
function addresses(name: string, netns?: string): readonly string[] {
  const infos = ipJson(`addr show dev ${name}`, netns)[0]?.['addr_info'] as readonly Record<
    string,
    unknown
  >[];
  return infos
    .filter(({ scope }) => scope === 'global')
    .map(
      ({ local, prefixlen, nodad }) =>
        `${String(local)}/${String(prefixlen)}${nodad === true ? ' nodad' : ''}`,
    );
}

t.test('a network, an endpoint and a sandbox, as ip(8) shows them', async (t) => {
  await inPlace(async ({ kernel, path }) => {
    const box = path('box');
    for (const plan of [NETWORK_PLAN, ENDPOINT_PLAN]) await kernel.apply(plan);
    t.match(link('br-test'), {
      mtu: 1400,
      group: String(0x636e6d),
      address: '02:42:00:00:00:01',
      ifalias: `cnm ${NETWORK}`,
      linkinfo: { info_kind: 'bridge' },
    });
    t.ok((link('br-test')['flags'] as string[]).includes('UP'));
    t.same(addresses('br-test'), ['10.9.0.1/24', 'fd00:9::1/64 nodad']);
    t.match(link('outer'), {
      master: 'br-test',
      link: 'inner',
      mtu: 1400,
      address: '02:42:00:00:00:02',
      inet6_addr_gen_mode: 'none',
      ifalias: `cnm ${NETWORK} ${ENDPOINT}`,
    });
    t.match(link('inner'), {
      mtu: 1400,
      address: '02:42:0a:09:00:02',
      ifalias: `cnm ${NETWORK} ${ENDPOINT}`,
    });
    t.match(readFileSync('/proc/sys/net/ipv6/conf/br-test/accept_ra', 'utf8'), '0\n');
    t.match(sh('nft list set inet cnm bridges'), /"br-test"/);

    await kernel.apply(sandboxPlan(box));
    t.same(linkNames(), ['br-test', 'outer']);
    t.same(linkNames(box), ['eth0']);
    t.match(link('lo', box), { flags: ['LOOPBACK', 'UP', 'LOWER_UP'] });
    t.match(link('eth0', box), { address: '02:42:0a:09:00:02', ifalias: `cnm ${NETWORK} ${ENDPOINT}` });
    t.same(addresses('eth0', box), ['10.9.0.2/24', 'fd00:9::2/64 nodad']);
    const routes = ['-4', '-6'].flatMap((family) => ipJson(`${family} route show proto 110`, box));
    t.match(routes, [
      { dst: 'default', gateway: '10.9.0.1', dev: 'eth0' },
      { dst: '192.0.2.0/24', scope: 'link', dev: 'eth0' },
      { dst: 'default', gateway: 'fd00:9::1', dev: 'eth0' },
    ]);
    t.match(sh(`nsenter --net=${box} ping -c 1 -W 10 10.9.0.1`), /1 received/);
    t.match(sh(`nsenter --net=${box} ping -6 -c 1 -W 10 fd00:9::1`), /1 received/);

    for (const plan of [sandboxPlan(box), ENDPOINT_PLAN, NETWORK_PLAN]) await kernel.revert(plan);
    t.same(linkNames(), []);
    t.notOk(existsSync(box));
    t.notMatch(sh('nft list set inet cnm bridges'), /br-test/);
  });
});

t.test('a bridge keeps its MTU and its MAC when ports come and go', async (t) => {
  await inPlace(async ({ kernel }) => {
    await kernel.apply(NETWORK_PLAN);
    for (let i = 0; i < 3; i += 1) {
      await kernel.apply(ENDPOINT_PLAN);
      await kernel.revert(ENDPOINT_PLAN);
    }
    t.match(link('br-test'), { mtu: 1400, address: '02:42:00:00:00:01' });
  });
});

t.test('a moved link gets the MAC that the step names', async (t) => {
  await inPlace(async ({ kernel, path }) => {
    await kernel.apply([
      VETH,
      { do: 'netns.add', path: path('box') },
      { do: 'link.move', link: 'inner', to: path('box'), as: 'eth0', mac: mac('02:42:0a:09:00:33') },
    ]);
    t.equal(link('eth0', path('box'))['address'], '02:42:0a:09:00:33');
  });
});

t.test('errors carry the step, the errno and the kernel’s own words', async (t) => {
  await inPlace(async ({ kernel }) => {
    t.match(await failure(kernel.apply([{ ...BRIDGE, mtu: 70_000 }])), {
      name: 'KernelError',
      errno: 'EINVAL',
      operation: /^ip link add br-test mtu 70000/,
      detail: 'mtu greater than device maximum',
    });
    ip('link add br-test type veth');
    t.match(await failure(kernel.apply([BRIDGE])), {
      errno: 'EEXIST',
      detail: /br-test is there already, not one of ours/,
    });
    t.match(
      await failure(kernel.apply([{ do: 'route.add', to: prefix('10.0.0.0/8'), via: '192.0.2.1' } as Step])),
      {
        errno: 'ENETUNREACH',
        detail: 'Nexthop has invalid gateway',
      },
    );
  });
});

t.test('a move to a taken name leaves the link where it was', async (t) => {
  await inPlace(async ({ kernel, path }) => {
    await kernel.apply([VETH, { do: 'netns.add', path: path('box') }]);
    ip('link add eth0 type bridge', path('box'));
    const move: Step = { do: 'link.move', link: 'inner', to: path('box'), as: 'eth0' };
    t.match(await failure(kernel.apply([move])), { errno: 'EEXIST', detail: /eth0/ });
    t.same(linkNames(), ['inner', 'outer']);
    t.same(linkNames(path('box')), ['eth0']);
    ip('link add inner type bridge', path('box'));
    await kernel.apply([{ ...move, as: 'eth1' }]);
    t.same(linkNames(path('box')), ['eth0', 'eth1', 'inner'], 'the old name may be taken over there');
  });
});

t.test('what a crash leaves half done is finished, and can be taken away', async (t) => {
  await inPlace(async ({ kernel, path }) => {
    // As killed between the create message and the one with the alias.
    const group = `group ${String(0x636e6d)}`;
    ip(`link add outer ${group} mtu 1400 type veth peer name inner ${group} mtu 1400`);
    ip(`link set inner alias "cnm ${NETWORK} ${ENDPOINT}"`);
    const { host } = await kernel.facts();
    t.same(host.links.get('outer')?.mark, { network: '' });
    await kernel.apply([VETH]);
    for (const name of ['outer', 'inner']) t.equal(link(name)['ifalias'], `cnm ${NETWORK} ${ENDPOINT}`);
    t.equal(link('outer')['address'], VETH.mac);
    ip(`link add br-test ${group} type bridge`);
    await kernel.revert([BRIDGE, VETH]);
    t.same(linkNames(), []);

    // As killed between the file and the mount on it.
    writeFileSync(path('box'), '');
    t.same((await kernel.facts({ netns: [path('box')] })).ourNetns, []);
    t.equal(await errnoOf(kernel.apply([{ do: 'link.up', netns: path('box'), link: 'lo' }])), 'ENOENT');
    await kernel.apply([{ do: 'netns.add', path: path('box') }]);
    t.same((await kernel.facts()).ourNetns, [path('box')]);
    writeFileSync(path('other'), '');
    await kernel.revert([
      { do: 'netns.add', path: path('box') },
      { do: 'netns.add', path: path('other') },
    ]);
    t.same([existsSync(path('box')), existsSync(path('other'))], [false, false]);
  });
});

t.test('a namespace whose file somebody takes away goes on, and gets it back', async (t) => {
  await inPlace(async ({ kernel, folder }) => {
    const path = join(folder, 'box');
    const plan: Plan = [
      { do: 'netns.add', path },
      { ...BRIDGE, netns: path },
    ];
    const [before, number] = [openDescriptors(), () => statSync(path).ino];
    await kernel.apply(plan);
    // For those of before a start: whoever looks has it from then on.
    await kernel.facts();
    const first = number();
    // As ip(8) does it, and as umount(8) does.
    for (const way of ['umount -l', 'umount']) {
      sh(`${way} ${path}; rm ${path}`);
      t.same((await kernel.facts({ plans: [plan] })).ourNetns, []);
      await kernel.apply(plan);
      t.equal(number(), first, 'it is the same one');
      t.same(linkNames(path), ['br-test']);
      t.same(kernel.missing(plan, await kernel.facts({ plans: [plan] })), []);
    }
    sh(`umount ${path}; rm ${path}`);
    const cut: Plan = [...plan, { do: 'link.up', netns: path, link: 'nobody' }];
    t.equal(await errnoOf(kernel.apply(cut)), 'ENODEV');
    t.same(linkNames(path), ['br-test'], 'what was there is not undone');
    // In its place there is another one.
    sh(`umount ${path}; unshare --net=${path} true`);
    await kernel.facts();
    const second = number();
    sh(`umount ${path}; rm ${path}`);
    await kernel.apply(plan);
    t.equal(number(), second);
    sh(`umount ${path}; rm ${path}`);
    await kernel.revert(plan);
    t.notOk(existsSync(path));
    t.equal(openDescriptors(), before);
    await kernel.apply(plan);
    t.same(linkNames(path), ['br-test']);
    await kernel.revert(plan);
  });
});

t.test("a stranger's namespace file is not ours to make or to remove", async (t) => {
  await inPlace(async ({ kernel, folder }) => {
    const outside = { do: 'netns.add', path: join(folder, '..', 'cnm-kernel-outside') } as const;
    t.equal(await errnoOf(kernel.apply([outside])), 'EINVAL');
    await kernel.revert([outside]);
    t.notOk(existsSync(outside.path));
  });
});

t.test('an index that is taken already', async (t) => {
  await inPlace(async ({ kernel }) => {
    await kernel.apply([BRIDGE]);
    // We count upwards: the next two are somebody else's.
    const index = Number(link('br-test')['ifindex']);
    for (const n of [1, 2]) ip(`link add index ${index + n} name squatter${n} type bridge`);
    await kernel.apply(ENDPOINT_PLAN);
    t.same(linkNames(), ['br-test', 'inner', 'outer', 'squatter1', 'squatter2']);
    t.equal(link('outer')['master'], 'br-test');
    for (const n of [1, 2]) t.equal(link(`squatter${n}`)['ifalias'], undefined);
  });
});

t.test('steps go out one by one for those who kill the process in between', async (t) => {
  const seen: string[] = [];
  const beforeStep: KernelOptions['beforeStep'] = (step, phase) => {
    seen.push(`${phase} ${step?.do ?? 'end'} ${linkNames().join(' ')}`);
  };
  await inPlace(
    async ({ kernel }) => {
      await kernel.apply([BRIDGE]);
      await kernel.apply(ENDPOINT_PLAN);
      await kernel.revert(ENDPOINT_PLAN);
    },
    { beforeStep },
  );
  t.same(seen, [
    'apply link.add ',
    'apply end br-test',
    'apply link.add br-test',
    'apply link.master br-test inner outer',
    'apply link.up br-test inner outer',
    'apply end br-test inner outer',
    'revert link.add br-test inner outer',
    'revert end br-test',
  ]);
});

t.test('a thousand veths in one plan', async (t) => {
  await inPlace(async ({ kernel }) => {
    // 1023 is what a bridge takes (BR_MAX_PORTS).
    const plan: Plan = Array.from({ length: 1000 }, (_, i) => i).flatMap((i): Plan => {
      const veth = { ...VETH, name: `o${i}`, link: { kind: 'veth', peer: { name: `i${i}` } } } as const;
      return [
        veth,
        { do: 'link.master', link: `o${i}`, master: 'br-test' },
        { do: 'link.up', link: `o${i}` },
      ];
    });
    await kernel.apply(NETWORK_PLAN);
    await kernel.apply(plan);
    const facts = await kernel.facts();
    t.same(kernel.missing(plan, facts), []);
    t.equal(facts.host.links.size, 2002);
    // The last fails: all that went out with it is taken back.
    t.match(await failure(kernel.apply([...plan, { do: 'link.up', link: 'nowhere' }])), {
      errno: 'ENODEV',
    });
    t.equal((await kernel.facts()).host.links.size, 2002, 'what was there before stays');
    await kernel.revert(plan);
    t.same(linkNames(), ['br-test']);
    t.match(await failure(kernel.apply([...plan, { do: 'link.up', link: 'nowhere' }])), { errno: 'ENODEV' });
    t.same(linkNames(), ['br-test']);
  });
});

t.test('more ports than a bridge takes: the whole plan is taken back', async (t) => {
  await inPlace(async ({ kernel }) => {
    const plan: Plan = Array.from({ length: 1030 }, (_, i) => i).flatMap((i): Plan => [
      { ...VETH, name: `o${i}`, link: { kind: 'veth', peer: { name: `i${i}` } } },
      { do: 'link.master', link: `o${i}`, master: 'br-test' },
    ]);
    await kernel.apply([BRIDGE]);
    t.match(await failure(kernel.apply(plan)), {
      errno: 'EXFULL',
      operation: 'ip link set o1023 master br-test',
    });
    t.same(linkNames(), ['br-test']);
  });
});

t.test('many at once', async (t) => {
  await inPlace(async ({ kernel, path }) => {
    await kernel.apply(NETWORK_PLAN);
    const plans = Array.from({ length: 40 }, (_, i): Plan => {
      const text = JSON.stringify([...ENDPOINT_PLAN, ...sandboxPlan(path(`box${i}`))]);
      return JSON.parse(text.replaceAll('"outer"', `"o${i}"`).replaceAll('"inner"', `"i${i}"`)) as Plan;
    });
    const before = openDescriptors();
    for (let round = 0; round < 2; round += 1) {
      await Promise.all(plans.map((plan) => kernel.apply(plan)));
      const facts = await kernel.facts({ plans });
      for (const plan of plans) t.same(kernel.missing(plan, facts), []);
      await Promise.all(plans.map((plan) => kernel.revert(plan)));
      t.same(linkNames(), ['br-test']);
      t.same((await kernel.facts()).ourNetns, []);
    }
    t.equal(openDescriptors(), before);
  });
});

t.test('the watch hears of others, and of what was lost', async (t) => {
  await inPlace(async ({ kernel }) => {
    const heard: KernelChange['what'][] = [];
    const stop = kernel.watch(({ what }) => heard.push(what));
    /** What is heard within a while; `wanted`, however long it takes, and a while more. */
    const after = async (
      act: () => Promise<void> | void,
      wanted?: KernelChange['what'],
    ): Promise<readonly string[]> => {
      await delay(600);
      heard.length = 0;
      await act();
      if (wanted !== undefined) await until(wanted, 15_000, () => heard.includes(wanted) || undefined);
      await delay(600);
      return [...new Set(heard)];
    };
    t.same(await after(() => undefined), []);
    t.same(
      await after(() => {
        ip('link add stranger type bridge');
      }, 'links'),
      ['links'],
    );
    t.same(
      await after(() => {
        ip('addr add 10.8.0.1/24 dev stranger');
      }, 'links'),
      ['links'],
    );
    t.same(
      await after(() =>
        kernel.apply([BRIDGE, { do: 'addr.add', link: 'br-test', prefix: prefix('10.9.0.1/24') }]),
      ),
      [],
      'not of ours',
    );
    t.same(
      await after(() => {
        ip('route add unreachable 198.18.0.0/15');
      }, 'routes'),
      ['routes'],
    );
    t.match(
      await after(() => {
        sh('nft add table inet stranger');
      }, 'firewall'),
      ['firewall'],
    );
    // 4 MiB of notifications, each about 1.5 KB, while nobody reads: this call keeps the event loop.
    const flood = Array.from({ length: 12_000 }, (_, i) => `link set dev stranger mtu ${1400 + (i % 2)}`);
    const file = join(t.testdir(), 'flood');
    writeFileSync(file, flood.join('\n'));
    t.ok(
      (
        await after(() => {
          sh(`ip -batch ${file}`);
        }, 'resync')
      ).includes('resync'),
    );
    t.same(
      await after(() => {
        ip('link del stranger');
      }, 'links'),
      ['links'],
      'and goes on',
    );
    stop();
    t.same(
      await after(() => {
        ip('link add stranger type bridge');
      }),
      [],
    );
  });
});

t.test('the window: inside for the time of one call, and back', async (t) => {
  await inPlace(async ({ kernel, sys, path, folder }) => {
    await kernel.apply([{ do: 'netns.add', path: path('box') }]);
    const here = sh('readlink /proc/self/ns/net');
    const there = withNetns(sys, path('box'), () => sh('readlink /proc/self/ns/net'));
    t.not(there, here);
    t.throws(
      () =>
        withNetns(sys, path('box'), () => {
          throw new Error('inside');
        }),
      { message: 'inside' },
    );
    t.equal(sh('readlink /proc/self/ns/net'), here);
    const entered = Promise.resolve().then(() => withNetns(sys, path('none'), () => 0));
    t.match(await failure(entered), { errno: 'ENOENT' });
    t.same(listNetns(folder), [path('box')]);
    t.same(listNetns(path('none')), []);
  });
});

t.test('nothing stays open', async (t) => {
  const counts: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    await inPlace(async ({ kernel, path }) => {
      const stop = kernel.watch(() => undefined);
      const plan = [...NETWORK_PLAN, ...ENDPOINT_PLAN, ...sandboxPlan(path('box'))];
      await kernel.apply(plan);
      await kernel.facts({ plans: [plan], netns: [path('none')] });
      await errnoOf(kernel.apply([{ do: 'link.up', link: 'nowhere' }]));
      stop();
    });
    counts.push(openDescriptors());
  }
  t.equal(counts[2], counts[0]);
});
