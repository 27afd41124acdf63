/**
 * Our accept rules in DOCKER-USER, with the chains and the policy of Docker 20.10 and of 28, in both forms of iptables.
 *
 *   a1 a2            d1
 *    ╲╱              │
 *   cnm-a ── host ── docker0     10.1.0.0/24 and 172.17.0.0/16; FORWARD policy DROP, bridge-nf-call-iptables=1
 *             │
 *            lan                 192.0.2.0/24
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { openForwardAccepts } from '../../kernel/accept.ts';
import type { ForwardAccept } from '../../kernel/step.ts';
import { addBridge, leftovers, networkElements, openWorld, sh } from './world.ts';

const world = await openWorld('docker');
const { firewall, machine, sys } = world;
const accepts = openForwardAccepts(sys);
t.teardown(() => {
  accepts.close();
  world.close();
  if (leftovers('docker').length > 0) throw new Error('namespaces are left');
});

const NETWORK = '0123456789abcdef'.repeat(4);
const step = (bridge: string, network = NETWORK): ForwardAccept => ({
  do: 'forward.accept',
  bridge,
  mark: { network },
});

addBridge('cnm-a', ['10.1.0.1/24', 'fd00:1::1/64']);
addBridge('docker0', ['172.17.0.1/16', 'fd00:d::1/64']);
const onA = (name: string, host: number): ReturnType<typeof machine> =>
  machine(name, {
    bridge: 'cnm-a',
    addresses: [`10.1.0.${host}/24`, `fd00:1::${host}/64`],
    via: ['10.1.0.1', 'fd00:1::1'],
  });
const a1 = onA('a1', 11);
onA('a2', 12);
const d1 = machine('d1', {
  bridge: 'docker0',
  addresses: ['172.17.0.2/16', 'fd00:d::2/64'],
  via: ['172.17.0.1', 'fd00:d::1'],
});
const lan = machine('lan', {
  hostLink: 'lan0',
  hostAddresses: ['192.0.2.1/24', '2001:db8:1::1/64'],
  addresses: ['192.0.2.2/24', '2001:db8:1::2/64'],
  via: ['192.0.2.1', '2001:db8:1::1'],
});
sh(`
  sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  sysctl -q -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
`);

type Form = 'nft' | 'legacy';
const families = (form: Form): string[] => [`iptables-${form}`, `ip6tables-${form}`];

/** As dockerd sets them up for a bridge docker0 with one container: what `iptables -S` shows of the two Engines. */
const ENGINES = {
  '20.10': `
    -N DOCKER
    -N DOCKER-ISOLATION-STAGE-1
    -N DOCKER-ISOLATION-STAGE-2
    -N DOCKER-USER
    -P FORWARD DROP
    -A FORWARD -j DOCKER-USER
    -A FORWARD -j DOCKER-ISOLATION-STAGE-1
    -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A FORWARD -o docker0 -j DOCKER
    -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
    -A FORWARD -i docker0 -o docker0 -j ACCEPT
    -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
    -A DOCKER-ISOLATION-STAGE-1 -j RETURN
    -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
    -A DOCKER-ISOLATION-STAGE-2 -j RETURN
    -A DOCKER-USER -j RETURN`,
  '28': `
    -N DOCKER
    -N DOCKER-BRIDGE
    -N DOCKER-CT
    -N DOCKER-FORWARD
    -N DOCKER-INTERNAL
    -N DOCKER-USER
    -P FORWARD DROP
    -A FORWARD -j DOCKER-USER
    -A FORWARD -j DOCKER-FORWARD
    -A DOCKER ! -i docker0 -o docker0 -j DROP
    -A DOCKER-BRIDGE -o docker0 -j DOCKER
    -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A DOCKER-FORWARD -j DOCKER-CT
    -A DOCKER-FORWARD -j DOCKER-INTERNAL
    -A DOCKER-FORWARD -j DOCKER-BRIDGE
    -A DOCKER-FORWARD -i docker0 -j ACCEPT`,
};
type Engine = keyof typeof ENGINES;

