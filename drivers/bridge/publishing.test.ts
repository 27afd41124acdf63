import t from 'tap';
import { ip } from '../../address/ip.ts';
import { prefix } from '../../address/prefix.ts';
import type {
  EndpointSpec,
  NetworkRecord,
  NetworkSpec,
  PortBinding,
  PublishedPort,
} from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import type { Plan, Step } from '../../kernel/step.ts';
import { loopbackWay, publishPlan, publishRequests } from './publishing.ts';
import { endpointSpec, networkSpec } from '../../tests/specs.ts';

const network = (changes: Partial<NetworkSpec> = {}) =>
  networkSpec('cnm-bridge', { enableIpv6: true, ipv4: [], ...changes });
const four = endpointSpec();
const dual: EndpointSpec = { ...four, addressV6: prefix('fd00:1::2/64') };

const bound = (more: Partial<PortBinding> = {}): PortBinding => ({
  proto: 6,
  port: 80,
  hostPort: 8080,
  hostPortEnd: 8080,
  ...more,
});
const targets = (endpoint: EndpointSpec, binding: PortBinding, options: Record<string, string> = {}) =>
  publishRequests(network({ options }), endpoint, [binding]).flatMap((request) =>
    request.targets.map((one) => `${one.hostIp ?? '-'} ${one.ip}`),
  );

t.test('where a port is published', (t) => {
  t.same(targets(dual, bound()), ['0.0.0.0 10.1.0.2', ':: fd00:1::2']);
  t.same(targets(four, bound()), ['0.0.0.0 10.1.0.2']);
  t.same(targets(dual, bound({ hostIp: ip('0.0.0.0') })), ['0.0.0.0 10.1.0.2']);
  t.same(targets(dual, bound({ hostIp: ip('2001:db8::1') })), ['2001:db8::1 fd00:1::2']);
  const binding = { 'com.docker.network.bridge.host_binding_ipv4': '127.0.0.1' };
  t.same(targets(dual, bound(), binding), ['127.0.0.1 10.1.0.2']);
  t.same(targets(dual, bound({ hostIp: ip('192.0.2.1') }), binding), ['192.0.2.1 10.1.0.2']);
  const routed = { 'com.docker.network.bridge.gateway_mode_ipv6': 'routed' };
  t.same(targets(dual, bound(), routed), ['0.0.0.0 10.1.0.2', '- fd00:1::2']);
  t.same(publishRequests(network({ internal: true }), dual, [bound()]), []);
  t.end();
});

t.test('T19: what cannot be is refused by name', (t) => {
  for (const [hostIp, message] of [
    ['::1', /on ::1: the kernel does not route from it; use 127\.0\.0\.1/],
    ['2001:db8::1', /on 2001:db8::1: the container has no IPv6 address on this network/],
  ] as const) {
    t.throws(() => targets(four, bound({ hostIp: ip(hostIp) })), { code: 'option-invalid', message });
  }
  t.throws(() => targets(four, bound({ proto: 1 })), { message: /^Protocol 1 cannot be published/ });
  t.end();
});

const published = (proto: number, port: number, hostPort: number, hostIp = '0.0.0.0'): PublishedPort => ({
  proto,
  ip: ip(hostIp.includes(':') ? 'fd00:1::2' : '10.1.0.2'),
  port,
  hostIp: ip(hostIp),
  hostPort,
});
const described = (...ports: PublishedPort[]) => publishPlan(network(), ports).map(describe);

t.test('held, then translated; udp is forgotten before and after', (t) => {
  t.same(described(published(17, 53, 5300)), [
    'hold udp 0.0.0.0:5300',
    'conntrack -D -p udp --orig-port-dst 5300',
    'nft add element inet cnm publish4_any { udp . 5300 : 10.1.0.2 . 53 }',
    'nft add element inet cnm open4 { 10.1.0.2 . udp . 53 }',
    'conntrack -D -p udp --orig-port-dst 5300',
  ]);
  t.end();
});

