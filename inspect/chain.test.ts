import t from 'tap';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { EndpointRecord, NetworkRecord, SandboxRecord } from '../cnm/model.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { networkView, sandboxView } from './chain.ts';
import type { Picture } from './chain.ts';
import { WEB } from './render/samples.ts';

const NETWORK: NetworkRecord = {
  id: 'a'.repeat(64),
  driver: 'cnm-bridge',
  origin: 'docker',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [],
  ipv6: [],
  state: 'ready',
  createdAt: '',
  plan: [],
};

function endpoint(id: string, address: string): EndpointRecord {
  return {
    id: id.repeat(64),
    network: NETWORK.id,
    address: prefix(address),
    mac: mac('02:42:0a:00:00:02'),
    options: {},
    ports: [],
    state: 'ready',
    createdAt: '',
    plan: [],
  };
}

async function picture(): Promise<Picture> {
  return {
    facts: await fakeKernel().facts(),
    differences: [],
    drivers: [],
    names: { networks: new Map(), sandboxes: new Map(), engine: [], pools: [] },
  };
}

t.test('a network shows its endpoints by address, in whatever order they were stored', async (t) => {
  const stored = [endpoint('c', '10.0.0.10/24'), endpoint('b', '10.0.0.9/24'), endpoint('d', '10.0.0.2/24')];
  const { members } = networkView(NETWORK, stored, await picture());
  t.same(
    members.map(({ addresses }) => addresses[0]),
    ['10.0.0.2/24', '10.0.0.9/24', '10.0.0.10/24'],
  );
});

t.test('a sandbox shows its endpoints by interface', async (t) => {
  const sandbox: SandboxRecord = {
    ...{ id: 'e'.repeat(64), name: 'web', path: '/run/cnm/netns/web', state: 'ready', createdAt: '' },
    plan: [],
  };
  const named = (name: string) => ({ ...WEB, ...(WEB.inside && { inside: { ...WEB.inside, name } }) });
  const { members } = sandboxView(sandbox, ['eth10', 'eth0', 'eth2'].map(named), await picture());
  t.same(
    members.map(({ inside }) => inside?.name),
    ['eth0', 'eth2', 'eth10'],
  );
});
