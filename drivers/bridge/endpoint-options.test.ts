import t from 'tap';
import fc from 'fast-check';
import { createCnm } from '../../cnm/index.ts';
import { silent } from '../../cnm/log.ts';
import { memoryStore } from '../../store/memory.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import { bridge } from './index.ts';
import { vethNamesOf } from '../../cnm/short-name.ts';
import { ifbNameOf } from './names.ts';
import { parseRate, parseSize } from './rates.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

const network = (options: Readonly<Record<string, string>> = {}) =>
  networkSpec('cnm-bridge', {
    options,
    enableIpv6: true,
    ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64')],
  });

const endpoint = (options: Readonly<Record<string, string>> = {}) =>
  endpointSpec({ addressV6: prefix('fd00:1::2/64'), options });

const NO_FACTS = await fakeKernel().facts();
const MAC = mac('02:42:0a:01:00:02');
const { host: HOST } = vethNamesOf(endpoint().id);
const IFB = ifbNameOf(endpoint().id);

function plan(net: NetworkSpec, options: Readonly<Record<string, string>>): readonly string[] {
  return bridge.endpoint(net, { ...endpoint(options), mac: MAC }).map(describe);
}

function refused(options: Readonly<Record<string, string>>, net = network()): string {
  const wanted = { ...endpoint(options), mac: MAC };
  try {
    bridge.endpoint(net, wanted);
    return 'accepted';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

t.test('without options an endpoint is a veth pair and an announcement', (t) => {
  t.same(plan(network(), {}), [
    `ip link add ${HOST} type veth peer name ${vethNamesOf(endpoint().id).container}`,
    `ip link set ${HOST} master cnma1a1a1a1a1a1 && bridge link set dev ${HOST} hairpin on`,
    `ip link set ${HOST} up`,
    'announce 10.1.0.2 and fd00:1::2 at 02:42:0a:01:00:02 on cnma1a1a1a1a1a1',
  ]);
  t.same(bridge.join(network(), endpoint()).routes, []);
  t.end();
});

t.test(
  'limits: a token bucket on the host’s end, and one on an IFB for what comes from the container',
  (t) => {
    const both = plan(network(), {
      'cnm.rate-in': '100mbit',
      'cnm.rate-out': '8Mbps',
      'cnm.burst-out': '64kb',
    });
    t.same(
      both.filter((step) => !step.includes('veth peer') && !step.includes('master')),
      [
        `ip link add ${IFB} type ifb`,
        `tc qdisc replace dev ${IFB} root tbf rate 8000000bps burst 65536 limit 465536`,
        `ip link set ${IFB} up`,
        `tc qdisc replace dev ${HOST} root tbf rate 12500000bps burst 250000 limit 875000`,
        `tc qdisc add dev ${HOST} ingress; tc filter replace dev ${HOST} ingress protocol all prio 1 ` +
          `handle 800::800 u32 match u32 0 0 action mirred egress redirect dev ${IFB}`,
        `ip link set ${HOST} up`,
        'announce 10.1.0.2 and fd00:1::2 at 02:42:0a:01:00:02 on cnma1a1a1a1a1a1',
      ],
    );
    t.end();
  },
);

t.test('a network’s options are its endpoints’ defaults, each until the endpoint says otherwise', (t) => {
  const limited = network({
    'cnm.rate-in': '1gbit',
    'cnm.burst-in': '1mb',
    'cnm.routes': '10.9.0.0/16 via 10.1.0.7',
  });
  t.match(plan(limited, {}).join('\n'), 'tbf rate 125000000bps burst 1048576');
  t.match(plan(limited, { 'cnm.rate-in': '100mbit' }).join('\n'), 'tbf rate 12500000bps burst 1048576');
  t.notMatch(plan(limited, { 'cnm.rate-in': '' }).join('\n'), 'tbf', 'an empty one takes it off');
  t.same(bridge.join(limited, endpoint()).routes, [{ destination: '10.9.0.0/16', nextHop: '10.1.0.7' }]);
  t.same(bridge.join(limited, endpoint({ 'cnm.routes': '10.8.0.0/16' })).routes, [
    { destination: '10.8.0.0/16' },
  ]);
  t.same(bridge.join(limited, endpoint({ 'cnm.routes': '' })).routes, []);
  t.end();
});

t.test('routes: through a next hop and on link, of both families, with commas and semicolons', (t) => {
  const routes = '10.9.0.0/16 via 10.1.0.7,192.168.5.0/24; fd00:9::/48  via fd00:1::7 ;192.0.2.1,224.0.0.0/4';
  t.same(bridge.join(network(), endpoint({ 'cnm.routes': routes })).routes, [
    { destination: '10.9.0.0/16', nextHop: '10.1.0.7' },
    { destination: '192.168.5.0/24' },
    { destination: 'fd00:9::/48', nextHop: 'fd00:1::7' },
    { destination: '192.0.2.1/32' },
    { destination: '224.0.0.0/4' },
  ]);
  const { id, network: of, address, options, ports } = endpoint();
  const only4 = { id, network: of, ...(address && { address }), options, ports };
  const mixed = network({ 'cnm.routes': '10.9.0.0/16,fd00:9::/48' });
  t.same(bridge.join(mixed, only4).routes, [{ destination: '10.9.0.0/16' }], 'of the families that it has');
  t.end();
});

t.test('the first part of an interface’s name', (t) => {
  const name = 'com.docker.network.endpoint.ifname';
  t.equal(bridge.join(network(), endpoint({ [name]: 'lan0' })).dstPrefix, 'lan');
  for (const wrong of ['eth1', 'lan', 'a/b0', '0', 'abcdefghijkl0', 'x10'])
    t.match(refused({ [name]: wrong }), JSON.stringify(wrong), wrong);
  t.end();
});

t.test('B19 what cannot be is refused, by value and with what would be right', (t) => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['cnm.routes', '10.9.0.0/33', /"10\.9\.0\.0\/33".*as 10\.9\.0\.0\/16 via/],
    ['cnm.routes', '10.9.0.0/16 via', /"10\.9\.0\.0\/16 via"/],
    ['cnm.routes', '10.9.0.0/16 via 10.1.0.7 dev eth0', /dev eth0/],
    ['cnm.routes', '10.9.0.0/16,', /""/],
    ['cnm.routes', '10.9.1.0/16', /"10\.9\.1\.0\/16".*host bits, as 10\.9\.0\.0\/16/],
    ['cnm.routes', '10.9.0.0/16 via 10.2.0.7', /10\.2\.0\.7 is not in the network's subnet 10\.1\.0\.0\/24/],
    ['cnm.routes', '10.9.0.0/16 via fd00:1::7', /fd00:1::7 is not in the network's subnet/],
    ['cnm.routes', '10.9.0.0/16 via 10.1.0.2', /10\.1\.0\.2 is the endpoint itself/],
    ['cnm.routes', '0.0.0.0/0 via 10.1.0.7', /DefaultGatewayIPv4=/],
    ['cnm.routes', '::/0', /DefaultGatewayIPv6=/],
    ['cnm.routes', '10.1.0.0/24 via 10.1.0.7', /own subnet/],
    ['cnm.routes', '10.9.0.0/16,10.9.0.0/16 via 10.1.0.7', /given twice/],
    ['cnm.rate-in', 'fast', /cnm\.rate-in cannot be "fast".*100mbit/],
    ['cnm.rate-in', '-1mbit', /"-1mbit"/],
    ['cnm.rate-in', '100 mbit', /"100 mbit"/],
    ['cnm.rate-out', '7kbit', /from 8kbit/],
    ['cnm.rate-out', '401gbit', /to 400gbit/],
    ['cnm.burst-in', '10kb', /cnm\.burst-in needs a rate: add cnm\.rate-in/],
    [
      'cnm.rate',
      '1mbit',
      /does not know the option "cnm\.rate" of an endpoint; it knows cnm\.routes, cnm\.rate-in/,
    ],
    ['com.docker.network.endpoint.sysctl', 'x', /does not know/],
    ['toString', 'x', /does not know/],
  ];
  for (const [name, value, message] of cases) {
    t.match(refused({ [name]: value }), message, `${name}=${value}`);
    const net = network({ [name]: value });
    // What only an endpoint can say is not judged by the network.
    if (/itself/.test(message.source)) continue;
    t.throws(() => bridge.network(net, NO_FACTS, []), { code: 'option-invalid' }, `-o ${name}=${value}`);
  }
  const small = { 'cnm.rate-in': '1mbit', 'cnm.burst-in': '1517' };
  t.match(refused(small), /from one packet \(1518 bytes\) to .* \(7500000 bytes\)/);
  t.equal(refused(small, network({ 'com.docker.network.driver.mtu': '1400' })), 'accepted');
  t.throws(
    () => bridge.network({ ...network({ 'cnm.routes': 'fd00:9::/48' }), ipv6: [] }, NO_FACTS, []),
    /no IPv6 subnet/,
  );
  t.end();
});

t.test('rates and sizes as tc(8) reads them', (t) => {
  // As `tc -j qdisc` shows them after `tc qdisc replace … tbf rate X burst Y`; tests/acceptance asks tc(8) itself.
  const rates = {
    '1000000': 125_000,
    '1Mbit': 125_000,
    '1.5mbit': 187_500,
    '1mibit': 131_072,
    '1mbps': 1_000_000,
    '1kibps': 1024,
    '9bit': 1,
  };
  for (const [text, bytes] of Object.entries(rates)) t.equal(parseRate(text), bytes, text);
  const sizes = {
    '1518': 1518,
    '10k': 10_240,
    '10KB': 10_240,
    '1m': 1_048_576,
    '1mbit': 131_072,
    '1.5kb': 1536,
  };
  for (const [text, bytes] of Object.entries(sizes)) t.equal(parseSize(text), bytes, text);
  for (const wrong of ['', 'mbit', '1 mbit', '1e6', '0x10', '1mb it', '.5mbit', '1.', '∞', 'constructor'])
    t.equal(parseRate(wrong), undefined, wrong);
  t.equal(parseRate('1mb'), undefined);
  t.equal(parseSize('1mbps'), undefined);
  t.end();
});

t.test('every limit that is accepted fits the kernel’s fields', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 500e9 }),
      fc.option(fc.integer({ min: 0, max: 2e9 })),
      (rate, burst) => {
        const options = {
          'cnm.rate-in': String(rate),
          ...(burst !== null && { 'cnm.burst-in': String(burst) }),
        };
        if (refused(options) !== 'accepted') return;
        const step = bridge
          .endpoint(network(), { ...endpoint(options), mac: MAC })
          .find((one) => one.do === 'qdisc.set');
        if (step === undefined) throw new Error('no qdisc');
        const ticks = (step.burst / step.rate / 64) * 1e9;
        return (
          step.limit < 2 ** 32 && step.burst <= step.limit && ticks < 2 ** 32 && Number.isInteger(step.rate)
        );
      },
    ),
  );
  t.end();
});

