/** vtep.run. */
import type { VtepRun } from '../step.ts';
import { vtepName } from '../vtep-name.ts';
import type { Kind } from './kind.ts';

export const vtepRun: Kind<VtepRun> = {
  looks: () => [],
  apply: (vtep) => [{ via: 'vtep', verb: 'start', vtep }],
  inverse: (vtep) => [{ via: 'vtep', verb: 'stop', vtep }],
  satisfied: (vtep, { vteps }) => vteps?.has(vtepName(vtep)) === true,
};