function startEngine(engine: Engine, form: Form): void {
  for (const iptables of families(form)) {
    for (const rule of ENGINES[engine].trim().split('\n')) sh(`${iptables} ${rule.trim()}`);
  }
}

function stopEngine(form: Form): void {
  for (const iptables of families(form)) {
    sh(`${iptables} -P FORWARD ACCEPT; ${iptables} -F; ${iptables} -X`);
  }
}

const userChain = (iptables: string): string[] =>
  sh(`${iptables} -S DOCKER-USER`)
    .trim()
    .split('\n')
    .filter((line) => line.startsWith('-A'));

t.test('a host without Docker', async (t) => {
  await firewall.prepare();
  firewall.change(networkElements('cnm-a'), []);
  await accepts.apply(step('cnm-a'));
  await accepts.revert(step('cnm-a'));
  t.same(await accepts.dump(), { accepts: [], acceptChain: { v4: false, v6: false }, problems: [] });
  t.notMatch(sh('nft list tables'), 'filter', 'looking makes no table');
  for (const names of ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names']) {
    t.notMatch(existsSync(names) ? readFileSync(names, 'utf8') : '', 'filter', `nor in ${names}`);
  }
});

for (const form of ['nft', 'legacy'] as const) {
  for (const engine of ['20.10', '28'] as const) {
    t.test(`Docker ${engine}, iptables-${form}`, async (t) => {
      startEngine(engine, form);
      t.teardown(() => {
        stopEngine(form);
      });
      t.notOk(a1.reaches('10.1.0.12'), 'Docker’s policy drops even inside the bridge');
      t.notOk(a1.reaches('192.0.2.2'));

      await accepts.apply(step('cnm-a'));
      t.ok(a1.reaches('10.1.0.12') && a1.reaches('fd00:1::12'), 'inside the network');
      t.ok(a1.reaches('192.0.2.2') && a1.reaches('2001:db8:1::2'), 'to the LAN and back');
      t.notOk(lan.reaches('10.1.0.11') || lan.reaches('fd00:1::11'), 'not in from the LAN');
      t.notOk(d1.reaches('10.1.0.11') || d1.reaches('fd00:1::11'), 'not in from a container of Docker’s');
      t.notOk(a1.reaches('172.17.0.2') || a1.reaches('fd00:d::2'), 'nor to one of Docker’s containers');
      t.ok(d1.reaches('192.0.2.2'), 'Docker’s own traffic is as it was');
      const facts = await accepts.dump();
      t.same(facts, {
        accepts: [4, 6].map((family) => ({ family, bridge: 'cnm-a', network: '0123456789ab' })),
        acceptChain: { v4: true, v6: true },
        problems: [],
      });

      const rules = families(form).map(userChain);
      await accepts.apply(step('cnm-a'));
      t.same(families(form).map(userChain), rules, 'applied again: nothing changes');
      await accepts.revert(step('cnm-a'));
      t.same(
        families(form).map(userChain),
        families(form).map(() => (engine === '20.10' ? ['-A DOCKER-USER -j RETURN'] : [])),
      );
      t.notOk(a1.reaches('10.1.0.12'));
    });
  }

  t.test(`the rules of users and of other networks, iptables-${form}`, async (t) => {
    startEngine('20.10', form);
    t.teardown(() => {
      stopEngine(form);
    });
    const [iptables = ''] = families(form);
    const users = [
      '-A DOCKER-USER -s 10.1.0.11/32 -d 192.0.2.2/32 -j DROP',
      '-A DOCKER-USER -i cnm-a -m comment --comment "cnm is what I call it" -j LOG',
    ];
    for (const rule of users.toReversed())
      sh(`${iptables} ${rule.replace('-A DOCKER-USER', '-I DOCKER-USER 1')}`);
    await accepts.apply(step('cnm-a'));
    await accepts.apply(step('cnm-b', 'b'.repeat(64)));
    const chain = userChain(iptables);
    t.same(chain.slice(0, 2), users, 'the user’s come first');
    t.equal(chain.at(-1), '-A DOCKER-USER -j RETURN', 'the RETURN is last');
    t.equal(chain.length, 9);
    t.notOk(a1.reaches('192.0.2.2'), 'what the user drops stays dropped');
    t.ok(a1.reaches('10.1.0.12'));

    sh(`${iptables} -I DOCKER-USER 6 -d 203.0.113.1/32 -j DROP`);
    const [v4] = (await accepts.dump()).accepts.filter(({ family }) => family === 4);
    t.equal(v4?.bridge, 'cnm-b', 'a group that a rule of the user’s comes after is not as it should be');
    await accepts.apply(step('cnm-a'));
    t.match(userChain(iptables)[2], '203.0.113.1', 'and goes behind it');

    sh(`${iptables} -I DOCKER-USER 1 -i cnm-a -m comment --comment "cnm 0123456789ab" -j ACCEPT`);
    t.same(
      (await accepts.dump()).accepts.filter(({ bridge, family }) => bridge === 'cnm-a' && family === 4),
      [],
    );
    await accepts.revert(step('cnm-a'));
    const left = userChain(iptables);
    t.notMatch(left.join('\n'), '0123456789ab', 'doubles go too');
    t.equal(left.filter((rule) => rule.includes('cnm bbbbbbbbbbbb')).length, 3);
    t.equal(left.filter((rule) => !rule.includes('cnm bbbb')).length, 4);
    await accepts.revert(step('cnm-b', 'b'.repeat(64)));
  });
}

