import t from 'tap';
import { ip } from '../../address/ip.ts';
import { prefix } from '../../address/prefix.ts';
import type { DoctorView } from '../views.ts';
import { doctorReport, fixReport } from './doctor.ts';
import { LOST } from './samples.ts';
import { PLAIN } from './text.ts';

const HEALTHY: DoctorView = {
  healthy: true,
  differences: [],
  orphans: [],
  leaks: [],
  rulesetCurrent: true,
  notices: [],
};

const SICK: DoctorView = {
  healthy: false,
  rulesetCurrent: false,
  differences: [
    {
      object: 'network',
      id: LOST.network?.id ?? '',
      name: 'demo',
      repairable: true,
      missing: [
        {
          step: { do: 'addr.add', link: 'br-8f3a5c0d1e2f', prefix: prefix('10.88.0.1/16') },
          command: 'ip addr add 10.88.0.1/16 dev br-8f3a5c0d1e2f',
        },
        {
          step: { do: 'link.up', link: 'br-8f3a5c0d1e2f' },
          command: 'ip link set br-8f3a5c0d1e2f up',
        },
      ],
    },
    LOST,
  ],
  orphans: [{ orphan: { kind: 'link', name: 'vh1' }, what: 'link vh1', command: 'ip link del vh1' }],
  leaks: [{ poolId: 'p', pool: prefix('10.88.0.0/16'), address: ip('10.88.0.7'), name: 'web' }],
  notices: ['the state file was damaged and set aside as /var/lib/cnm/cnm.db.damaged-1'],
};

const SICK_TEXT = `notice: the state file was damaged and set aside as /var/lib/cnm/cnm.db.damaged-1
ruleset: the nftables table "inet cnm" is absent, or not the one that this version loads
    --fix: loads it
network demo (8f3a5c0d1e2f): 2 missing
    missing: ip addr add 10.88.0.1/16 dev br-8f3a5c0d1e2f
    missing: ip link set br-8f3a5c0d1e2f up
    --fix: runs them in this order
endpoint c1 on network demo (9e8d7c6b5a49): 1 missing
    missing: ip link set vh9e8d7c6b5a49 master br-8f3a5c0d1e2f
    --fix: cannot; the link was in a container, which has to be started again
orphan: link vh1 bears our mark and belongs to nothing
    --fix: ip link del vh1
lease: address 10.88.0.7 of pool 10.88.0.0/16 (for web) belongs to nothing
    --fix: releases it

5 findings. Nothing was changed; repair with: cnm doctor --fix
`;

t.test('the report', (t) => {
  t.equal(doctorReport(HEALTHY, PLAIN), 'Store and kernel agree.\n');
  t.equal(doctorReport(SICK, PLAIN), SICK_TEXT);
  t.end();
});

t.test('what --fix did', (t) => {
  const nothing = {
    rulesetLoaded: false,
    undone: [],
    finished: [],
    repaired: [],
    removed: [],
    released: [],
    failed: [],
  };
  t.equal(
    fixReport({ ...nothing, after: HEALTHY }, PLAIN),
    'There was nothing to repair.\n\nStore and kernel agree.\n',
  );
  const [repaired] = SICK.differences;
  t.ok(repaired);
  const fix = {
    rulesetLoaded: true,
    undone: ['endpoint e1'],
    finished: ['network n1'],
    repaired: repaired === undefined ? [] : [repaired],
    removed: SICK.orphans,
    released: SICK.leaks,
    failed: ['Cannot do it: EPERM'],
    after: HEALTHY,
  };
  t.equal(
    fixReport(fix, PLAIN),
    `loaded     the nftables table "inet cnm"
undone     endpoint e1 (a crash had cut it off)
finished   network n1 (a crash had cut it off)
repaired   network demo (8f3a5c0d1e2f)
    ip addr add 10.88.0.1/16 dev br-8f3a5c0d1e2f
    ip link set br-8f3a5c0d1e2f up
removed    link vh1
released   address 10.88.0.7 of pool 10.88.0.0/16 (for web)
failed     Cannot do it: EPERM

Store and kernel agree.
`,
  );
  t.match(fixReport({ ...nothing, after: SICK }, PLAIN), /5 findings\. This is left/);
  t.end();
});
