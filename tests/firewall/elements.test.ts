/**
 * Our encoder of set elements against nft(8), which reads them back, and the transactions that carry them; and the watch
 * for changes by others. Everything happens in one network namespace, made for this process.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openForwardAccepts } from '../../kernel/accept.ts';
import { watchFirewall } from '../../kernel/firewall-watch.ts';
import { KernelError } from '../../kernel/kernel.ts';
import { openFirewall } from '../../kernel/nftables.ts';
import { OwnPorts } from '../../kernel/own-ports.ts';
import { VERSION_SET } from '../../kernel/ruleset.ts';
import type { NftElement } from '../../kernel/step.ts';
import { enterFreshNetns } from '../kernel/namespace.ts';
import { until } from '../lab/command.ts';
import { networkElements, nftElements, NO_ELEMENTS, sh } from './world.ts';

const sys = await enterFreshNetns();
const own = new OwnPorts();
const firewall = openFirewall(sys, own);
t.teardown(() => {
  firewall.close();
});

type Element = Pick<NftElement, 'set' | 'key' | 'data'>;
const errnoOf = (act: () => void): string => {
  try {
    act();
    return 'success';
  } catch (error) {
    return error instanceof KernelError ? error.errno : String(error);
  }
};

t.test('no table', (t) => {
  t.same(firewall.dump(), { elements: undefined, rulesetCurrent: false });
  t.equal(
    errnoOf(() => {
      firewall.change(networkElements('br0'), []);
    }),
    'ENOENT',
    'nothing can be added',
  );
  firewall.change([], networkElements('br0'));
  t.same(firewall.dump().elements, undefined, 'what is removed is gone already');
  t.end();
});

t.test('elements as nft reads them', async (t) => {
  await firewall.prepare();
  t.equal(firewall.dump().rulesetCurrent, true);
  const names = ['b', 'cnm-0123456789a', 'eth0.100', 'ünï', 'tcp'];
  firewall.change(
    names.flatMap((name) => networkElements(name)),
    [],
  );
  const { bridges, same_bridge } = nftElements();
  t.same(bridges, [...names].sort());
  t.same(same_bridge, names.map((name) => `${name} . ${name}`).sort());
  const { elements } = firewall.dump();
  t.same([...(elements?.get('same_bridge')?.keys() ?? [])].sort(), same_bridge);
  firewall.change(
    [],
    names.flatMap((name) => networkElements(name)),
  );
  t.same(nftElements(), NO_ELEMENTS);
});

t.test('every kind of element as nft reads it', (t) => {
  const elements: readonly Element[] = [
    { set: 'snat4', key: ['br0'], data: ['192.0.2.1'] },
    { set: 'snat6', key: ['br0'], data: ['2001:db8::1'] },
    { set: 'open4', key: ['10.1.0.2', 'tcp', '80'] },
    { set: 'open6', key: ['fd00::2', 'sctp', '80'] },
    { set: 'trusted', key: ['eth0', 'br0'] },
    { set: 'publish4', key: ['tcp', '192.0.2.1', '8080'], data: ['10.1.0.2', '80'] },
    { set: 'publish4_any', key: ['udp', '53'], data: ['10.1.0.2', '5353'] },
    { set: 'publish4_range', key: ['tcp', '192.0.2.1', '8000-8010'], data: ['10.1.0.2'] },
    { set: 'publish4_range', key: ['tcp', '192.0.2.1', '8011'], data: ['10.1.0.3'] },
    { set: 'publish4_any_range', key: ['udp', '1-65535'], data: ['10.1.0.2'] },
    { set: 'publish6', key: ['tcp', '2001:db8::1', '8080'], data: ['fd00::2', '80'] },
    { set: 'publish6_any', key: ['sctp', '8080'], data: ['fd00::2', '80'] },
    { set: 'publish6_range', key: ['tcp', '2001:db8::1', '8000-8010'], data: ['fd00::2'] },
    { set: 'publish6_any_range', key: ['tcp', '8000-8010'], data: ['fd00::2'] },
    { set: 'guarded4', key: ['tcp', '0.0.0.0/0', '8080'] },
    { set: 'guarded4', key: ['udp', '192.0.2.1', '8000-8010'] },
    { set: 'guarded6', key: ['sctp', '2001:db8::1', '8080'] },
    { set: 'guarded6', key: ['tcp', '::/0', '8000-8010'] },
    { set: 'gates', key: ['cnmg0i'] },
    { set: 'inside4', key: ['10.1.0.0/24', 'br0'] },
    { set: 'inside6', key: ['fd00:1::/64', 'br0'] },
  ];
  const expected: Record<string, string[]> = {};
  for (const { set, key, data } of elements) {
    (expected[set] ??= []).push([key, data].flatMap((part) => part?.join(' . ') ?? []).join(' : '));
  }
  firewall.change(elements, []);
  t.same(nftElements(), { ...NO_ELEMENTS, ...expected });
  const ours = [...(firewall.dump().elements ?? [])].flatMap(([set, held]) =>
    [...held].map(([key, data]) => `${set} ${key} ${data}`),
  );
  t.same(
    ours.sort(),
    elements.map(({ set, key, data = [] }) => `${set} ${key.join(' . ')} ${data.join(' . ')}`).sort(),
  );
  firewall.change(
    [],
    elements.map(({ set, key }) => ({ set, key })),
  );
  t.same(nftElements(), NO_ELEMENTS, 'and removed by their keys');
  t.end();
});

t.test('adds that tell what is new', (t) => {
  const element = (port: string): Element => ({
    set: 'publish4_any',
    key: ['tcp', port],
    data: ['10.1.0.2', '80'],
  });
  const [one, two, three] = [element('8001'), element('8002'), element('8003')];
  t.same(firewall.add([one, two]), [one, two]);
  t.same(firewall.add([one, three]), [three]);
  t.same(firewall.add([one, three]), []);
  t.equal(nftElements().publish4_any?.length, 3);
  const other = { ...two, data: ['10.1.0.3', '80'] };
  t.match(
    errnoOf(() => {
      firewall.add([element('8004'), other]);
    }),
    /^(?:EBUSY|EEXIST)$/,
    'another container’s',
  );
  t.equal(nftElements().publish4_any?.length, 3, 'and then nothing is added');
  const range = { set: 'publish4_any_range' as const, key: ['tcp', '8000-8010'], data: ['10.1.0.2'] };
  t.same(firewall.add([range]), [range]);
  t.same(firewall.add([range]), []);
  t.equal(
    errnoOf(() => {
      firewall.add([{ ...range, key: ['tcp', '8005-8020'] }]);
    }),
    'EEXIST',
    'ranges that overlap',
  );
  firewall.change([], [one, two, three, range]);
  t.end();
});

t.test('adding and removing twice', (t) => {
  firewall.change(networkElements('br0'), []);
  firewall.change(networkElements('br0'), []);
  t.same(nftElements().bridges, ['br0']);
  firewall.change([], [...networkElements('gone'), ...networkElements('br0')]);
  t.same(nftElements(), NO_ELEMENTS, 'what is gone does not keep the rest');
  firewall.change([], networkElements('br0'));
  firewall.change(networkElements('br1'), networkElements('br0'));
  t.same(nftElements().bridges, ['br1'], 'a remove of what is gone does not keep the adds');
  firewall.change(networkElements('br1'), networkElements('br1'));
  t.same(nftElements().bridges, ['br1'], 'removes come first');
  firewall.change([], networkElements('br1'));
  t.end();
});

t.test('all or nothing', (t) => {
  sh('nft flush chain inet cnm postrouting; nft delete set inet cnm masquerade6');
  t.equal(
    errnoOf(() => {
      firewall.change(networkElements('br0'), []);
    }),
    'ENOENT',
    'one of the sets is not there',
  );
  t.same(nftElements().bridges, [], 'and the elements of the others were not added');
  t.equal(firewall.dump().rulesetCurrent, false);
  t.end();
});

t.test('a damaged or other table is replaced, and its elements stay', async (t) => {
  const damages = [
    'nft flush chain inet cnm forward',
    'nft delete chain inet cnm forward',
    `nft delete set inet cnm ${VERSION_SET}`,
    `nft delete set inet cnm ${VERSION_SET}; nft add set inet cnm version_0 "{ type mark; }"`,
    'nft flush chain ip cnm to_gate',
    'nft delete table ip6 cnm',
    'nft flush chain inet cnm postrouting; nft delete set inet cnm masquerade6',
  ];
  await firewall.prepare();
  firewall.change([...networkElements('br0'), ...networkElements('br1')], []);
  const before = nftElements();
  for (const damage of damages) {
    sh(damage);
    t.equal(firewall.dump().rulesetCurrent, false, damage);
    await firewall.prepare();
    t.equal(firewall.dump().rulesetCurrent, true);
    const kept = damage.includes('masquerade6') ? { ...before, masquerade6: [] } : before;
    t.same(nftElements(), kept);
    firewall.change(networkElements('br0').concat(networkElements('br1')), []);
  }
  sh('nft delete set inet cnm masquerade6 2>/dev/null || true');
});

t.test('the table never goes while it is replaced, and a change meanwhile is not lost', async (t) => {
  const seen = new Set<string>();
  let changed = false;
  // Once more where it was replaced between two looks of a process that had to wait for its turn.
  for (let attempt = 0; !changed && attempt < 50; attempt += 1) {
    sh(`nft delete set inet cnm ${VERSION_SET}`);
    const state = { loading: true };
    const load = firewall.prepare().finally(() => {
      state.loading = false;
    });
    for (let i = 0; state.loading; i += 1) {
      const { elements } = firewall.dump();
      seen.add(
        elements === undefined ? 'no table' : `bridges ${elements.get('bridges')?.has('br0') === true}`,
      );
      if (i === 2) {
        firewall.change(networkElements('late'), networkElements('br1'));
        changed = true;
      }
      await sleep(0);
    }
    await load;
  }
  t.ok(changed);
  t.same([...seen], ['bridges true']);
  t.same(nftElements().bridges, ['br0', 'late']);
});

t.test('a load that fails leaves the table as it was', async (t) => {
  const before = sh('nft list table inet cnm');
  sh(`nft delete set inet cnm ${VERSION_SET}`);
  const path = process.env.PATH;
  const folder = t.testdir();
  writeFileSync(`${folder}/nft`, '#!/bin/sh\necho "Error: no room" >&2\nexit 1\n', { mode: 0o755 });
  process.env.PATH = `${folder}:${path ?? ''}`;
  const failure: unknown = await firewall.prepare().catch((error: unknown) => error);
  process.env.PATH = path;
  t.match(failure, { name: 'KernelError', operation: 'nft', detail: 'Error: no room' });
  await firewall.prepare();
  t.equal(sh('nft list table inet cnm'), before);
});

t.test('many elements in one transaction', (t) => {
  const many = Array.from({ length: 5000 }, (_, i) => ({ set: 'bridges' as const, key: [`many${i}`] }));
  firewall.change(many, []);
  t.equal(firewall.dump().elements?.get('bridges')?.size, 5002);
  firewall.change([], [{ set: 'bridges', key: ['gone'] }, ...many]);
  t.equal(firewall.dump().elements?.get('bridges')?.size, 2);
  t.end();
});

/** So many announcements; and then a while, in which no other is to come. */
async function heard(seen: readonly string[], count: number): Promise<void> {
  await until('an announcement', 15_000, () => seen.length >= count || undefined);
  await sleep(900);
}

