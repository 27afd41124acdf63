/**
 * `cnm network check`: whether the LAN is there, and whether it talks to containers. A macvlan link with a MAC of its own, as a container has
 * it, asks for addresses of the LAN; so does the parent, with its MAC. Who answers the one and not the other tells where it fails. Pure.
 */
import { familyOf, type Ip } from '../../address/ip.ts';
import { macFromSeed, type Mac } from '../../address/mac.ts';
import { addressOf, lengthOf } from '../../address/prefix.ts';
import type { Check, Finding, HostSettings, Questions } from '../../cnm/driver.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { shortOf } from '../../cnm/short-name.ts';
import type { Facts, LinkFact } from '../../kernel/facts.ts';
import type { NeighbourSaying } from '../../kernel/kernel.ts';
import { warningOf } from './nics.ts';
import { type MacvlanOptions, parseOptions } from './options.ts';
import { outageOf, wireOf } from './wire.ts';

export function check(network: NetworkSpec, facts: Facts, host: HostSettings, more: readonly Ip[]): Check {
  const options = parseOptions(network.options);
  const device = wireOf(network.id, options);
  if (options.parent === undefined)
    return { findings: [{ what: 'parent', result: 'ok', detail: 'none: the network leads nowhere' }] };
  const { links } = facts.host;
  const [wire, base] = [links.get(device), baseOf(device, links)];
  const outage = outageOf(device, options, links);
  const findings: Finding[] = [
    outage === undefined
      ? { what: 'parent', result: 'ok', detail: `${device} is up and has a carrier` }
      : { what: 'parent', result: 'failed', detail: outage },
    ...(base === undefined ? [] : [nicFinding(base), promiscuityFinding(base)]),
  ];
  if (outage !== undefined || wire === undefined) return { findings };
  if (options.mode === 'passthru') {
    const detail = 'not asked: with passthru the one container and the parent have the same MAC';
    return { findings: [...findings, { what: 'frames', result: 'unknown', detail }] };
  }
  const addresses = targets(network, device, facts, more);
  if (addresses.length === 0) return { findings: [...findings, NOBODY_TO_ASK] };
  return { findings, questions: questionsOf(network, options, wire, host, addresses) };
}

const NOBODY_TO_ASK: Finding = {
  what: 'frames',
  result: 'unknown',
  detail: 'nobody to ask: the network has no gateway; name an address of the LAN with --ask',
};

/** The interface below all VLANs. */
function baseOf(name: string, links: Facts['host']['links']): LinkFact | undefined {
  const link = links.get(name);
  return link?.vlan === undefined ? link : baseOf(link.parent ?? '', links);
}

function nicFinding(base: LinkFact): Finding {
  const warning = warningOf(base);
  if (warning !== undefined) return { what: 'NIC', result: 'warning', detail: warning };
  const kind = base.kind ?? base.nic?.driver ?? 'a device with no driver of its own';
  return { what: 'NIC', result: 'ok', detail: `${base.name} (${kind}): nothing is known against it` };
}

function promiscuityFinding({ name, promisc, promiscuity }: LinkFact): Finding {
  const detail =
    promiscuity === 0
      ? `${name} is not: it takes in frames for its own MAC and for those that the kernel tells it, its containers' among them`
      : `${name} is, ${promisc ? 'because it was set so' : 'because of what listens on it, or of a bridge or passthru link'}`;
  return { what: 'promiscuous', result: 'ok', detail };
}

/** Whoever should be on the LAN: the network's gateways and the routers of the host on that wire. Not the host, whom its containers never reach. */
function targets(network: NetworkSpec, device: string, { host }: Facts, more: readonly Ip[]): readonly Ip[] {
  const subnets = [...network.ipv4, ...network.ipv6];
  const gateways = subnets.flatMap(({ gateway }) => (gateway === undefined ? [] : [addressOf(gateway)]));
  const routers = host.routes.flatMap(({ to, via, link }) =>
    via !== undefined && link === device && lengthOf(to) === 0 ? [via] : [],
  );
  const own = new Set(host.addresses.map(({ prefix }) => addressOf(prefix)));
  return [...new Set([...more, ...gateways, ...routers])].filter((address) => !own.has(address));
}

/** In a namespace of its own, so that nothing of the host's answers there, nor takes what a router advertises. */
function questionsOf(
  network: NetworkSpec,
  { mode }: MacvlanOptions,
  wire: LinkFact,
  host: HostSettings,
  addresses: readonly Ip[],
): Questions {
  const name = `cnmt${shortOf(network.id)}`;
  const netns = `${host.netnsDir}/check-${shortOf(network.id)}`;
  const child = macFromSeed(`check ${network.id}`);
  const askers = [
    { netns, link: name, mac: child },
    ...(wire.mac === undefined ? [] : [{ link: wire.name, mac: wire.mac }]),
  ];
  return {
    plan: [
      { do: 'netns.add', path: netns },
      {
        do: 'link.add',
        name,
        mark: { network: network.id },
        link: { kind: 'macvlan', parent: wire.name, mode },
        mac: child,
      },
      { do: 'link.move', link: name, to: netns, as: name },
      { do: 'link.up', netns, link: name },
    ],
    askers,
    addresses,
    judge: (heard) => addresses.map((address) => verdict(address, heard, { name, child, wire })),
  };
}

interface Asked {
  readonly name: string;
  readonly child: Mac;
  readonly wire: LinkFact;
}

function verdict(address: Ip, heard: readonly NeighbourSaying[], { name, child, wire }: Asked): Finding {
  const said = heard.filter((one) => one.address === address);
  const answered = (by: string, to: Mac | undefined) =>
    said.find((one) => one.what === 'answer' && one.by === by && one.to === to);
  const hasLeft = said.some(({ outgoing, by, from }) => outgoing && by === wire.name && from === child);
  const way = hasLeft ? `left by ${wire.name}` : `was not seen to leave by ${wire.name}`;
  const answer = answered(name, child);
  const finding = (result: Finding['result'], detail: string): Finding => ({
    what: 'frames',
    result,
    detail,
  });
  if (answer !== undefined)
    return finding(
      'ok',
      `a frame with a container's MAC ${way}, and ${address} (${answer.from}) answered it`,
    );
  if (answered(wire.name, child) !== undefined)
    return finding(
      'failed',
      `the answer of ${address} to a container's MAC came to ${wire.name}, and not to the container`,
    );
  if (answered(wire.name, wire.mac) === undefined) {
    return finding(
      'unknown',
      `nobody answered for ${address}, neither a container's MAC (whose frame ${way}) nor the one of ${wire.name}: nobody may have that address; name another with --ask`,
    );
  }
  return finding(
    'failed',
    `${address} answers the MAC of ${wire.name} and not a container's, whose frame ${way}: the NIC, its hypervisor, the access point or the port of the switch drops foreign MACs${familyOf(address) === 6 ? ', or multicast' : ''}`,
  );
}
