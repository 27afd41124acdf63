import t from 'tap';
import { RULE_COUNT, rulesetText, VERSION_SET } from './ruleset.ts';
import { SET_NAMES, SETS } from './sets.ts';

const text = rulesetText();
const rules = text
  .split('\n')
  .map((line) => line.trim())
  .filter(
    (line) =>
      /(?:accept|drop|return|masquerade|reject|tcp reset|goto \w+|map @\w+|ct mark set \w+|dnat to :\d+)$/.test(
        line,
      ) && !line.startsWith('#'),
  );

t.test('one transaction that replaces the table, whether it is there or not', (t) => {
  for (const family of ['inet', 'ip', 'ip6']) {
    t.match(text, new RegExp(`^add table ${family} cnm\ndelete table ${family} cnm\n`, 'm'));
    t.equal(text.split(`\ntable ${family} cnm {\n`).length, 2);
  }
  for (const name of [...SET_NAMES, VERSION_SET]) {
    t.equal(text.split(new RegExp(`(?:set|map) ${name} \\{`)).length, 2, name);
  }
  t.end();
});

t.test('each rule says why it is there, and is counted', (t) => {
  t.equal(rules.length, RULE_COUNT);
  for (const rule of rules)
    t.match(text, new RegExp(`# [^\\n]+\\n\\t\\t${rule.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\n`), rule);
  t.end();
});

t.test('every set is looked up, and only what is there', (t) => {
  const used = new Set(rules.flatMap((rule) => [...rule.matchAll(/@(\w+)/g)].map(([, name]) => name)));
  t.same([...used].sort(), [...SET_NAMES].sort());
  for (const name of SET_NAMES) {
    const ranges = /_range$|^guarded|^inside|^alike/.test(name);
    t.equal(SETS[name].interval === true, ranges, `${name}: hashed, unless it holds ranges`);
  }
  t.end();
});

t.test('no rule of a hook gives a verdict without naming a set of ours', (t) => {
  // Those of into_bridge, which is jumped to for our bridges alone; and those that look no further than at a translation.
  const bare = [
    'ct direction reply accept',
    'ct state established,related accept',
    'ct status dnat accept',
    'drop',
  ];
  const harmless = /^meta nfproto ipv[46] fib daddr type local goto translate[46]$|return$/;
  // What only packets that another rule marked can meet.
  const marked = /^ct state new ct mark 0x00636e6d /;
  for (const rule of rules.filter((one) => !bare.includes(one) && !harmless.test(one) && !marked.test(one))) {
    t.match(rule, /@/, rule);
  }
  t.end();
});

t.test('elements are put back by name, those that nft’s notation cannot hold are left out', (t) => {
  const elements = new Map([
    [
      'bridges',
      new Map([
        ['br0', ''],
        ['tcp', ''],
        ['a"b', ''],
        ['a*', ''],
      ]),
    ],
    ['same_bridge', new Map([['br0 . br1', '']])],
    ['hairpin', new Map([['a"b . a"b', '']])],
    ['snat4', new Map([['br0', '192.0.2.1']])],
    ['publish4_any_range', new Map([['tcp . 8000-8010', '10.1.0.2']])],
  ] as const);
  const lines = rulesetText(elements)
    .split('\n')
    .filter((line) => line.startsWith('add element'));
  t.same(lines, [
    'add element inet cnm bridges { "br0", "tcp" }',
    'add element inet cnm same_bridge { "br0" . "br1" }',
    'add element inet cnm snat4 { "br0" : 192.0.2.1 }',
    'add element inet cnm publish4_any_range { tcp . 8000-8010 : 10.1.0.2 }',
  ]);
  t.end();
});
