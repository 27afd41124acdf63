/** The options of `docker network create -d cnm-bridge -o …`, under Docker's own names (libnetwork.md §1.1) where Docker has them. */
import { ip, type Ip } from '../../address/ip.ts';
import { DNS_OPTIONS, type DnsPlace, dnsPlace } from '../../cnm/dns-options.ts';
import { CnmError } from '../../cnm/errors.ts';
import { ENDPOINT_DEFAULTS } from './endpoint-options.ts';
import {
  addressValue,
  assertKnown,
  booleanValue,
  choiceValue,
  interfacePrefixValue,
  interfaceValue,
  invalidValue,
  mtuValue,
} from '../../cnm/option-values.ts';

const GATEWAY_MODES = ['nat', 'nat-unprotected', 'routed', 'isolated'] as const;
export type GatewayMode = (typeof GATEWAY_MODES)[number];
const FIREWALLS = ['cnm', 'host'] as const;

export interface BridgeOptions {
  /** Bytes; undefined = the kernel's default, 1500. */
  readonly mtu: number | undefined;
  /** The bridge that the user named; undefined = one of ours, named after the network. */
  readonly bridgeName: string | undefined;
  readonly masquerade: boolean;
  readonly ifacePrefix: string;
  /** Whether containers of the network reach each other. */
  readonly icc: boolean;
  readonly gatewayMode: Readonly<Record<4 | 6, GatewayMode>>;
  /** Where `-p` without an address publishes; 0.0.0.0 = every address of the host, :: included for containers with IPv6. */
  readonly hostBinding: Ip;
  /** The address that outbound packets get instead of the outgoing interface's. */
  readonly hostAddress: Readonly<Record<4 | 6, Ip | undefined>>;
  /** No IPv4 address on the bridge. */
  readonly inhibitIpv4: boolean;
  /** Interfaces from which published container ports are reached directly. */
  readonly trustedInterfaces: readonly string[];
  /** `host`: what comes in for a published port must also be let in by the host's own input policy. */
  readonly firewall: (typeof FIREWALLS)[number];
  readonly dns: DnsPlace;
}

const BRIDGE = 'com.docker.network.bridge.';
const NAMES = {
  mtu: 'com.docker.network.driver.mtu',
  bridgeName: `${BRIDGE}name`,
  masquerade: `${BRIDGE}enable_ip_masquerade`,
  ifacePrefix: 'com.docker.network.container_iface_prefix',
  icc: `${BRIDGE}enable_icc`,
  gatewayMode4: `${BRIDGE}gateway_mode_ipv4`,
  gatewayMode6: `${BRIDGE}gateway_mode_ipv6`,
  hostBinding: `${BRIDGE}host_binding_ipv4`,
  hostIpv4: 'com.docker.network.host_ipv4',
  hostIpv6: 'com.docker.network.host_ipv6',
  inhibitIpv4: `${BRIDGE}inhibit_ipv4`,
  trusted: `${BRIDGE}trusted_host_interfaces`,
  defaultBridge: `${BRIDGE}default_bridge`,
  firewall: 'firewall',
} as const;

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function parseOptions(options: Readonly<Record<string, string>>): BridgeOptions {
  assertKnown('cnm-bridge', options, [...Object.values(NAMES), ...DNS_OPTIONS, ...ENDPOINT_DEFAULTS]);
  const of = (name: keyof typeof NAMES) => options[NAMES[name]];
  assertNotDefaultBridge(of('defaultBridge'));
  const bridgeName = of('bridgeName');
  return {
    mtu: mtuValue(NAMES.mtu, of('mtu')),
    bridgeName: bridgeName ? interfaceValue(NAMES.bridgeName, bridgeName) : undefined,
    masquerade: booleanValue(NAMES.masquerade, of('masquerade'), true),
    ifacePrefix: interfacePrefixValue(NAMES.ifacePrefix, of('ifacePrefix')),
    icc: booleanValue(NAMES.icc, of('icc'), true),
    gatewayMode: {
      4: choiceValue(NAMES.gatewayMode4, of('gatewayMode4'), GATEWAY_MODES, 'nat'),
      6: choiceValue(NAMES.gatewayMode6, of('gatewayMode6'), GATEWAY_MODES, 'nat'),
    },
    hostBinding: addressValue(NAMES.hostBinding, of('hostBinding')) ?? ip('0.0.0.0'),
    hostAddress: {
      4: addressValue(NAMES.hostIpv4, of('hostIpv4'), 4),
      6: addressValue(NAMES.hostIpv6, of('hostIpv6'), 6),
    },
    inhibitIpv4: booleanValue(NAMES.inhibitIpv4, of('inhibitIpv4'), false),
    trustedInterfaces: trustedInterfaces(of('trusted')),
    firewall: choiceValue(NAMES.firewall, of('firewall'), FIREWALLS, 'cnm'),
    dns: dnsPlace(options),
  };
}

/** Docker's own rule: without a way out there is nothing that a gateway mode could do but be away. */
export function assertModesFit({ gatewayMode }: BridgeOptions, internal: boolean): void {
  if (internal || (gatewayMode[4] !== 'isolated' && gatewayMode[6] !== 'isolated')) return;
  throw new CnmError(
    'option-invalid',
    'The gateway mode "isolated" is for internal networks: add --internal',
  );
}

/** Docker's mark for its own docker0; on a plugin's network it can mean nothing. */
function assertNotDefaultBridge(text: string | undefined): void {
  if (!booleanValue(NAMES.defaultBridge, text, false)) return;
  throw invalidValue(NAMES.defaultBridge, text ?? '', "false: the default bridge is always Docker's own");
}

/** Separated by colons, as Docker has it. */
function trustedInterfaces(text: string | undefined): readonly string[] {
  if (text === undefined || text === '') return [];
  return text.split(':').map((name) => interfaceValue(NAMES.trusted, name));
}
