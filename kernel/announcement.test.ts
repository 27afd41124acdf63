/** Golden frames are the kernel's own (Linux 6.18): captured on a veth with arp_notify=1 and ndisc_notify=1 that went up. */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { announcement } from './announcement.ts';

const MAC = mac('02:42:0a:01:00:02');

t.test('announcements are the frames that the kernel sends', (t) => {
  t.equal(
    announcement(ip('10.1.0.2'), MAC).toString('hex'),
    'ffffffffffff02420a010002' + '0806' + '000108000604000102420a0100020a0100020000000000000a010002',
  );
  t.equal(
    announcement(ip('fd00:1::2'), MAC).toString('hex'),
    '33330000000102420a010002' +
      '86dd' +
      '6000000000203afffd000001000000000000000000000002ff020000000000000000000000000001' +
      '8800505320000000fd000001000000000000000000000002' +
      '020102420a010002',
  );
  t.end();
});