t.test('the doctor sees a limit that is gone, and reconcile puts it back', async (t) => {
  const kernel = fakeKernel();
  const cnm = createCnm({ kernel, store: memoryStore(), drivers: [bridge], log: silent, runDir: '/run/cnm' });
  await cnm.createNetwork(network({ 'cnm.rate-in': '100mbit', 'cnm.rate-out': '100mbit' }));
  await cnm.createEndpoint(endpoint());
  await cnm.join(network().id, endpoint().id, '/var/run/docker/netns/abc');
  kernel.moveAway(vethNamesOf(endpoint().id).container, '/var/run/docker/netns/abc', 'eth0');
  const whole = kernel.snapshot();
  const limiting = cnm
    .endpoints()
    .flatMap(({ plan: steps }) =>
      steps.filter((step) => step.do === 'qdisc.set' || step.do === 'ingress.redirect'),
    );
  t.equal(limiting.length, 3);
  for (const step of limiting) {
    await kernel.revert([step]);
    const { differences } = await cnm.drift();
    t.same(
      differences.map(({ missing, repairable }) => [missing, repairable]),
      [[[step], true]],
    );
    await cnm.reconcile();
    t.same(kernel.snapshot(), whole, describe(step));
  }
  kernel.destroyLink(IFB);
  await cnm.reconcile();
  t.same(kernel.snapshot(), whole, 'the IFB of an endpoint that is in a container');
  await cnm.deleteEndpoint(network().id, endpoint().id);
  await cnm.deleteNetwork(network().id);
  t.notOk((await kernel.facts()).host.links.has(IFB));
});
