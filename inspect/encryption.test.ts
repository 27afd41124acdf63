import t from 'tap';
import { ip } from '../address/ip.ts';
import type { Plan } from '../kernel/step.ts';
import { encryptionView } from './encryption.ts';
import { encryptionFields } from './render/encryption.ts';

const [A, B, C] = [ip('192.0.2.1'), ip('192.0.2.2'), ip('192.0.2.3')];
const state = (src: typeof A, dst: typeof A, cipher: 'gcm' | 'cbc') =>
  ({ do: 'xfrm.state.add', src, dst, spi: 256, reqid: 1, cipher, key: 'abcdef' }) as const;
const policy = (dst: typeof A) =>
  ({ do: 'xfrm.policy.add', src: A, dst, port: 4789, mark: 1, reqid: 1 }) as const;
const presence: Plan = [
  { do: 'encrypted.guard', port: 4789, vni: 70, mark: 1 },
  ...[state(B, A, 'gcm'), state(B, A, 'cbc'), state(C, A, 'gcm')],
  ...[state(A, B, 'gcm'), state(A, C, 'gcm'), state(A, C, 'cbc')],
  ...[policy(B), policy(C)],
];

t.test('to whom by what, until when, and no key', (t) => {
  const view = encryptionView({ presence }, '2026-11-22T04:00:00.000Z');
  t.same(view, {
    peers: [
      { at: B, cipher: 'AES-GCM' },
      { at: C, cipher: 'AES-CBC' },
    ],
    until: '2026-11-22T04:00:00.000Z',
  });
  t.notMatch(JSON.stringify(view), 'abcdef');
  t.same(encryptionFields(view), [
    [
      'encrypted',
      'by ESP, with keys until 2026-11-22T04:00:00.000Z: to 192.0.2.2 AES-GCM, to 192.0.2.3 AES-CBC',
    ],
  ]);
  t.end();
});

t.test('with nobody yet, and not at all', (t) => {
  const [guard] = presence;
  const alone = encryptionView({ presence: guard === undefined ? [] : [guard] }, undefined);
  t.same(encryptionFields(alone), [['encrypted', 'by ESP: to no other host']]);
  t.equal(encryptionView({}, 'x'), undefined);
  t.same(encryptionFields(undefined), []);
  t.end();
});
