/** Published ports of a network with an uplink; one without has none of its own: Docker publishes by docker_gwbridge. Pure. */
import type { Publishing } from '../../cnm/driver.ts';
import { CnmError } from '../../cnm/errors.ts';
import { loopbackSteps, publishRequest, publishSteps } from '../../cnm/publication.ts';
import { outsideOf } from './egress.ts';
import { uplinkNameOf } from './names.ts';
import { OPTION, parseOptions } from './options.ts';

export const publishing: Publishing = {
  requests(network, endpoint, ports) {
    // Nothing comes in over the edge of an internal network, published or not; Docker sends it no ports either.
    if (network.internal) return [];
    const { egress } = parseOptions(network);
    if (egress !== 'gateway' && ports.length > 0)
      throw new CnmError(
        'option-invalid',
        `This network publishes no ports of its own: create it with -o ${OPTION.egress}=gateway`,
      );
    return ports.map((binding) =>
      publishRequest(endpoint, binding, { via: (address) => outsideOf(network, address) }),
    );
  },

  plan: ({ id }, published) => [
    ...loopbackSteps(uplinkNameOf(id), published),
    ...publishSteps(published, false),
  ],
};
