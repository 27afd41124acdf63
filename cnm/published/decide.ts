/** What a host does about a network that is published, or is so no longer. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { PUBLISHED_LABEL, type NetworkDescription, type PublishedNetwork, type Report } from './record.ts';

/** The network that a host has under the name, whoever made it. */
export interface Here {
  readonly id: string;
  readonly network: NetworkDescription;
  /** It was made because it is, or was, published. */
  readonly made: boolean;
  /** Containers and sandboxes on it, those that do not run too. */
  readonly used: readonly string[];
}

/** What a host can do. */
export interface Ability {
  /** Names of the network drivers that its daemon serves, and whose networks several hosts can have. */
  readonly drivers: readonly string[];
  /** Its Docker Engine answers. False: it has none, and its own daemon makes networks of Docker's. */
  readonly docker: boolean;
  /** False: its Engine makes every network with IPv4, whatever it is told (before 28). */
  readonly withoutIpv4: boolean;
  /** The address space that the hosts share. */
  readonly space: string;
}

export type Outcome = Pick<Report, 'outcome' | 'message'>;

export type Decision =
  | { readonly do: 'make' }
  | { readonly do: 'remove'; readonly id: string }
  | ({ readonly do: 'nothing' } & Outcome);

export function decide(network: PublishedNetwork, here: Here | undefined, ability: Ability): Decision {
  return network.state === 'published' ? make(network, here, ability) : unmake(here);
}

function make(network: PublishedNetwork, here: Here | undefined, ability: Ability): Decision {
  if (here === undefined) return obstacleTo(network, ability) ?? { do: 'make' };
  if (isSame(network, here.network)) return keep(network, here, ability);
  const differs = difference(network, here.network);
  if (!here.made) return refused(`${differs}; it was not touched`);
  // From an earlier time that the name was published.
  return here.used.length > 0
    ? refused(`${differs}; it stays while ${here.used.join(', ')} are on it`)
    : { do: 'remove', id: here.id };
}

/** What was made without Docker is Docker's when there is one: else its containers could not be on it. */
function keep(network: PublishedNetwork, here: Here, ability: Ability): Decision {
  if (!here.made) return { do: 'nothing', outcome: 'exists' };
  const moves = ability.docker && network.owner === 'docker' && here.network.owner === 'cnm';
  if (!moves) return { do: 'nothing', outcome: 'ok' };
  if (here.used.length === 0) return { do: 'remove', id: here.id };
  const message = `made before there was Docker here; it is not Docker's while ${here.used.join(', ')} are on it`;
  return { do: 'nothing', outcome: 'ok', message };
}

function unmake(here: Here | undefined): Decision {
  if (here === undefined) return { do: 'nothing', outcome: 'removed' };
  if (!here.made)
    return { do: 'nothing', outcome: 'own', message: 'stays, for it was not made by publishing it' };
  return here.used.length > 0
    ? { do: 'nothing', outcome: 'kept', message: `stays while ${here.used.join(', ')} are on it` }
    : { do: 'remove', id: here.id };
}

function refused(message: string): Decision {
  return { do: 'nothing', outcome: 'refused', message };
}

function obstacleTo(network: NetworkDescription, ability: Ability): Decision | undefined {
  const { ipv4, owner, ipam } = network;
  const { drivers, docker, withoutIpv4, space } = ability;
  const name = kindOf(network);
  if (!drivers.includes(name))
    return refused(
      `cnmd does not serve ${name} here${drivers.length > 0 ? `, but ${drivers.join(', ')}` : ''}`,
    );
  if (owner === 'cnm') return undefined;
  if (docker)
    return ipv4 || withoutIpv4
      ? undefined
      : refused('the Docker Engine here cannot make a network without IPv4: 28 and newer can');
  if (isShared(ipam, space)) return undefined;
  // Whoever gives its addresses does so by Docker's word alone.
  const message = `without Docker a host can have its networks only with addresses of ${space}`;
  return { do: 'nothing', outcome: 'no-docker', message };
}

/** By what the hosts of the cluster agreed on; where they agree on nothing, by all that makes up the network. */
export function isSame(one: NetworkDescription, other: NetworkDescription): boolean {
  if (kindOf(one) !== kindOf(other)) return false;
  if (one.identity !== undefined || other.identity !== undefined) return one.identity === other.identity;
  return isDeepStrictEqual(one.options, other.options) && subnetsOf(one) === subnetsOf(other);
}

/** For people: what is published, and what a host has under the name. */
export function difference(there: NetworkDescription, here: NetworkDescription): string {
  const pairs = [
    ['driver', kindOf(there), kindOf(here)],
    ['subnets', subnetsOf(there), subnetsOf(here)],
    ['options', optionsOf(there), optionsOf(here)],
  ] as const;
  const unequal = pairs.filter(([, one, other]) => one !== other);
  const known = ['the name in the cluster', there.identity ?? '', here.identity ?? ''] as const;
  const differing = unequal.length > 0 ? unequal : [known];
  const show = (index: 1 | 2) => differing.map((pair) => `${pair[0]} ${pair[index] || '(none)'}`).join(', ');
  return `${there.name} is published with ${show(1)}, and has ${show(2)} here`;
}

function subnetsOf({ ipam }: NetworkDescription): string {
  return ipam.subnets
    .map(({ subnet }) => subnet)
    .sort()
    .join(', ');
}

function optionsOf({ options }: NetworkDescription): string {
  return Object.entries(options)
    .map((pair) => pair.join('='))
    .sort()
    .join(' ');
}

function kindOf({ kind, driver }: NetworkDescription): string {
  return kind ?? driver;
}

/**
 * What a host is to make. Auxiliary addresses of a subnet that the hosts share are set aside already, by the host where they were first
 * said: asked for once more they would be taken.
 */
export function copyOf({ ipam, labels, ...network }: NetworkDescription, space: string): NetworkDescription {
  const shared = isShared(ipam, space);
  return {
    ...network,
    labels: { ...labels, [PUBLISHED_LABEL]: 'true' },
    ipam: { ...ipam, subnets: ipam.subnets.map((one) => (shared ? { ...one, aux: {} } : one)) },
  };
}

function isShared({ options }: NetworkDescription['ipam'], space: string): boolean {
  return options['space'] === space;
}
