import t from 'tap';
import { prefix } from '../../address/prefix.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { allocateOptions } from './allocate.ts';

const network = (
  id: string,
  options: Readonly<Record<string, string>> = {},
  pools = ['10.1.0.0/24'],
): NetworkSpec => ({
  id,
  driver: 'cnm-overlay',
  origin: 'docker',
  options,
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: pools.map((pool) => ({ addressSpace: 'GlobalDefault', pool: prefix(pool), aux: {} })),
  ipv6: [],
});

t.test('what the user left out is chosen, what was given is kept', (t) => {
  const chosen = allocateOptions(network('a'), []);
  t.match(chosen, { peers: 'swarm', 'ip-range': 'any', vni: /^\d+$/ });
  t.ok(Number(chosen['vni']) >= 2 ** 23 && Number(chosen['vni']) < 2 ** 24);
  const given = {
    'com.docker.network.driver.overlay.vxlanid_list': '7',
    port: '4790',
    'ip-range': '10.1.0.0/26',
  };
  t.same(allocateOptions(network('a', given), []), { ...given, peers: 'swarm' });
  const [first, second, ...none] = (
    allocateOptions(network('a', {}, ['10.1.0.0/24', '10.2.0.0/24']), [])['vni'] ?? ''
  ).split(',');
  t.ok(first !== undefined && second !== undefined && first !== second && none.length === 0);
  t.end();
});

t.test('its own answer is the answer; another manager would choose the same', (t) => {
  const chosen = allocateOptions(network('a'), []);
  t.same(allocateOptions(network('a', chosen), []), chosen);
  t.same(allocateOptions(network('a'), []), chosen);
  t.end();
});

t.test('no VNI is two networks’', (t) => {
  const first = network('a');
  const taken = [{ ...first, options: allocateOptions(first, []) }];
  // Where its id points to, somebody is.
  const same = { ...first, id: 'b' };
  t.not(
    allocateOptions(
      same,
      taken.map((one) => ({ ...one, options: allocateOptions(same, []) })),
    )['vni'],
    allocateOptions(same, [])['vni'],
  );
  t.throws(() => allocateOptions(network('c', { vni: taken[0]?.options['vni'] ?? '' }), taken), {
    code: 'network-conflict',
    message: /VNI \d+ belongs to network a already/,
  });
  t.end();
});

t.test('what no node could make is refused on the manager', (t) => {
  for (const options of [{ vni: '1,2' }, { mtu: '1400' }, { vtep: 'moon' }, { vni: '16777216' }])
    t.throws(() => allocateOptions(network('a', options), []), { code: 'option-invalid' });
  t.end();
});
