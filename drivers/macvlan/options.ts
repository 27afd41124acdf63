/** The options of `docker network create -d cnm-macvlan -o …`, under Docker's own names (libnetwork.md §2) where Docker has them. */
import { DNS_OPTIONS, dnsPlace } from '../../cnm/dns-options.ts';
import { CnmError } from '../../cnm/errors.ts';
import {
  assertKnown,
  booleanValue,
  choiceValue,
  interfacePrefixValue,
  invalidValue,
  mtuValue,
} from '../../cnm/option-values.ts';
import type { MacvlanMode, VlanProtocol } from '../../kernel/step.ts';
import { ENDPOINT_DEFAULTS } from './endpoint-options.ts';

const MODES = ['bridge', 'vepa', 'private', 'passthru'] as const satisfies readonly MacvlanMode[];
const PROTOCOLS = ['802.1q', '802.1ad'] as const satisfies readonly VlanProtocol[];
/** The second is what the absence of the first means. */
const FLAGS = ['nopromisc', 'promisc'] as const;

export interface MacvlanOptions {
  /** The interface that the user named; undefined = none, a network that leads nowhere. */
  readonly parent: string | undefined;
  /** A VLAN of the parent, whatever its name. */
  readonly vlan: number | undefined;
  /** Of the VLANs that are to be made, outermost first; those that are not named are 802.1q. */
  readonly protocols: readonly VlanProtocol[];
  readonly mode: MacvlanMode;
  /** False = passthru does not make the parent promiscuous. */
  readonly promisc: boolean;
  /** Bytes; undefined = the parent's. */
  readonly mtu: number | undefined;
  readonly ifacePrefix: string;
  /** The parent takes in frames for every MAC. */
  readonly promiscuous: boolean;
  /** The host and the network's containers reach each other. */
  readonly hostAccess: boolean;
  /** Addresses are leased from the DHCP server of the LAN. */
  readonly dhcp: boolean;
  /** Containers take addresses and routes that routers on the LAN advertise. */
  readonly slaac: boolean;
}

const NAMES = {
  parent: 'parent',
  vlan: 'vlan',
  protocol: 'vlan_protocol',
  mode: 'macvlan_mode',
  flag: 'macvlan_flag',
  mtu: 'com.docker.network.driver.mtu',
  ifacePrefix: 'com.docker.network.container_iface_prefix',
  promiscuous: 'promiscuous',
  hostAccess: 'host_access',
  dhcp: 'dhcp',
  slaac: 'slaac',
} as const;

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function parseOptions(options: Readonly<Record<string, string>>): MacvlanOptions {
  assertKnown('cnm-macvlan', options, [...Object.values(NAMES), ...DNS_OPTIONS, ...ENDPOINT_DEFAULTS]);
  const of = (name: keyof typeof NAMES) => options[NAMES[name]];
  // Its gateway is a router of the LAN's, not ours to listen at.
  dnsPlace(options, ['on', 'off'], 'off');
  const parsed: MacvlanOptions = {
    parent: parentValue(of('parent')),
    vlan: vlanValue(of('vlan')),
    protocols: protocolsValue(of('protocol')),
    mode: choiceValue(NAMES.mode, of('mode'), MODES, 'bridge'),
    promisc: choiceValue(NAMES.flag, of('flag'), FLAGS, 'promisc') === 'promisc',
    mtu: mtuValue(NAMES.mtu, of('mtu')),
    ifacePrefix: interfacePrefixValue(NAMES.ifacePrefix, of('ifacePrefix')),
    promiscuous: booleanValue(NAMES.promiscuous, of('promiscuous'), false),
    hostAccess: booleanValue(NAMES.hostAccess, of('hostAccess'), false),
    dhcp: booleanValue(NAMES.dhcp, of('dhcp'), false),
    slaac: booleanValue(NAMES.slaac, of('slaac'), false),
  };
  assertFit(parsed);
  return parsed;
}

function assertFit({
  parent,
  vlan,
  protocols,
  mode,
  promisc,
  promiscuous,
  hostAccess,
  dhcp,
}: MacvlanOptions): void {
  if (dhcp && parent === undefined)
    throw new CnmError(
      'option-invalid',
      `${NAMES.dhcp}=true needs the interface that leads to the LAN: add parent=`,
    );
  if (dhcp && hostAccess) {
    throw new CnmError(
      'option-invalid',
      `${NAMES.hostAccess} and ${NAMES.dhcp} do not go together: the host knows no subnet in which to reach the containers`,
    );
  }
  if (parent === undefined && promiscuous)
    throw new CnmError('option-invalid', `${NAMES.promiscuous} is of the parent: add parent=`);
  if (hostAccess && mode !== 'bridge') {
    throw new CnmError(
      'option-invalid',
      `${NAMES.hostAccess} needs ${NAMES.mode}=bridge: with ${mode} a container reaches no other link on its parent, the host's included`,
    );
  }
  if (parent === undefined && vlan !== undefined)
    throw new CnmError('option-invalid', `vlan=${vlan} needs the interface that carries it: add parent=`);
  if (parent === undefined && protocols.length > 0)
    throw new CnmError('option-invalid', `${NAMES.protocol} needs a parent with a VLAN: add parent=`);
  if (!promisc && mode !== 'passthru') {
    throw new CnmError(
      'option-invalid',
      `${NAMES.flag}=nopromisc is for the mode passthru alone: with ${NAMES.mode}=${mode} nothing is made promiscuous`,
    );
  }
}

/** Any name that the kernel takes (net/core/dev.c, dev_valid_name()): it is the user's interface, and goes into no rule. */
function parentValue(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (text === 'lo')
    throw invalidValue(NAMES.parent, text, 'an interface that leads to a LAN: lo leads nowhere');
  const isName = /^[^\s/:\u0000-\u001f\u007f]+$/.test(text) && text !== '.' && text !== '..';
  if (isName && Buffer.byteLength(text) <= 15) return text;
  throw invalidValue(
    NAMES.parent,
    text,
    'an interface name: 1 to 15 bytes, with no white space, "/" or ":"; a VLAN of an interface with a long name is -o vlan=',
  );
}

/** IEEE 802.1Q-2018 table 9-2: 0 is no VLAN, 4095 is reserved. */
function vlanValue(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const id = parseVlanId(text);
  if (id !== undefined) return id;
  throw invalidValue(NAMES.vlan, text, VLAN_IDS);
}

export const VLAN_IDS = 'a VLAN id: a number from 1 to 4094, with no zeros before it';

export function parseVlanId(text: string): number | undefined {
  return /^[1-9]\d{0,3}$/.test(text) && Number(text) <= 4094 ? Number(text) : undefined;
}

function protocolsValue(text: string | undefined): readonly VlanProtocol[] {
  if (text === undefined || text === '') return [];
  return text.split(',').map((one) => {
    const protocol = PROTOCOLS.find((candidate) => candidate === one.trim().toLowerCase());
    if (protocol !== undefined) return protocol;
    throw invalidValue(
      NAMES.protocol,
      text,
      '802.1q or 802.1ad; for VLANs within VLANs several, the outermost first: 802.1ad,802.1q',
    );
  });
}
