/** The bridge driver: a Linux bridge per network, a veth pair per endpoint. */
import type { Driver } from '../../cnm/driver.ts';
import { assertIpv6Enabled } from '../../cnm/families.ts';
import type { NetworkRecord, PublishedPort } from '../../cnm/model.ts';
import type { Plan } from '../../kernel/step.ts';
import { assertBridgeUsable, assertMtuCarriesIpv6, assertNoOverlap, assertSubnets } from './checks.ts';
import { assertDefaults } from './endpoint-options.ts';
import { gatewaySkip } from './gateway-skip.ts';
import { assertModesFit, parseOptions } from './options.ts';
import { bridgeOf, endpointPlan, joinInfo, macOf, networkPlan } from './plan.ts';
import { loopbackWay, publishPlan, publishRequests } from './publishing.ts';

const NAME = 'cnm-bridge';

export const bridge: Driver = {
  name: NAME,
  scope: 'local',
  connectivityScope: 'local',
  network(spec, facts, others) {
    const options = parseOptions(spec.options);
    assertModesFit(options, spec.internal);
    assertSubnets(spec);
    assertIpv6Enabled(spec, facts);
    assertMtuCarriesIpv6(spec, options.mtu);
    assertDefaults(spec, options.mtu);
    assertNoOverlap(spec, others);
    assertBridgeUsable(spec, bridgeOf(spec, options), facts, bridgesOf(others));
    return networkPlan(spec, options, facts);
  },
  gatewaySkip,
  mac: (_network, endpoint) => macOf(endpoint),
  endpoint: endpointPlan,
  join: joinInfo,
  publishing: { requests: publishRequests, plan: publicationPlan },
};

function publicationPlan(network: NetworkRecord, published: readonly PublishedPort[]): Plan {
  return [
    ...loopbackWay(network, bridgeOf(network, parseOptions(network.options)), published),
    ...publishPlan(network, published),
  ];
}

function bridgesOf(
  others: readonly NetworkRecord[],
): readonly { readonly network: NetworkRecord; readonly bridge: string }[] {
  return others
    .filter((network) => network.driver === NAME)
    .map((network) => ({ network, bridge: bridgeOf(network, parseOptions(network.options)) }));
}
