import fc from 'fast-check';
import t from 'tap';
import { ip } from './ip.ts';
import {
  isUnicast,
  linkLocalOf,
  mac,
  macBytes,
  macFromBytes,
  macFromIpv4,
  macFromSeed,
  parseMac,
} from './mac.ts';

t.test('texts', (t) => {
  for (const text of ['02:42:ac:11:00:02', '02-42-AC-11-00-02', '02:42:Ac:11:00:02']) {
    t.equal(parseMac(text), '02:42:ac:11:00:02', text);
  }
  const bad = [
    '',
    '02:42:ac:11:00',
    '02:42:ac:11:00:02:03',
    '2:42:ac:11:0:2',
    '02-42:ac:11:00:02',
    '0242.ac11.0002',
  ];
  for (const text of [
    ...bad,
    '0242ac110002',
    '02:42:ac:11:00:0g',
    '02:42:ac:11:00:02\n',
    ' 02:42:ac:11:00:02',
  ]) {
    t.equal(parseMac(text), undefined, JSON.stringify(text));
    t.throws(() => mac(text), { name: 'RangeError', message: JSON.stringify(text) });
  }
  t.end();
});

t.test('bytes', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      const address = macFromBytes(bytes);
      return Buffer.compare(macBytes(address), bytes) === 0 && mac(address.toUpperCase()) === address;
    }),
  );
  t.throws(() => macFromBytes(new Uint8Array(8)), RangeError);
  t.end();
});

t.test('made addresses', (t) => {
  t.equal(macFromIpv4(ip('172.17.0.2')), '02:42:ac:11:00:02', 'as dockerd 20.10 gives the first container');
  t.throws(() => macFromIpv4(ip('fd00::1')), RangeError);
  // Oracle: `printf web | sha256sum` begins 4b5e57f6eb2f; 0x4b is 0x4a once unicast and local.
  t.equal(macFromSeed('web'), '4a:5e:57:f6:eb:2f');
  fc.assert(
    fc.property(fc.string(), (text) => {
      const first = macBytes(macFromSeed(text))[0] ?? 0;
      return isUnicast(macFromSeed(text)) && (first & 2) === 2 && macFromSeed(text) === macFromSeed(text);
    }),
  );
  t.equal(isUnicast(mac('01:00:5e:00:00:01')), false);
  t.equal(isUnicast(mac('ff:ff:ff:ff:ff:ff')), false);
  t.equal(isUnicast(mac('52:54:00:12:34:56')), true);
  t.end();
});

t.test('link-local addresses', (t) => {
  // RFC 4291 appendix A's example bits, and what Linux gave a veth with this MAC (addrconf_ifid_eui48).
  t.equal(linkLocalOf(mac('34:56:78:9a:bc:de')), 'fe80::3656:78ff:fe9a:bcde');
  t.equal(linkLocalOf(mac('02:42:ac:11:00:02')), 'fe80::42:acff:fe11:2');
  t.end();
});
