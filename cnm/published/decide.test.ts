import fc from 'fast-check';
import t from 'tap';
import { type Ability, copyOf, decide, type Decision, type Here, isSame } from './decide.ts';
import {
  decodePublished,
  decodeReport,
  type NetworkDescription,
  publishedKey,
  type PublishedNetwork,
  readKey,
  reportKey,
} from './record.ts';

const UBER: NetworkDescription = {
  name: 'uber-net',
  owner: 'docker',
  identity: '10.0.0.0/24',
  driver: 'cnm-overlay',
  kind: 'cnm-overlay',
  internal: false,
  attachable: true,
  ipv4: true,
  ipv6: false,
  options: { vni: '4097' },
  labels: { tier: 'one' },
  ipam: {
    driver: 'cnm-ipam',
    options: { space: 'cnm-global' },
    subnets: [{ subnet: '10.0.0.0/24', gateway: '10.0.0.1', aux: { router: '10.0.0.9' } }],
  },
};
const on: PublishedNetwork = { ...UBER, state: 'published', by: 'h1' };
const off: PublishedNetwork = { ...on, state: 'withdrawn' };
const able: Ability = { drivers: ['cnm-overlay'], docker: true, withoutIpv4: true, space: 'cnm-global' };
const bare: Ability = { ...able, docker: false };
const here = (more: Partial<Here> = {}, network: Partial<NetworkDescription> = {}): Here => ({
  ...{ id: 'aa', made: false, used: [] },
  ...more,
  network: { ...UBER, ...network },
});
const elsewhere = {
  identity: '10.9.0.0/24',
  ipam: { ...UBER.ipam, subnets: [{ subnet: '10.9.0.0/24', aux: {} }] },
};

t.test('what a host does', (t) => {
  const cases: readonly [what: string, is: Decision, wanted: Partial<Decision>][] = [
    ['nothing there: made', decide(on, undefined, able), { do: 'make' }],
    ['made before', decide(on, here({ made: true }), able), { outcome: 'ok' }],
    ['there by somebody else', decide(on, here(), able), { outcome: 'exists' }],
    [
      "under a managed plugin's name",
      decide(on, here({}, { driver: 'uber:latest' }), able),
      { outcome: 'exists' },
    ],
    [
      'other labels and settings of one host do not make it another',
      decide(on, here({}, { labels: {}, options: { vtep: 'userspace' } }), able),
      { outcome: 'exists' },
    ],
    [
      'another network of that name',
      decide(on, here({}, elsewhere), able),
      {
        outcome: 'refused',
        message:
          'uber-net is published with subnets 10.0.0.0/24, and has subnets 10.9.0.0/24 here; it was not touched',
      },
    ],
    [
      'of another driver',
      decide(on, here({}, { driver: 'bridge', kind: undefined, identity: undefined, options: {} }), able),
      {
        outcome: 'refused',
        message:
          'uber-net is published with driver cnm-overlay, options vni=4097, and has driver bridge, options (none) here; it was not touched',
      },
    ],
    [
      'from an earlier time it was published',
      decide(on, here({ made: true }, elsewhere), able),
      { do: 'remove', id: 'aa' },
    ],
    [
      'and in use',
      decide(on, here({ made: true, used: ['web', 'db'] }, elsewhere), able),
      { outcome: 'refused', message: /it stays while web, db are on it/ as unknown as string },
    ],
    [
      'no such driver',
      decide(on, undefined, { ...able, drivers: [] }),
      { outcome: 'refused', message: 'cnmd does not serve cnm-overlay here' },
    ],
    [
      'an Engine that would add IPv4',
      decide({ ...on, ipv4: false }, undefined, { ...able, withoutIpv4: false }),
      {
        outcome: 'refused',
        message: 'the Docker Engine here cannot make a network without IPv4: 28 and newer can',
      },
    ],
    [
      'our own can',
      decide({ ...on, ipv4: false, owner: 'cnm' }, undefined, { ...able, withoutIpv4: false }),
      { do: 'make' },
    ],
    ["no Docker: made by the host's own daemon", decide(on, undefined, bare), { do: 'make' }],
    ['which is it', decide(on, here({ made: true }, { owner: 'cnm' }), bare), { outcome: 'ok' }],
    [
      'no Docker, and addresses that it alone could give',
      decide({ ...on, ipam: { ...UBER.ipam, options: {} } }, undefined, bare),
      { outcome: 'no-docker', message: /only with addresses of cnm-global/ as unknown as string },
    ],
    [
      'there is Docker by now',
      decide(on, here({ made: true }, { owner: 'cnm' }), able),
      { do: 'remove', id: 'aa' },
    ],
    [
      'and the one of before is in use',
      decide(on, here({ made: true, used: ['box'] }, { owner: 'cnm' }), able),
      {
        outcome: 'ok',
        message: "made before there was Docker here; it is not Docker's while box are on it",
      },
    ],
    [
      "one that a person made without Docker is a person's",
      decide(on, here({}, { owner: 'cnm' }), able),
      { outcome: 'exists' },
    ],
    [
      "one of the daemons' own is theirs, with Docker, too",
      decide({ ...on, owner: 'cnm' }, here({ made: true }, { owner: 'cnm' }), able),
      { outcome: 'ok' },
    ],
    ['withdrawn, and not there', decide(off, undefined, able), { outcome: 'removed' }],
    ['withdrawn, and made', decide(off, here({ made: true }), able), { do: 'remove', id: 'aa' }],
    ['withdrawn, and not made by that', decide(off, here(), able), { outcome: 'own' }],
    [
      'withdrawn, and in use',
      decide(off, here({ made: true, used: ['web'] }), able),
      { outcome: 'kept', message: 'stays while web are on it' },
    ],
  ];
  for (const [what, is, wanted] of cases) t.match(is, wanted, what);
  t.end();
});

