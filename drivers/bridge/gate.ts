/**
 * The gate of a network whose published ports obey the host's own input policy (`firewall=host`). Pure.
 *
 * A packet for a published port is translated before the host's rules see it, and then passes by FORWARD, where they do not judge what is
 * for the host. Therefore such packets go on to INPUT untranslated; a copy of what gets through comes back by this veth pair, as
 * if from the wire, and is translated then (kernel/chains.ts).
 */
import { GATE } from '../../address/gate.ts';
import { macFromSeed } from '../../address/mac.ts';
import { addressOf, networkOf, prefixOf } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import type { NftElement, Plan, Step } from '../../kernel/step.ts';
import { gateNamesOf } from './names.ts';
import type { BridgeOptions } from './options.ts';

export function gateElements(
  spec: NetworkSpec,
  options: BridgeOptions,
  bridge: string,
): readonly NftElement[] {
  const families = translated(spec, options);
  if (families.length === 0) return [];
  const { entrance, exit } = gateNamesOf(spec.id);
  return [
    ...[entrance, exit].map((name): NftElement => ({ do: 'nft.element', set: 'gates', key: [name] })),
    ...families.flatMap((family) =>
      poolsOf(spec, family).map((pool): NftElement => ({
        do: 'nft.element',
        set: `inside${family}`,
        key: [networkOf(pool), bridge],
      })),
    ),
  ];
}

export function gateLinks(spec: NetworkSpec, options: BridgeOptions): Plan {
  const families = translated(spec, options);
  if (families.length === 0) return [];
  const { entrance, exit } = gateNamesOf(spec.id);
  // The same at both ends: a frame to oneself is one for the peer, and no neighbour need be known.
  const mac = macFromSeed(`gate ${spec.id}`);
  return [
    {
      do: 'link.add',
      name: entrance,
      mark: { network: spec.id },
      link: { kind: 'veth', peer: { name: exit, mac } },
      mac,
      arp: false,
      linkLocal: false,
      // Whatever the wire brought fits through, put together again from its fragments too (drivers/net/veth.c: ETH_MAX_MTU).
      mtu: 65535,
    },
    ...families.flatMap((family) => (family === 4 ? route4(entrance, exit) : route6(entrance, exit))),
    { do: 'link.up', link: exit },
    { do: 'link.up', link: entrance },
  ];
}

function route4(entrance: string, exit: string): readonly Step[] {
  return [
    // The way back to a client leads by another link, which strict filtering would not have; the looser of two settings counts (IN_DEV_RPFILTER).
    setting(`ipv4.conf.${exit}.rp_filter`, '2'),
    { do: 'addr.add', link: entrance, prefix: GATE[4].near },
    // Even loose filtering refuses everything on a link without an address (fib_validate_source()).
    { do: 'addr.add', link: exit, prefix: prefixOf(addressOf(GATE[4].near), 32) },
  ];
}

function route6(entrance: string, exit: string): readonly Step[] {
  return [
    ...[entrance, exit].map((name) => setting(`ipv6.conf.${name}.disable_ipv6`, '0')),
    { do: 'addr.add', link: entrance, prefix: GATE[6].near },
  ];
}

function setting(key: string, value: string): Step {
  return { do: 'sysctl.set', key: `net.${key}`, value, keep: true };
}

/** The families in which there is something to obey: routed ports are the container's own, and no port of the host's. */
function translated(spec: NetworkSpec, { firewall, gatewayMode }: BridgeOptions): readonly (4 | 6)[] {
  if (firewall !== 'host' || spec.internal) return [];
  return ([4, 6] as const).filter(
    (family) => poolsOf(spec, family).length > 0 && gatewayMode[family] !== 'routed',
  );
}

function poolsOf(spec: NetworkSpec, family: 4 | 6): readonly Prefix[] {
  return (family === 4 ? spec.ipv4 : spec.ipv6).map(({ pool }) => pool);
}
