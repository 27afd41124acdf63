import t from 'tap';
import { isServer, parseResolvConf, resolvConfText } from './resolv-conf.ts';

t.test('resolv.conf as people and programs write it', (t) => {
  const text = `# by hand
nameserver 192.0.2.53
nameserver\tfe80::1%eth0   # link-local
; nameserver 192.0.2.99
nameserver 192.0.2.53
nameserver example.com
nameserver
domain old.example
search corp.example lan
options edns0 ndots:2
options trust-ad
lookup file bind`;
  t.same(parseResolvConf(text), {
    servers: ['192.0.2.53', 'fe80::1%eth0'],
    search: ['corp.example', 'lan'],
    options: ['edns0', 'ndots:2', 'trust-ad'],
  });
  t.same(parseResolvConf(''), { servers: [], search: [], options: [] });
  t.end();
});

t.test('what is written is read back', (t) => {
  const conf = { servers: ['127.0.0.11'], search: ['demo'], options: ['ndots:0'] };
  t.equal(
    resolvConfText(conf, 'Made by cnmd'),
    '# Made by cnmd\nnameserver 127.0.0.11\nsearch demo\noptions ndots:0\n',
  );
  t.same(parseResolvConf(resolvConfText(conf, 'x')), conf);
  t.end();
});

t.test('servers', (t) => {
  for (const good of ['10.0.0.1', '::1', 'fe80::1%eth0']) t.ok(isServer(good), good);
  for (const bad of ['', 'localhost', '10.0.0', '10.0.0.1%', 'fe80::1%a%b']) t.notOk(isServer(bad), bad);
  t.end();
});
