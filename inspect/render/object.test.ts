/** Golden drawings: read by a person and found right; they change only on purpose. */
import t from 'tap';
import { endpointDrawing, networkDrawing, sandboxDrawing } from './object.ts';
import { HIDDEN, NETWORK, SANDBOX } from './samples.ts';
import { PLAIN } from './text.ts';

const NETWORK_GOLDEN = `network demo
  id         8f3a5c0d1e2f0000000000000000000000000000000000000000000000000000
  driver     cnm-bridge, made by cnm
  state      ready, since 2026-11-21T09:30:00.000Z
  subnet     10.88.0.0/16  gateway 10.88.0.1  range 10.88.0.0/24  router=10.88.0.9
  subnet     fd00:88::/64  gateway fd00:88::1
  internal   no
  option     com.docker.network.driver.mtu=1500

  bridge br-8f3a5c0d1e2f  up  mtu 1500  mac 02:11:22:33:44:55  10.88.0.1/16  fd00:88::1/64
  +-- veth vh5f0c2a9b7d31  up  mtu 1500
  |   \`-- eth0  up  mtu 1500  mac 02:42:0a:58:00:02  10.88.0.2/16  fd00:88::2/64
  |       sandbox web, endpoint 5f0c2a9b7d31
  |       default via 10.88.0.1
  |       default via fd00:88::1
  \`-- vh9e8d7c6b5a49  missing
      \`-- (interface)  mac 02:42:0a:58:00:03  10.88.0.3/16
          container c1\\x1b[2J, endpoint 9e8d7c6b5a49
          the namespace /var/run/docker/netns/abc is not visible to the daemon

  rules
    nft inet cnm @bridges       br-8f3a5c0d1e2f
    nft inet cnm @same_bridge   br-8f3a5c0d1e2f . br-8f3a5c0d1e2f
    iptables DOCKER-USER        accept to and from br-8f3a5c0d1e2f, comment "cnm 8f3a5c0d1e2f"

  differs from what should be
    endpoint c1 on network demo (9e8d7c6b5a49): 1 missing
        missing: ip link set vh9e8d7c6b5a49 master br-8f3a5c0d1e2f
        --fix: cannot; the link was in a container, which has to be started again
`;

const SANDBOX_GOLDEN = `sandbox web
  id      a1b2c3d4e5f60000000000000000000000000000000000000000000000000000
  state   ready, since 2026-11-21T09:30:00.000Z

  namespace /run/cnm/netns/a1b2c3d4e5f6
  \`-- eth0  up  mtu 1500  mac 02:42:0a:58:00:02  10.88.0.2/16  fd00:88::2/64
      endpoint 5f0c2a9b7d31
      default via 10.88.0.1
      default via fd00:88::1
      \`-- veth vh5f0c2a9b7d31  up  mtu 1500
          \`-- bridge br-8f3a5c0d1e2f  up  mtu 1500  mac 02:11:22:33:44:55  10.88.0.1/16  fd00:88::1/64
              \`-- network demo (8f3a5c0d1e2f)  cnm-bridge
`;

const ENDPOINT_GOLDEN = `endpoint c1\\x1b[2J
  id        9e8d7c6b5a490000000000000000000000000000000000000000000000000000
  network   demo (cnm-bridge)
  state     ready, since 2026-11-21T09:30:00.000Z
  mac       02:42:0a:58:00:03
  address   10.88.0.3/16

  container c1\\x1b[2J
  namespace /var/run/docker/netns/abc
  \`-- (interface)  mac 02:42:0a:58:00:03  10.88.0.3/16
      endpoint 9e8d7c6b5a49
      the namespace /var/run/docker/netns/abc is not visible to the daemon
      \`-- vh9e8d7c6b5a49  missing
          \`-- bridge br-8f3a5c0d1e2f  up  mtu 1500  mac 02:11:22:33:44:55  10.88.0.1/16  fd00:88::1/64
              \`-- network demo (8f3a5c0d1e2f)  cnm-bridge

  differs from what should be
    endpoint c1 on network demo (9e8d7c6b5a49): 1 missing
        missing: ip link set vh9e8d7c6b5a49 master br-8f3a5c0d1e2f
        --fix: cannot; the link was in a container, which has to be started again
`;

t.test('a network: bridge, veths, interfaces, rules, what differs', (t) => {
  t.equal(networkDrawing(NETWORK, PLAIN), NETWORK_GOLDEN);
  t.end();
});

t.test('a sandbox: from the interface outwards', (t) => {
  t.equal(sandboxDrawing(SANDBOX, PLAIN), SANDBOX_GOLDEN);
  t.end();
});

t.test('an endpoint in a container that cannot be seen is drawn from its record and says so', (t) => {
  t.equal(endpointDrawing(HIDDEN, PLAIN), ENDPOINT_GOLDEN);
  t.end();
});

t.test('what is missing is said where it should be', (t) => {
  const bare = { ...NETWORK };
  delete bare.bridge;
  t.match(networkDrawing(bare, PLAIN), /^ {2}bridge br-8f3a5c0d1e2f {2}missing$/m);
  const empty = { ...SANDBOX, exists: false, members: [] };
  t.match(sandboxDrawing(empty, PLAIN), /a1b2c3d4e5f6 {2}missing\n {2}\(on no network\)/);
  t.end();
});
