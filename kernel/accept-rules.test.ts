import t from 'tap';
import { completeIn, edit, parseListing, rulesOf } from './accept-rules.ts';
import type { Accept } from './accept-rules.ts';

const A: Accept = { bridge: 'cnm-a', network: 'aaaaaaaaaaaa' };
const B: Accept = { bridge: 'cnm-b', network: 'bbbbbbbbbbbb' };
const STAGE2 = 'DOCKER-ISOLATION-STAGE-2';
const USER = '-s 192.0.2.0/24 -j DROP';

/** What iptables 1.8.9 lists of a host with Docker 20.10 and these rules in DOCKER-USER. */
const listing = (...rules: readonly string[]): string =>
  [
    '-P INPUT ACCEPT',
    '-P FORWARD DROP',
    '-P OUTPUT ACCEPT',
    '-N DOCKER',
    `-N ${STAGE2}`,
    '-N DOCKER-USER',
    '-A FORWARD -j DOCKER-USER',
    ...rules.map((rule) => `-A DOCKER-USER ${rule}`),
    '',
  ].join('\n');

function edited(text: string, adds: readonly Accept[], removes: readonly Accept[] = []): readonly string[] {
  const { rules = [], guards } = parseListing(text);
  const lines = edit({ rules, guards }, adds, removes)?.input.split('\n') ?? [];
  return lines.filter((line) => line.startsWith('-'));
}

const groupA = rulesOf(A, [STAGE2]);

t.test('a listing', (t) => {
  t.same(parseListing(listing(USER, '-j RETURN')), { rules: [USER, '-j RETURN'], guards: [STAGE2] });
  t.same(parseListing(listing()), { rules: [], guards: [STAGE2] });
  t.same(parseListing('-P INPUT ACCEPT\n-N DOCKER-USER-X\n'), { rules: undefined, guards: [] });
  t.end();
});

t.test('guards first, then in and out', (t) => {
  t.same(groupA, [
    `-i cnm-a ! -o cnm-a -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "cnm aaaaaaaaaaaa" -j ${STAGE2}`,
    '-i cnm-a -m comment --comment "cnm aaaaaaaaaaaa" -j ACCEPT',
    '-o cnm-a -m comment --comment "cnm aaaaaaaaaaaa" -j ACCEPT',
  ]);
  t.equal(rulesOf(A, ['DOCKER-BRIDGE', 'DOCKER-INTERNAL']).length, 4);
  t.end();
});

t.test('put behind the user’s rules and before the RETURN', (t) => {
  t.same(
    edited(listing(USER, '-j RETURN'), [A]),
    groupA.map((rule, i) => `-I DOCKER-USER ${i + 2} ${rule}`),
  );
  t.same(
    edited(listing(USER), [A]),
    groupA.map((rule) => `-A DOCKER-USER ${rule}`),
    'a chain without RETURN, as from Engine 28',
  );
  t.same(
    edited(listing('-j RETURN', USER), [A]),
    groupA.map((rule, i) => `-I DOCKER-USER ${i + 1} ${rule}`),
    'behind a RETURN nothing is ever reached',
  );
  t.end();
});

t.test('what is whole is left alone', (t) => {
  for (const rules of [
    [...groupA, '-j RETURN'],
    [USER, ...groupA, ...rulesOf(B, [STAGE2])],
    [...groupA, '-j RETURN', USER],
  ]) {
    t.same(edited(listing(...rules), [A]), []);
    t.match(completeIn(parseListing(listing(...rules))), [A]);
  }
  t.end();
});

t.test('what is not whole is made anew', (t) => {
  const [guard = '', inward = '', outward = ''] = groupA;
  const broken = [
    [guard, inward],
    [inward, outward],
    [guard, outward, inward],
    [guard, inward, outward, outward],
    [guard, inward, outward, USER],
    ['-j RETURN', guard, inward, outward],
  ];
  for (const rules of broken) {
    t.same(completeIn(parseListing(listing(...rules))), []);
    const lines = edited(listing(...rules), [A]);
    const stale = rules.filter((rule) => groupA.includes(rule));
    t.same(
      lines.slice(0, stale.length),
      stale.map((rule) => `-D DOCKER-USER ${rule}`),
    );
    t.equal(lines.length, stale.length + 3);
  }
  t.end();
});

t.test('taken out: exactly ours, with doubles', (t) => {
  const strangers = [
    USER,
    '-i cnm-a -m comment --comment "cnm" -j ACCEPT',
    '-i cnm-a -m comment --comment "cnm aaaaaaaaaaaab and more" -j ACCEPT',
    '-i cnm-a -j ACCEPT',
    '-i cnm-b -m comment --comment "cnm aaaaaaaaaaaa" -j ACCEPT',
    ...rulesOf(B, [STAGE2]),
  ];
  const rules = [...strangers, ...groupA, ...groupA.slice(1), '-j RETURN'];
  t.same(
    edited(listing(...rules), [], [A]),
    [...groupA, ...groupA.slice(1)].map((rule) => `-D DOCKER-USER ${rule}`),
  );
  t.same(edited(listing(...strangers), [], [A]), []);
  t.end();
});