t.test('firewall=host: guarded before it is translated, one interval for a run of ports', (t) => {
  const guarded = publishPlan(network({ options: { firewall: 'host' } }), [
    ...[8080, 8081].map((port) => published(6, port - 8000, port)),
    published(6, 80, 8080, '::'),
    published(17, 53, 53, '192.0.2.1'),
  ]);
  const lines = guarded.map(describe);
  t.same(lines.filter((line) => line.includes('guarded')).sort(), [
    'nft add element inet cnm guarded4 { tcp . 0.0.0.0/0 . 8080-8081 }',
    'nft add element inet cnm guarded4 { udp . 192.0.2.1 . 53 }',
    'nft add element inet cnm guarded6 { tcp . ::/0 . 8080 }',
  ]);
  const last = lines.findLastIndex((line) => line.includes('guarded'));
  t.ok(last < lines.findIndex((line) => line.includes('publish')));
  t.end();
});

t.test('T02: sctp, on one address of each family', (t) => {
  t.same(described(published(132, 36412, 36412, '192.0.2.1'), published(132, 36412, 36412, '2001:db8::1')), [
    'hold sctp 192.0.2.1:36412',
    'hold sctp [2001:db8::1]:36412',
    'conntrack -D -p sctp --orig-dst 192.0.2.1 --orig-port-dst 36412',
    'conntrack -D -p sctp --orig-dst 2001:db8::1 --orig-port-dst 36412',
    'nft add element inet cnm publish4 { sctp . 192.0.2.1 . 36412 : 10.1.0.2 . 36412 }',
    'nft add element inet cnm publish6 { sctp . 2001:db8::1 . 36412 : fd00:1::2 . 36412 }',
    'nft add element inet cnm open4 { 10.1.0.2 . sctp . 36412 }',
    'nft add element inet cnm open6 { fd00:1::2 . sctp . 36412 }',
    'conntrack -D -p sctp --orig-dst 192.0.2.1 --orig-port-dst 36412',
    'conntrack -D -p sctp --orig-dst 2001:db8::1 --orig-port-dst 36412',
  ]);
  t.end();
});

t.test('T02: a range is one interval where it keeps its numbers, and one to one where not', (t) => {
  t.same(
    described(...[7000, 7001, 7002].map((port) => published(6, port, port))).filter((line) =>
      /hold|publish/.test(line),
    ),
    [
      'hold tcp 0.0.0.0:7000-7002',
      'nft add element inet cnm publish4_any_range { tcp . 7000-7002 : 10.1.0.2 }',
    ],
  );
  t.same(
    described(...[80, 81, 82].map((port) => published(6, port, port + 8920))).filter((line) =>
      /hold|publish/.test(line),
    ),
    [
      'hold tcp 0.0.0.0:9000-9002',
      'nft add element inet cnm publish4_any { tcp . 9000 : 10.1.0.2 . 80 }',
      'nft add element inet cnm publish4_any { tcp . 9001 : 10.1.0.2 . 81 }',
      'nft add element inet cnm publish4_any { tcp . 9002 : 10.1.0.2 . 82 }',
    ],
  );
  t.end();
});

t.test('one port of the container on two of the host is opened once', (t) => {
  const lines = described(published(6, 80, 8080), published(6, 80, 8081));
  t.equal(lines.filter((line) => line.includes('open4')).length, 1);
  t.equal(lines.filter((line) => line.includes('publish4_any')).length, 2);
  t.end();
});

t.test('127.0.0.1 is led out of a bridge of ours only, and only when a port needs it', (t) => {
  const add: Step = {
    do: 'link.add',
    name: 'b.1',
    mark: { network: 'a1'.repeat(32) },
    link: { kind: 'bridge' },
  };
  const record = (plan: Plan): NetworkRecord => ({ ...network(), state: 'ready', createdAt: '', plan });
  const on = (hostIp: string): PublishedPort => ({
    proto: 6,
    ip: ip('10.1.0.2'),
    port: 80,
    hostIp: ip(hostIp),
    hostPort: 80,
  });
  const set = ['sysctl -w net.ipv4.conf.b/1.route_localnet=1'];
  t.same(loopbackWay(record([add]), 'b.1', [on('192.0.2.1'), on('0.0.0.0')]).map(describe), set);
  t.same(loopbackWay(record([add]), 'b.1', [on('127.0.1.2')]).map(describe), set);
  t.same(loopbackWay(record([add]), 'b.1', [on('192.0.2.1'), on('::')]), []);
  t.same(loopbackWay(record([]), 'b.1', [on('0.0.0.0')]), [], 'a bridge of the user’s');
  t.end();
});
