/** Golden texts: read by a person and found right; they change only on purpose. */
import t from 'tap';
import { ip } from '../../address/ip.ts';
import type { CountedPortView, NetworkFirewallView } from '../views.ts';
import { firewallText } from './firewall.ts';
import { portLines, portTable, publishedRuns } from './ports.ts';
import { PLAIN } from './text.ts';

const DEMO = { id: `8f3a5c0d1e2f${'0'.repeat(52)}`, name: 'demo' };

const port = (changes: Partial<CountedPortView> = {}): CountedPortView => ({
  endpoint: { id: `5f0c2a9b7d31${'0'.repeat(52)}`, name: 'web' },
  network: DEMO,
  proto: 'tcp',
  ip: ip('10.88.0.2'),
  port: 80,
  hosts: [
    { ip: ip('0.0.0.0'), port: 8080 },
    { ip: ip('127.0.0.1'), port: 81 },
  ],
  count: { packets: 18, bytes: 1206 },
  ...changes,
});

const NETWORK: NetworkFirewallView = {
  ...DEMO,
  driver: 'cnm-bridge',
  bridge: 'cnm8f3a5c0d1e2f',
  filtered: true,
  icc: true,
  internal: false,
  families: [
    { family: 4, mode: 'nat', source: 'interface', obeysHost: false },
    { family: 6, mode: 'routed', source: 'own', obeysHost: false },
  ],
  trusted: ['eth1'],
  accepts: [
    { family: 4, state: 'there' },
    { family: 6, state: 'no chain' },
  ],
  ports: [port(), port({ ip: ip('fd00:88::2'), hosts: [] })],
};

t.test('a network in order', (t) => {
  t.equal(
    firewallText({ loaded: true, networks: [NETWORK] }, PLAIN),
    `network demo  8f3a5c0d1e2f  cnm-bridge  bridge cnm8f3a5c0d1e2f
  IPv4          nat: containers go out with the address of the interface they leave by; published ports come in, all else is dropped
  IPv6          routed: containers go out with their own addresses; published container ports and ICMP come in, all else is dropped
  inside        containers of the network reach each other
  trusted       eth1: may ask published ports at the container's own address
  DOCKER-USER   IPv4: accepts the bridge
  DOCKER-USER   IPv6: there is no such chain: nothing to accept

  ENDPOINT   CONTAINER PORT        HOST                        PACKETS IN   BYTES IN
  web        10.88.0.2:80/tcp      0.0.0.0:8080 127.0.0.1:81   18           1206
  web        [fd00:88::2]:80/tcp   (routed)                    18           1206
`,
  );
  t.end();
});

t.test('what is missing stands out, with what to do', (t) => {
  const broken: NetworkFirewallView = {
    ...NETWORK,
    filtered: false,
    icc: false,
    families: [{ family: 4, mode: 'nat-unprotected', source: ip('192.0.2.9'), obeysHost: false }],
    trusted: [],
    accepts: [
      { family: 4, state: 'missing' },
      { family: 6, state: 'missing' },
    ],
    ports: [port({ count: null })],
  };
  const internal: NetworkFirewallView = {
    ...NETWORK,
    ...{ id: 'abc', name: 'quiet', trusted: [], accepts: [], ports: [] },
    families: [
      { family: 4, mode: 'internal', source: 'own', obeysHost: false },
      { family: 6, mode: 'isolated', source: 'own', obeysHost: false },
    ],
  };
  t.equal(
    firewallText({ loaded: false, networks: [broken, internal] }, PLAIN),
    `The table inet cnm is not there, or not the one of this version. Load it with: cnm doctor --fix

network demo  8f3a5c0d1e2f  cnm-bridge  bridge cnm8f3a5c0d1e2f
  NOT FILTERED: the table does not hold cnm8f3a5c0d1e2f. Put it back with: cnm doctor --fix
  DOCKER-USER   MISSING: a FORWARD policy of DROP drops its packets; put it back with: cnm doctor --fix

  ENDPOINT   CONTAINER PORT     HOST                        PACKETS IN   BYTES IN
  web        10.88.0.2:80/tcp   0.0.0.0:8080 127.0.0.1:81   MISSING

network quiet  abc  cnm-bridge  bridge cnm8f3a5c0d1e2f
  IPv4     internal: nothing goes out, nothing comes in
  IPv6     isolated: nothing goes out, nothing comes in, the host has no address there
  inside   containers of the network reach each other

  no published ports
`,
  );
  t.match(
    firewallText({ loaded: true, networks: [{ ...broken, filtered: true }] }, PLAIN),
    /IPv4 +nat-unprotected: containers go out with 192\.0\.2\.9; everything comes in that has a route\n +inside .*icc=false/,
  );
  const obedient = (['nat', 'nat-unprotected'] as const).map((mode) => ({
    ...NETWORK,
    families: [{ family: 4, mode, source: 'interface', obeysHost: true } as const],
  }));
  const text = firewallText({ loaded: true, networks: obedient }, PLAIN);
  t.match(
    text,
    /IPv4 +nat: .*; published ports come in where the host's own input policy lets them \(firewall=host\), all else/,
  );
  t.match(
    text,
    /IPv4 +nat-unprotected: .* a route, published ports where the host's own input policy lets them/,
  );
  t.equal(firewallText({ loaded: true, networks: [] }, PLAIN), 'There are no networks.\n');
  t.end();
});

t.test('ports as docker port has them, and as a table', (t) => {
  const ports = [
    port(),
    port({ ip: ip('fd00:88::2'), hosts: [{ ip: ip('::'), port: 8080 }] }),
    port({ proto: 'udp', port: 53, hosts: [] }),
  ];
  t.equal(
    portLines(ports),
    '80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:81\n80/tcp -> [::]:8080\n53/udp -> 10.88.0.2:53 (routed)\n',
  );
  t.equal(
    portTable(ports, PLAIN),
    `ENDPOINT   NETWORK   CONTAINER PORT        HOST
web        demo      10.88.0.2:80/tcp      0.0.0.0:8080 127.0.0.1:81
web        demo      [fd00:88::2]:80/tcp   [::]:8080
web        demo      10.88.0.2:53/udp      (routed)
`,
  );
  t.end();
});

t.test('in drawings, ports that follow each other are one line', (t) => {
  const at = (number: number, host: number, proto: 'tcp' | 'udp' = 'tcp') =>
    port({ proto, port: number, hosts: [{ ip: ip('0.0.0.0'), port: host }] });
  const routed = [90, 91].map((number) => port({ proto: 'sctp', port: number, hosts: [] }));
  t.strictSame(
    publishedRuns([
      at(82, 8082),
      at(80, 8080),
      at(81, 8081),
      at(83, 9000),
      at(84, 9001),
      at(84, 1, 'udp'),
      ...routed,
    ]),
    [
      '90-91/sctp -> 10.88.0.2:90-91 (routed)',
      '80-82/tcp -> 0.0.0.0:8080-8082',
      '83-84/tcp -> 0.0.0.0:9000-9001',
      '84/udp -> 0.0.0.0:1',
    ],
  );
  t.end();
});
