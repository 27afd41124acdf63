/** For which families a network needs no gateway address unless the user names one. Pure. */
import type { GatewaySkip } from '../../cnm/driver.ts';
import type { NetworkSpec } from '../../cnm/model.ts';

const BRIDGE = 'com.docker.network.bridge';
const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);

/**
 * The rule of Docker's own bridge driver (moby pull requests 49261 and 49262): no gateway where the bridge gets no address
 * and nobody else could be the gateway, so that both addresses of a /31 go to containers. That is an isolated network, and
 * for IPv4 also an internal one with inhibit_ipv4. An internal network without either keeps its gateway: the host talks to
 * its containers there, and the question carries no subnet by which a /31 could be told.
 *
 * A value that is none (inhibit_ipv4=maybe) skips nothing here: the network's creation follows, and refuses it by name.
 */
export function gatewaySkip(network: Pick<NetworkSpec, 'options' | 'internal'>): GatewaySkip {
  const { options, internal } = network;
  const isolated = (family: 4 | 6): boolean => options[`${BRIDGE}.gateway_mode_ipv${family}`] === 'isolated';
  const inhibited = internal && TRUE.has(options[`${BRIDGE}.inhibit_ipv4`] ?? '');
  return { 4: isolated(4) || inhibited, 6: isolated(6) };
}
