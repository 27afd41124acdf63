import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { hostPrefixes } from './host-prefixes.ts';

t.test('routes, addresses and name servers are taken; default routes in any disguise are not', async (t) => {
  const routes = ['0.0.0.0/0', '0.0.0.0/1', '128.0.0.0/1', '10.0.0.0/8', '::/0', '2000::/3', 'fd00:7::/48'];
  const kernel = fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.7/24')] }],
    routes: routes.map((to) => ({ to: prefix(to), link: 'eth0' })),
  });
  const resolvConf = [
    '# nameserver 9.9.9.9',
    'nameserver 203.0.113.53',
    '  nameserver\t2001:db8::53 ',
    'nameserver fe80::1%eth0',
    'nameserver nonsense',
    'search example.org',
  ].join('\n');
  const found = hostPrefixes(await kernel.facts(), resolvConf).map(String);
  for (const taken of [
    '10.0.0.0/8',
    'fd00:7::/48',
    '192.0.2.0/24',
    '203.0.113.53/32',
    '2001:db8::53/128',
    'fe80::1/128',
  ])
    t.ok(found.includes(taken), taken);
  for (const free of ['0.0.0.0/0', '0.0.0.0/1', '128.0.0.0/1', '::/0', '2000::/3', '9.9.9.9/32'])
    t.notOk(found.includes(free), free);
  t.equal(new Set(found).size, found.length, 'each once');
});
