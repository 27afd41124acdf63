/** The overlay driver: layer 2 over many hosts, a VXLAN tunnel and a bridge per subnet in a namespace per network. */
import type { Driver } from '../../cnm/driver.ts';
import { assertIpv6Enabled } from '../../cnm/families.ts';
import { allocateOptions } from './allocate.ts';
import { assertSharedAddresses, assertVnisFree } from './checks.ts';
import { assertEgressFits, hostSwitches } from './egress.ts';
import { parseOptions } from './options.ts';
import { endpointPlan, followNodes, joinInfo, macOf, presencePlan } from './plan.ts';
import { publishing } from './publishing.ts';
import { segmentsOf } from './segments.ts';
import { ownOptions, placeOf, remotePlan, termsOf } from './sharing.ts';
import { mtuNow } from './underlay.ts';

export const overlay: Driver = {
  name: 'cnm-overlay',
  scope: 'local',
  connectivityScope: 'global',
  /** Next to nothing: a host holds nothing of a network that it has no endpoint on. */
  network(spec, facts, others) {
    const options = parseOptions(spec);
    assertEgressFits(spec, options, segmentsOf(spec, options));
    assertSharedAddresses(spec);
    assertIpv6Enabled(spec, facts);
    assertVnisFree(spec, options, others, facts);
    return hostSwitches(spec, options);
  },
  presence: presencePlan,
  follow: followNodes,
  mtu: mtuNow,
  allocate: allocateOptions,
  mac: (network, endpoint) => macOf(endpoint, network),
  endpoint: endpointPlan,
  join: joinInfo,
  publishing,
  sharing: { terms: termsOf, ownOptions, place: placeOf, remote: remotePlan },
};
