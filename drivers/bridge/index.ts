/** The bridge driver: a Linux bridge per network, a veth pair per endpoint. */
import type { Driver } from '../../cnm/driver.ts';
import type { NetworkRecord } from '../../cnm/model.ts';
import { assertBridgeUsable, assertMtuCarriesIpv6, assertNoOverlap, assertSubnets } from './checks.ts';
import { assertModesFit, parseOptions } from './options.ts';
import { bridgeOf, endpointPlan, joinInfo, macOf, networkPlan } from './plan.ts';
import { publishPlan, publishRequests } from './publishing.ts';

const NAME = 'cnm-bridge';

export const bridge: Driver = {
  name: NAME,
  scope: 'local',
  connectivityScope: 'local',
  network(spec, facts, others) {
    const options = parseOptions(spec.options);
    assertModesFit(options, spec.internal);
    assertSubnets(spec);
    assertMtuCarriesIpv6(spec, options.mtu);
    assertNoOverlap(spec, others);
    assertBridgeUsable(spec, bridgeOf(spec, options), facts, bridgesOf(others));
    return networkPlan(spec, options, facts);
  },
  mac: (_network, endpoint) => macOf(endpoint),
  endpoint: endpointPlan,
  join: joinInfo,
  publishing: { requests: publishRequests, plan: publishPlan },
};

function bridgesOf(
  others: readonly NetworkRecord[],
): readonly { readonly network: NetworkRecord; readonly bridge: string }[] {
  return others
    .filter((network) => network.driver === NAME)
    .map((network) => ({ network, bridge: bridgeOf(network, parseOptions(network.options)) }));
}