t.test('without a name in the cluster it is what its options and subnets say', (t) => {
  const listed: NetworkDescription = { ...UBER, identity: undefined, options: { peers: '192.0.2.1' } };
  t.ok(isSame(listed, { ...listed, labels: {}, owner: 'cnm' }));
  t.notOk(isSame(listed, { ...listed, options: { peers: '192.0.2.2' } }));
  t.notOk(isSame(listed, { ...listed, ...elsewhere, identity: undefined }));
  t.notOk(isSame(listed, UBER));
  t.end();
});

t.test('what was made is found the same, and stays: whatever there is, it comes to rest', (t) => {
  const some = fc.record({
    made: fc.boolean(),
    used: fc.constantFrom([], ['web']),
    subnets: fc.constantFrom({}, elsewhere),
    state: fc.constantFrom('published' as const, 'withdrawn' as const),
    owner: fc.constantFrom('docker' as const, 'cnm' as const),
    docker: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.option(some, { nil: undefined }), some, (there, { state, owner, docker }) => {
      const network: PublishedNetwork = { ...on, state, owner };
      const ability = { ...able, docker };
      let now =
        there && here({ made: there.made, used: there.used }, { ...there.subnets, owner: there.owner });
      for (let step = 0; step < 3; step += 1) {
        const decision = decide(network, now, ability);
        if (decision.do === 'nothing') {
          const isThere = now !== undefined && isSame(network, now.network);
          return ['ok', 'exists'].includes(decision.outcome) ? isThere : true;
        }
        // Only what was made by publishing goes, and never what is in use.
        if (decision.do === 'remove' && (now?.made !== true || now.used.length > 0)) return false;
        const by = owner === 'docker' && docker ? 'docker' : 'cnm';
        now = decision.do === 'make' ? here({ made: true }, { owner: by }) : undefined;
      }
      return false;
    }),
  );
  t.pass('none of 100 did not');
  t.end();
});

t.test('a copy bears the mark, and leaves alone what the hosts have set aside already', (t) => {
  t.match(copyOf(UBER, 'cnm-global'), {
    labels: { tier: 'one', 'cnm.published': 'true' },
    ipam: { subnets: [{ gateway: '10.0.0.1', aux: {} }] },
  });
  t.match(copyOf(UBER, 'other').ipam.subnets, [{ aux: { router: '10.0.0.9' } }]);
  t.end();
});

t.test('keys and records', (t) => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, unit: 'grapheme' }),
      fc.stringMatching(/^[0-9a-f]{12}$/),
      (name, host) => {
        t.same(readKey(publishedKey(name)), { name });
        t.same(readKey(reportKey(name, host)), { name, host });
      },
    ),
  );
  for (const other of [
    'overlay/host/a',
    'overlay/published/',
    'overlay/published/a/b/c',
    'overlay/published/%',
  ])
    t.equal(readKey(other), undefined, other);
  t.same(decodePublished(JSON.parse(JSON.stringify(on))), on);
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      t.equal(decodePublished(value), undefined);
      t.equal(decodeReport(value), undefined);
    }),
  );
  t.equal(decodePublished({ ...on, state: 'gone' }), undefined);
  t.end();
});
