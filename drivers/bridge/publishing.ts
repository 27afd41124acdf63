/** Published ports of a bridge network. Pure. */
import type { PublishRequest } from '../../cnm/driver.ts';
import type {
  EndpointSpec,
  NetworkRecord,
  NetworkSpec,
  PortBinding,
  PublishedPort,
} from '../../cnm/model.ts';
import { loopbackSteps, publishRequest, publishSteps } from '../../cnm/publication.ts';
import type { Plan, Step } from '../../kernel/step.ts';
import { parseOptions } from './options.ts';

export function publishRequests(
  network: NetworkSpec,
  endpoint: EndpointSpec,
  ports: readonly PortBinding[],
): readonly PublishRequest[] {
  // Nothing comes in over the edge of an internal network, published or not; Docker sends it no ports either.
  if (network.internal) return [];
  const { hostBinding, gatewayMode } = parseOptions(network.options);
  const routed = ([4, 6] as const).filter((family) => gatewayMode[family] === 'routed');
  return ports.map((binding) => publishRequest(endpoint, binding, { hostBinding, routed }));
}

export function publishPlan(network: NetworkSpec, published: readonly PublishedPort[]): Plan {
  return publishSteps(published, parseOptions(network.options).firewall === 'host');
}

/** Only on a bridge of ours: on the user's the setting would outlast our table. */
export function loopbackWay(
  network: NetworkRecord,
  bridge: string,
  published: readonly PublishedPort[],
): readonly Step[] {
  const isOurs = network.plan.some((step) => step.do === 'link.add' && step.name === bridge);
  return isOurs ? loopbackSteps(bridge, published) : [];
}
