import t from 'tap';
import { ip, ipValue } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { poolOptions } from './options.ts';

const POOL = prefix('10.1.0.0/24');
const bounds = (first: string, last: string) => ({ first: ipValue(ip(first)), last: ipValue(ip(last)) });

t.test('options that mean something', (t) => {
  const none = { reserved: [], sticky: true, serial: false };
  const rows: readonly (readonly [given: Record<string, string>, options: object])[] = [
    [{}, none],
    [{ 'com.docker.network.driver.mtu': '1400' }, none],
    [{ rest: '0' }, { ...none, rest: 0 }],
    [
      { rest: '3600', sticky: 'false' },
      { ...none, rest: 3_600_000, sticky: false },
    ],
    [{ serial: 'true' }, { ...none, serial: true }],
    [{ 'com.docker.network.ipam.serial': 'true' }, { ...none, serial: true }],
    [{ reserved: 'fd00::/120,fd00::1' }, none],
    [{ reserved: '10.1.0.7' }, { ...none, reserved: [bounds('10.1.0.7', '10.1.0.7')] }],
    [
      { reserved: '10.1.0.0/28, 10.1.0.100-10.1.0.120' },
      { ...none, reserved: [bounds('10.1.0.0', '10.1.0.15'), bounds('10.1.0.100', '10.1.0.120')] },
    ],
  ];
  for (const [given, options] of rows) t.strictSame(poolOptions(POOL, given), options, JSON.stringify(given));
  t.end();
});

t.test('options that are refused, each by name with its value', (t) => {
  const rows: readonly (readonly [key: string, value: string, code: string])[] = [
    ['colour', 'red', 'option-invalid'],
    ['rest', '-1', 'option-invalid'],
    ['rest', '1.5', 'option-invalid'],
    ['rest', '', 'option-invalid'],
    ['rest', '604801', 'option-invalid'],
    ['sticky', 'perhaps', 'option-invalid'],
    ['serial', '', 'option-invalid'],
    ['reserved', '', 'option-invalid'],
    ['reserved', '10.1.0.9-10.1.0.3', 'option-invalid'],
    ['reserved', '10.1.0.1-10.1.0.3-10.1.0.5', 'option-invalid'],
    ['reserved', '10.1.0.1-fd00::1', 'option-invalid'],
    ['reserved', '10.2.0.0/28', 'address-invalid'],
    ['reserved', '10.1.0.0/23', 'address-invalid'],
    ['reserved', '10.1.0.1-', 'option-invalid'],
  ];
  for (const [key, value, code] of rows) {
    t.throws(() => poolOptions(POOL, { [key]: value }), { code }, `${key}=${value}`);
    t.throws(() => poolOptions(POOL, { [key]: value }), { message: key === 'colour' ? key : value || '""' });
  }
  t.end();
});
