import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { question, readNeighbourFrame } from './neighbour-question.ts';

const MAC = mac('02:00:00:00:00:01');

t.test('an ARP probe', (t) => {
  // RFC 826 and RFC 5227 section 2.1.1: to all, a request, with a sender address of zero.
  const wanted =
    'ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a320009';
  t.equal(question(ip('10.50.0.9'), MAC).toString('hex'), wanted.replaceAll(' ', ''));
  t.end();
});

t.test('a neighbour solicitation', (t) => {
  const frame = question(ip('fd00:50::9'), MAC);
  t.equal(frame.subarray(0, 14).toString('hex'), '3333ff000009' + '020000000001' + '86dd');
  t.equal(
    frame.subarray(38, 54).toString('hex'),
    'ff0200000000000000000001ff000009',
    'RFC 4291 section 2.7.1',
  );
  // RFC 1071: with the checksum in it, all that it covers sums up to ffff.
  const covered = Buffer.concat([
    frame.subarray(22, 54),
    Buffer.from('000000200000003a', 'hex'),
    frame.subarray(54),
  ]);
  let sum = 0;
  for (let at = 0; at < covered.length; at += 2) sum += covered.readUInt16BE(at);
  t.equal((sum & 0xffff) + (sum >>> 16), 0xffff);
  t.end();
});

t.test('what is asked is read back, and what is answered', (t) => {
  for (const address of [ip('10.50.0.9'), ip('fd00:50::9')]) {
    const { what, from, address: asked } = readNeighbourFrame(question(address, MAC)) ?? {};
    t.same([what, from, asked], ['question', MAC, address]);
  }
  const reply = Buffer.from(
    '020000000001 02000000aa09 0806 0001 0800 06 04 0002 02000000aa09 0a320009 020000000001 00000000'.replaceAll(
      ' ',
      '',
    ),
    'hex',
  );
  const answer = { what: 'answer', from: mac('02:00:00:00:aa:09'), to: MAC, address: ip('10.50.0.9') };
  t.same(readNeighbourFrame(reply), answer);
  t.end();
});

t.test('other frames, short and cut ones are none', (t) => {
  const frame = question(ip('fd00:50::9'), MAC);
  for (const length of [0, 13, 41, 60, 77]) t.equal(readNeighbourFrame(frame.subarray(0, length)), undefined);
  const echo = Buffer.from(frame);
  echo[54] = 128;
  t.equal(readNeighbourFrame(echo), undefined);
  echo.writeUInt16BE(0x0800, 12);
  t.equal(readNeighbourFrame(echo), undefined);
  t.end();
});
