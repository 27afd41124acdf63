import t from 'tap';
import fc from 'fast-check';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import type { PublishRequest } from './driver.ts';
import { choosePorts, containerPorts, parsePortList, PortTaken, takenBy, TakenPorts } from './ports.ts';

const EPHEMERAL = { from: 32768, to: 32777, reserved: [] };
const any4 = ip('0.0.0.0');
const any6 = ip('::');
const container = ip('10.0.0.2');

function request(from: number, to = from, hosts = [any4], proto = 6): PublishRequest {
  return { proto, port: 80, targets: hosts.map((hostIp) => ({ hostIp, ip: container })), from, to };
}

const chosen = (requests: readonly PublishRequest[], taken = new TakenPorts(), start = 0) =>
  choosePorts(requests, taken, EPHEMERAL, start).map(
    ({ hostIp, hostPort }) => `${hostIp ?? '-'} ${hostPort ?? '-'}`,
  );

t.test('one port, a range, an ephemeral one', (t) => {
  t.same(chosen([request(8080)]), ['0.0.0.0 8080']);
  t.same(chosen([request(0)]), ['0.0.0.0 32768']);
  t.same(
    chosen([request(0)], new TakenPorts(), 32770),
    ['0.0.0.0 32770'],
    'the search begins where it is told',
  );
  t.same(chosen([request(9000, 9002), request(9000, 9002)]), ['0.0.0.0 9000', '0.0.0.0 9001']);
  t.end();
});

t.test('T14: bindings that differ in their host address alone get one number', (t) => {
  const taken = new TakenPorts();
  taken.add(6, any6, 32768, { words: 'x' });
  t.same(chosen([request(0, 0, [any4, any6])], taken), ['0.0.0.0 32769', ':: 32769']);
  t.end();
});

t.test('fixed ports come before ephemeral ones, whatever their order', (t) => {
  t.same(chosen([request(0), request(32768)]).sort(), ['0.0.0.0 32768', '0.0.0.0 32769']);
  t.end();
});

t.test(
  'a wildcard collides with every address of its family, and with none of the other, nor of another protocol',
  (t) => {
    const taken = new TakenPorts();
    taken.add(6, ip('192.0.2.1'), 8080, { words: 'endpoint web' });
    t.throws(() => chosen([request(8080)], taken), {
      code: 'port-taken',
      message: /8080\/tcp on 0\.0\.0\.0.*endpoint web/,
    });
    t.same(chosen([request(8080, 8080, [ip('192.0.2.2')])], taken), ['192.0.2.2 8080']);
    t.same(chosen([request(8080, 8080, [any6])], taken), [':: 8080']);
    t.same(chosen([request(8080, 8080, [any4], 17)], taken), ['0.0.0.0 8080']);
    t.end();
  },
);

t.test('T13: distinct loopback addresses keep the same port apart', (t) => {
  t.same(chosen([request(1716, 1716, [ip('127.0.1.2')]), request(1716, 1716, [ip('127.0.1.3')])]), [
    '127.0.1.2 1716',
    '127.0.1.3 1716',
  ]);
  t.end();
});

t.test('an exhausted range says which, and who holds the last', (t) => {
  const taken = new TakenPorts();
  for (const port of [9000, 9001]) taken.add(6, any4, port, { words: `endpoint e${port}` });
  t.throws(() => chosen([request(9000, 9001)], taken), {
    code: 'port-taken',
    message: /9000-9001\/tcp.*e9001/,
  });
  t.end();
});

t.test('T15: reserved ports are nobody’s by chance, and anybody’s by name', (t) => {
  const reserved = parsePortList('32768-32770,32772\n');
  t.same(reserved, [
    { from: 32768, to: 32770 },
    { from: 32772, to: 32772 },
  ]);
  t.same(parsePortList('\n'), []);
  const give = (requests: readonly PublishRequest[]) =>
    choosePorts(requests, new TakenPorts(), { ...EPHEMERAL, reserved }, 0).map(({ hostPort }) => hostPort);
  t.same(give([request(0), request(0)]), [32771, 32773]);
  t.same(give([request(32769)]), [32769]);
  const all = { ...EPHEMERAL, reserved: parsePortList('1-65535') };
  t.throws(() => choosePorts([request(0)], new TakenPorts(), all, 0), { message: /all are reserved/ });
  t.end();
});

t.test('who holds a port is named as people know it', (t) => {
  const published = [{ proto: 6, ip: container, port: 80, hostIp: any4, hostPort: 8080 }];
  const endpoint = {
    id: 'e1'.repeat(32),
    network: 'a1'.repeat(32),
    mac: mac('02:42:0a:00:00:02'),
    state: 'ready' as const,
    createdAt: '',
    options: {},
    ports: [],
    plan: [],
    external: { requested: [], published, plan: [], state: 'ready' as const },
  };
  const holder = takenBy([endpoint]).holder(6, any4, 8080);
  t.same(holder, { words: 'endpoint e1e1e1e1e1e1', endpoint });
  const error = new PortTaken('8080/tcp on 0.0.0.0', holder).ofContainer('web');
  t.match(error, {
    code: 'port-taken',
    message: /not free: container web \(endpoint e1e1e1e1e1e1\) holds it/,
  });
  t.equal(takenBy([endpoint]).holder(6, any4, 8081), undefined);
  t.end();
});

t.test('a routed binding takes no port of the host', (t) => {
  const routed = { proto: 6, port: 80, targets: [{ ip: container }], from: 8080, to: 8080 };
  t.same(choosePorts([routed, routed], new TakenPorts(), EPHEMERAL, 0), [
    { proto: 6, ip: container, port: 80 },
    { proto: 6, ip: container, port: 80 },
  ]);
  t.end();
});

t.test('no two publications collide, whatever is asked for', (t) => {
  const one = [any4, any6, ip('192.0.2.1'), ip('192.0.2.2'), ip('2001:db8::1')].map((address) => [address]);
  const hosts = fc.constantFrom(...one, [any4, any6]);
  const wish = fc.record({ from: fc.constantFrom(0, 7, 8, 9), more: fc.nat(3), hosts });
  fc.assert(
    fc.property(fc.array(wish, { maxLength: 12 }), (wishes) => {
      const taken = new TakenPorts();
      const given: [string, number][] = [];
      for (const { from, more, hosts } of wishes) {
        try {
          const published = choosePorts(
            [request(from, from === 0 ? 0 : from + more, hosts)],
            taken,
            EPHEMERAL,
            0,
          );
          given.push(
            ...published.map(({ hostIp, hostPort }): [string, number] => [hostIp ?? '', hostPort ?? 0]),
          );
        } catch (error) {
          if (!String(error).includes('is not free')) throw error;
        }
      }
      for (const [n, [a, port]] of given.entries()) {
        for (const [b, other] of given.slice(n + 1)) {
          const family = a.includes(':') === b.includes(':');
          const wild = [a, b].some((text) => text === any4 || text === any6);
          if (port === other && (a === b || (family && wild))) return false;
        }
      }
      return true;
    }),
  );
  t.end();
});

t.test('ports as Docker writes them; what is none is left out', (t) => {
  t.same(containerPorts(['80/tcp', '65535/udp', '0/tcp', '65536/tcp', '80', '80/icmp', '']), [
    { port: 80, proto: 'tcp' },
    { port: 65_535, proto: 'udp' },
  ]);
  t.end();
});
