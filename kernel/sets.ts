/** The sets and maps of our nftables table: what an element of each is made of. */
import type { SetType } from './element.ts';
import type { NftSetName } from './step.ts';

export const TABLE = 'cnm';

const BRIDGE: SetType = { key: ['ifname'] };
/** A pair: where a packet comes from and where it goes. */
const PAIR: SetType = { key: ['ifname', 'ifname'] };

export const SETS: Readonly<Record<NftSetName, SetType>> = {
  bridges: BRIDGE,
  same_bridge: PAIR,
  hairpin: PAIR,
  internal: BRIDGE,
  trusted: PAIR,
  masquerade4: BRIDGE,
  masquerade6: BRIDGE,
  snat4: { ...BRIDGE, data: ['ipv4_addr'] },
  snat6: { ...BRIDGE, data: ['ipv6_addr'] },
  unprotected4: BRIDGE,
  unprotected6: BRIDGE,
  routed4: BRIDGE,
  routed6: BRIDGE,
  open4: { key: ['ipv4_addr', 'inet_proto', 'inet_service'], counted: true },
  open6: { key: ['ipv6_addr', 'inet_proto', 'inet_service'], counted: true },
  publish4: { key: ['inet_proto', 'ipv4_addr', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
  publish4_range: {
    key: ['inet_proto', 'ipv4_addr', 'inet_service'],
    data: ['ipv4_addr'],
    interval: true,
  },
  publish4_any: { key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
  publish4_any_range: { key: ['inet_proto', 'inet_service'], data: ['ipv4_addr'], interval: true },
  publish6: { key: ['inet_proto', 'ipv6_addr', 'inet_service'], data: ['ipv6_addr', 'inet_service'] },
  publish6_range: {
    key: ['inet_proto', 'ipv6_addr', 'inet_service'],
    data: ['ipv6_addr'],
    interval: true,
  },
  publish6_any: { key: ['inet_proto', 'inet_service'], data: ['ipv6_addr', 'inet_service'] },
  publish6_any_range: { key: ['inet_proto', 'inet_service'], data: ['ipv6_addr'], interval: true },
  guarded4: { key: ['inet_proto', 'ipv4_addr', 'inet_service'], interval: true },
  guarded6: { key: ['inet_proto', 'ipv6_addr', 'inet_service'], interval: true },
  gates: { key: ['ifname'] },
  inside4: { key: ['ipv4_addr', 'ifname'], interval: true },
  inside6: { key: ['ipv6_addr', 'ifname'], interval: true },
  alike4: { key: ['ipv4_addr', 'ifname'], interval: true },
  alike6: { key: ['ipv6_addr', 'ifname'], interval: true },
  dns4: { key: ['ifname', 'ipv4_addr'] },
  dns6: { key: ['ifname', 'ipv6_addr'] },
};

export const SET_NAMES = Object.keys(SETS) as readonly NftSetName[];