t.test('changes by others are announced, our own are not', async (t) => {
  const accepts = openForwardAccepts(sys, own);
  sh('iptables-nft -N DOCKER-USER');
  const seen: string[] = [];
  const stop = watchFirewall(sys, (change) => seen.push(change), own);
  firewall.change(networkElements('br7'), []);
  sh(':');
  await accepts.apply({ do: 'forward.accept', bridge: 'br7', mark: { network: 'a'.repeat(64) } });
  await sleep(900);
  t.same(seen, [], 'our elements and our accept rules');
  sh('nft flush ruleset');
  await heard(seen, 1);
  t.same(seen, ['firewall']);
  sh('for i in 1 2 3 4 5 6 7 8 9; do nft add table ip stranger; nft delete table ip stranger; done');
  await heard(seen, 2);
  t.same(seen, ['firewall', 'firewall'], 'a burst is one announcement');
  stop();
  sh('nft add table ip stranger');
  await sleep(500);
  t.equal(seen.length, 2);
  accepts.close();
});

t.test('what did not fit the buffer is announced as a resync', async (t) => {
  const seen: string[] = [];
  const stop = watchFirewall(sys, (change) => seen.push(change), own);
  // Some 30 MB of announcements, while this thread looks at none of them.
  const elements = Array.from({ length: 15_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  const file = `${t.testdir()}/flood.nft`;
  writeFileSync(file, `add element ip flood s { ${elements.join(', ')} }\n`);
  sh(`nft add table ip flood
    nft 'add set ip flood s { type ipv4_addr; }'
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do nft -f ${file}; nft flush set ip flood s; done`);
  await heard(seen, 1);
  t.same(seen, ['resync']);
  stop();
  sh('nft delete table ip flood');
});
