/** port.hold and conntrack.forget. */
import { portNames, portNumbers } from '../ports.ts';
import type { ConntrackForget, PortHold } from '../step.ts';
import type { Kind } from './kind.ts';

export const portHold: Kind<PortHold> = {
  looks: () => [],
  apply: (ports) => [{ via: 'port', verb: 'hold', ports }],
  inverse: (ports) => [{ via: 'port', verb: 'release', ports, numbers: portNumbers(ports) }],
  satisfied: (ports, { heldPorts }) => portNames(ports).every((name) => heldPorts.has(name)),
};

/** There is nothing to be found wanting: what matters is that it happens whenever ports change hands. */
export const conntrackForget: Kind<ConntrackForget> = {
  looks: () => [],
  apply: (ports) => [{ via: 'conntrack', ports }],
  inverse: (ports) => [{ via: 'conntrack', ports }],
  satisfied: () => true,
};
