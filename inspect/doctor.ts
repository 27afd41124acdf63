/** What `cnm doctor` says: differences, orphans and leaks, each with the command that a person would type. Pure. */
import type { Difference, Drift } from '../cnm/cnm.ts';
import { describe } from '../kernel/describe.ts';
import type { Orphan } from '../kernel/kernel.ts';
import type { Plan } from '../kernel/step.ts';
import { networkName, type Names } from './summaries.ts';
import type { CommandView, DifferenceView, DoctorView, LeakView, OrphanView } from './views.ts';

export function doctorView(
  drift: Drift,
  leaks: readonly LeakView[],
  notices: readonly string[],
  title: (difference: Difference) => DifferenceView,
): DoctorView {
  const { rulesetCurrent } = drift;
  const differences = drift.differences.map(title);
  const orphans = drift.orphans.map(orphanView);
  const healthy = rulesetCurrent && [differences, orphans, leaks].every((list) => list.length === 0);
  return { healthy, differences, orphans, leaks, rulesetCurrent, notices };
}

/** `name` is that of the object: a network's or sandbox's own, or of the container or sandbox that an endpoint is in. */
export function differenceView(
  { object, id, network, missing, repairable, awaits }: Difference,
  name: string | undefined,
  names: Names,
): DifferenceView {
  return {
    object,
    id,
    ...(name !== undefined && { name }),
    ...(network !== undefined && { network: networkName(network, names) }),
    repairable,
    ...(awaits !== undefined && { awaits }),
    missing: commands(missing),
  };
}

export function commands(plan: Plan): readonly CommandView[] {
  return plan.map((step) => ({ step, command: describe(step) }));
}

export function orphanView(orphan: Orphan): OrphanView {
  switch (orphan.kind) {
    case 'link': {
      const inside = orphan.netns === undefined ? '' : `nsenter --net=${orphan.netns} `;
      const where = orphan.netns === undefined ? '' : ` in namespace ${orphan.netns}`;
      return { orphan, what: `link ${orphan.name}${where}`, command: `${inside}ip link del ${orphan.name}` };
    }
    case 'netns':
      return {
        orphan,
        what: `namespace ${orphan.path}`,
        command: `umount ${orphan.path} && rm ${orphan.path}`,
      };
    case 'element': {
      const added = describe(orphan.step);
      const what = `element ${orphan.step.key.join(' . ')} of set ${orphan.step.set}`;
      return { orphan, what, command: added.replace(/^nft add/, 'nft delete') };
    }
    case 'entry': {
      const made = describe(orphan.step);
      const command = made.replace(/ (?:append|replace) /, ' del ').replace(/ nud permanent$/, '');
      return { orphan, what: `an entry for another host that no record tells of: ${made}`, command };
    }
    case 'accept': {
      const { bridge, network } = orphan;
      return {
        orphan,
        what: `accept rules for ${bridge} in DOCKER-USER, comment "cnm ${network}"`,
        command: `iptables -D DOCKER-USER … ${bridge} … --comment "cnm ${network}" -j ACCEPT`,
      };
    }
  }
}