t.test('many at once, and a rival that changes the chain meanwhile', async (t) => {
  startEngine('20.10', 'nft');
  t.teardown(() => {
    stopEngine('nft');
  });
  const steps = Array.from({ length: 20 }, (_, i) => step(`cnm-${i}`, String(i).padStart(12, 'c')));
  const rival = setInterval(() => {
    // Deleted by its text: its number may be one of ours by then.
    const rule = 'DOCKER-USER -d 203.0.113.1/32 -j DROP';
    sh(`iptables-nft -I ${rule}; iptables-nft -D ${rule}`);
  }, 5);
  await Promise.all(steps.map((one) => accepts.apply(one)));
  clearInterval(rival);
  t.equal((await accepts.dump()).accepts.length, 40);
  await Promise.all(steps.map((one) => accepts.revert(one)));
  t.same(userChain('iptables-nft'), ['-A DOCKER-USER -j RETURN']);
});

t.test('names that iptables would misread change nothing', async (t) => {
  startEngine('28', 'nft');
  t.teardown(() => {
    stopEngine('nft');
  });
  for (const bridge of ['br+', '-j', 'a b', 'a"b', '', 'x;id', 'a\nCOMMIT', 'a'.repeat(16)]) {
    const failure: unknown = await accepts.apply(step(bridge)).catch((error: unknown) => error);
    t.match(failure, { name: 'KernelError', errno: 'EINVAL' }, JSON.stringify(bridge));
    await t.resolves(accepts.revert(step(bridge)), 'and there is nothing to take away');
  }
  t.same(userChain('iptables-nft'), []);
});

t.test('an iptables that fails is reported, and what the other family took is taken back', async (t) => {
  startEngine('28', 'nft');
  const { PATH } = process.env;
  t.teardown(() => {
    process.env.PATH = PATH;
    stopEngine('nft');
  });
  const folder = t.testdir();
  writeFileSync(`${folder}/ip6tables-nft`, '#!/bin/sh\necho "no such luck" >&2\nexit 3\n', { mode: 0o755 });
  process.env.PATH = `${folder}:${PATH ?? ''}`;
  const failure: unknown = await accepts.apply(step('cnm-a')).catch((error: unknown) => error);
  t.match(failure, { operation: 'ip6tables-nft', errno: 'exit 3', detail: 'no such luck' });
  t.same(userChain('iptables-nft'), []);
  t.match(await accepts.dump(), {
    acceptChain: { v4: true, v6: false },
    problems: ['DOCKER-USER (IPv6, nft): KernelError: ip6tables-nft: exit 3 (no such luck)'],
  });
});
