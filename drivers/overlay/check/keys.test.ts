/** What two hosts say of their keys to each other, and what is made of it. */
import t from 'tap';
import { ip } from '../../../address/ip.ts';
import type { Encryption } from '../../../cnm/driver.ts';
import { keysDiffer, keysSaid } from './keys.ts';
import { decodeMessage, encodeMessage, type Answer } from './message.ts';

const KEYS: Encryption = { secrets: ['s'.repeat(32)], period: 40_000, sending: 40_000, lasts: 3_600_000 };
const PEER = ip('192.0.2.2');

t.test('other secrets, other periods, other clocks', (t) => {
  const between = (theirs: Partial<Encryption>) =>
    keysDiffer(keysSaid(KEYS), keysSaid({ ...KEYS, ...theirs }), PEER)?.what;
  t.equal(between({}), undefined);
  t.equal(
    between({ secrets: ['t'.repeat(32), 's'.repeat(32)] }),
    undefined,
    'while one takes the place of another',
  );
  for (const period of [39_999, 40_001])
    t.equal(between({ period }), undefined, 'clocks are never quite the same');
  t.match(between({ secrets: ['t'.repeat(32)] }), /192\.0\.2\.2 have different secrets/);
  t.match(between({ lasts: 60_000 }), /every 3600 s here and every 60 s on 192\.0\.2\.2/);
  t.match(between({ period: 40_002 }), /The clock of 192\.0\.2\.2 is 2 periods of keys ahead/);
  t.match(between({ period: 39_990 }), /is 10 periods of keys behind/);
  t.end();
});

t.test('it goes over the wire, and no secret with it', (t) => {
  const side = { present: true, listed: true, pools: [], ranges: [], encrypted: true };
  const said = keysSaid(KEYS);
  const keys = { ...said, prints: [...said.prints] };
  const answer: Answer = {
    ...{ say: 'answer', id: 'x', question: 1, from: PEER, heard: 'icmp', way: 'icmp', clock: 0 },
    side: { ...side, keys },
  };
  const bytes = encodeMessage(answer);
  t.same(decodeMessage(bytes), answer);
  t.notOk(bytes.includes('sss'));
  t.match(keys.prints, [/^[0-9a-f]{8}$/]);
  t.end();
});
