import t from 'tap';
import { RULE_COUNT, rulesetText, SET_NAMES, VERSION_SET } from './ruleset.ts';

const text = rulesetText();
const rules = text
  .split('\n')
  .map((line) => line.trim())
  .filter((line) => /(?:accept|drop|masquerade|goto \w+)$/.test(line) && !line.startsWith('#'));

t.test('one transaction that replaces the table, whether it is there or not', (t) => {
  t.match(text, /^add table inet cnm\ndelete table inet cnm\ntable inet cnm \{\n/);
  for (const name of [...SET_NAMES, VERSION_SET]) {
    t.equal(text.split(`set ${name} {`).length, 2, name);
  }
  t.end();
});

t.test('each rule says why it is there, and is counted', (t) => {
  t.equal(rules.length, RULE_COUNT);
  for (const rule of rules)
    t.match(text, new RegExp(`# [^\\n]+\\n\\t\\t${rule.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\n`), rule);
  t.end();
});

t.test('no rule of a hook gives a verdict without naming a set of ours', (t) => {
  const hooked = rules.filter(
    (rule) => !['ct state established,related accept', 'ct status dnat accept', 'drop'].includes(rule),
  );
  for (const rule of hooked) t.match(rule, /@(?:bridges|same_bridge|internal|masquerade[46])/);
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
  ] as const);
  const lines = rulesetText(elements)
    .split('\n')
    .filter((line) => line.startsWith('add element'));
  t.same(lines, [
    'add element inet cnm bridges { "br0" }',
    'add element inet cnm bridges { "tcp" }',
    'add element inet cnm same_bridge { "br0" . "br1" }',
  ]);
  t.end();
});
