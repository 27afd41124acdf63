/** Published ports, and what a firewall lets in. */
import type { Ip } from '../../address/ip.ts';
import type { PacketCount } from '../../kernel/kernel.ts';
import type { TransportProtocol } from '../../kernel/step.ts';
import type { Named } from './named.ts';

/** A rule or set element that the kernel holds now and that names the network's bridge. */
export interface RuleView {
  readonly where: string;
  readonly what: string;
}

/** One published port of a container or sandbox. */
export interface PortView {
  readonly endpoint: Named;
  readonly network: Named;
  readonly proto: TransportProtocol;
  /** The container's address and port. */
  readonly ip: Ip;
  readonly port: number;
  /** By which address the host knows the container, where that is another. */
  readonly via?: Ip;
  /** Where it is published on the host; empty on a routed network, where the container's own address and port is the published one. */
  readonly hosts: readonly { readonly ip: Ip; readonly port: number }[];
}

/** A published port with what it has let in since the table was loaded; null = the kernel does not hold it. */
export interface CountedPortView extends PortView {
  readonly count: PacketCount | null;
}

export interface FirewallView {
  /** Whether the kernel holds the table `inet cnm` of this version. */
  readonly loaded: boolean;
  readonly networks: readonly NetworkFirewallView[];
}

/** What the kernel holds for one network now, whatever was asked for. */
export interface NetworkFirewallView extends Named {
  readonly driver: string;
  readonly bridge: string;
  /** False = the table does not know the bridge: nothing of what follows is in force. */
  readonly filtered: boolean;
  /** Containers of the network reach each other. */
  readonly icc: boolean;
  /** Nothing goes out or comes in. */
  readonly internal: boolean;
  readonly families: readonly FamilyFirewallView[];
  /** Interfaces from which published ports are reached at the container's own address. */
  readonly trusted: readonly string[];
  /** The accept rules in DOCKER-USER. */
  readonly accepts: readonly { readonly family: 4 | 6; readonly state: 'there' | 'missing' | 'no chain' }[];
  readonly ports: readonly CountedPortView[];
}

export interface FamilyFirewallView {
  readonly family: 4 | 6;
  readonly mode: 'nat' | 'nat-unprotected' | 'routed' | 'internal' | 'isolated';
  /** The source of outbound packets: the address of the interface they leave by, this address, or the container's own. */
  readonly source: 'interface' | 'own' | Ip;
  /** Ports published on the host obey its own input policy, too (`firewall=host`). */
  readonly obeysHost: boolean;
}
