import t from 'tap';
import { subnetRequests } from './subnets.ts';
import type { NetworkRequest } from './views.ts';

const BASE: NetworkRequest = {
  name: 'n',
  driver: 'cnm-bridge',
  subnets: [],
  gateways: [],
  ipRanges: [],
  auxAddresses: {},
  ipv4: true,
  ipv6: false,
  internal: false,
  options: {},
};

t.test('flags become pools to request', (t) => {
  const rows: readonly [what: string, request: Partial<NetworkRequest>, wanted: unknown][] = [
    ['nothing: one IPv4 pool of the IPAM', {}, [{ v6: false, aux: {} }]],
    [
      '--ipv6: one of each',
      { ipv6: true },
      [
        { v6: false, aux: {} },
        { v6: true, aux: {} },
      ],
    ],
    ['--ipv4=false --ipv6: IPv6 only', { ipv4: false, ipv6: true }, [{ v6: true, aux: {} }]],
    [
      'a subnet of one family, the other chosen',
      { subnets: ['fd00:1::/64'], ipv6: true },
      [
        { v6: false, aux: {} },
        { v6: true, pool: 'fd00:1::/64', aux: {} },
      ],
    ],
    [
      'everything finds the subnet that holds it, whatever the order',
      {
        subnets: ['10.1.0.0/16', '10.2.0.0/16', 'FD00:0::/64'],
        ipv6: true,
        gateways: ['fd00::9', '10.2.0.1'],
        ipRanges: ['10.1.128.0/17'],
        auxAddresses: { router: '10.1.0.5', other: '10.2.0.5' },
      },
      [
        { v6: false, pool: '10.1.0.0/16', range: '10.1.128.0/17', aux: { router: '10.1.0.5' } },
        { v6: false, pool: '10.2.0.0/16', gateway: '10.2.0.1', aux: { other: '10.2.0.5' } },
        { v6: true, pool: 'fd00::/64', gateway: 'fd00::9', aux: {} },
      ],
    ],
  ];
  for (const [what, request, wanted] of rows)
    t.strictSame(subnetRequests({ ...BASE, ...request }), wanted, what);
  t.end();
});

t.test('what cannot be is refused, with the value in the message', (t) => {
  const rows: readonly [request: Partial<NetworkRequest>, message: RegExp][] = [
    [{ ipv4: false }, /IPv4 or IPv6 must be enabled/],
    [{ subnets: ['10.1.0.0'] }, /"10\.1\.0\.0" is not in CIDR form/],
    [{ subnets: ['x;touch /tmp/p'] }, /"x;touch \/tmp\/p" is not in CIDR form/],
    [{ subnets: ['10.1.0.1/24'] }, /10\.1\.0\.1\/24 has host bits set; the subnet is 10\.1\.0\.0\/24/],
    [
      { subnets: ['10.1.0.0/16', '10.1.2.0/24'] },
      /10\.1\.0\.0\/16 and 10\.1\.2\.0\/24 of one network overlap/,
    ],
    [{ subnets: ['10.1.0.0/16', '10.1.0.0/16'] }, /overlap/],
    [{ subnets: ['fd00::/64'] }, /fd00::\/64 is IPv6, but IPv6 is not enabled; add --ipv6/],
    [{ subnets: ['10.1.0.0/16'], ipv4: false, ipv6: true }, /IPv4 is disabled/],
    [{ gateways: ['10.1.0.1'] }, /no matching subnet for gateway 10\.1\.0\.1: no --subnet was given/],
    [
      { subnets: ['10.1.0.0/16'], gateways: ['10.2.0.1'] },
      /gateway 10\.2\.0\.1: the subnets are 10\.1\.0\.0\/16/,
    ],
    [
      { subnets: ['10.1.0.0/16'], gateways: ['10.1.0.1', '10.1.0.2'] },
      /two gateways \(10\.1\.0\.1, 10\.1\.0\.2\)/,
    ],
    [{ subnets: ['10.1.0.0/16'], gateways: ['10.1.0.1/16'] }, /"10\.1\.0\.1\/16" is not an IP address/],
    [{ subnets: ['10.1.0.0/24'], ipRanges: ['10.1.0.0/16'] }, /no matching subnet for range 10\.1\.0\.0\/16/],
    [{ subnets: ['10.1.0.0/24'], ipRanges: ['10.1.0.0/25', '10.1.0.128/25'] }, /two ranges/],
    [{ subnets: ['10.1.0.0/24'], auxAddresses: { a: '10.9.0.1' } }, /auxiliary address 10\.9\.0\.1/],
    [{ subnets: ['10.1.0.0/24'], auxAddresses: { a: 'b' } }, /Auxiliary address "a": "b"/],
  ];
  for (const [request, message] of rows) {
    t.throws(() => subnetRequests({ ...BASE, ...request }), { name: 'CnmError', message }, String(message));
  }
  t.end();
});
