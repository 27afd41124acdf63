/**
 * The chains of our nftables table `inet cnm`, and beside it `ip cnm` and `ip6 cnm` for the one statement that family inet does not have. Pure.
 *
 * The chains never change while the daemon runs: what differs from network to network is elements of sets, so that a
 * packet costs the same few lookups however many networks there are, and a change is one small transaction.
 *
 * An `accept` here ends only this table's chain; the host's and Docker's own tables still see the packet and can drop
 * it. A `drop` is final (net/netfilter/core.c: nf_hook_slow). Therefore nothing here drops a packet that does not come
 * from or go to a bridge of ours.
 */
import { GATEWAY_DNS_PORT } from '../address/dns-port.ts';
import { GATE } from '../address/gate.ts';

/** "cnm" in ASCII. */
const MARK = '0x00636e6d';

interface Rule {
  readonly why: string;
  readonly rule: string;
}

export interface Chain {
  readonly name: string;
  /** Absent for a chain that is only jumped to. */
  readonly hook?: string;
  readonly rules: readonly Rule[];
}

/** Before connection tracking: what no container may send, whatever else there is. */
const SPOOFED: Chain = {
  name: 'spoofed',
  hook: 'type filter hook prerouting priority raw; policy accept;',
  rules: [
    {
      why: 'Our bridges have route_localnet, so that ports can be published on 127.0.0.1. With it a container could reach what listens on the host for the host alone (CVE-2020-8558),',
      rule: 'iifname @bridges ip daddr 127.0.0.0/8 drop',
    },
    {
      why: 'or speak as the host itself.',
      rule: 'iifname @bridges ip saddr 127.0.0.0/8 drop',
    },
  ],
};

/**
 * Published ports: the first map that knows the destination sends the connection to its container, and the rest of its packets
 * follow by connection tracking. One address before all addresses, one port before ranges. Lookups only: as many for ten
 * thousand ports as for one.
 */
function translation(family: 4 | 6): Chain {
  const [to, address, maps] =
    family === 4 ? ['ip', 'ip daddr', 'publish4'] : ['ip6', 'ip6 daddr', 'publish6'];
  return {
    name: `translate${family}`,
    rules: [
      {
        why: 'A port of one address of the host.',
        rule: `dnat ${to} to meta l4proto . ${address} . th dport map @${maps}`,
      },
      {
        why: 'A range of ports of one address. They keep their numbers.',
        rule: `dnat ${to} to meta l4proto . ${address} . th dport map @${maps}_range`,
      },
      {
        why: 'A port of every address.',
        rule: `dnat ${to} to meta l4proto . th dport map @${maps}_any`,
      },
      {
        why: 'A range of ports of every address.',
        rule: `dnat ${to} to meta l4proto . th dport map @${maps}_any_range`,
      },
    ],
  };
}

const TRANSLATE4 = translation(4);
const TRANSLATE6 = translation(6);

const TO_TRANSLATION: readonly Rule[] = [
  {
    why: 'Published ports are ports of this host: what merely passes through is not looked at.',
    rule: `meta nfproto ipv4 fib daddr type local goto ${TRANSLATE4.name}`,
  },
  {
    why: 'The same for IPv6.',
    rule: `meta nfproto ipv6 fib daddr type local goto ${TRANSLATE6.name}`,
  },
];

const PREROUTING: Chain = {
  name: 'prerouting',
  hook: 'type nat hook prerouting priority dstnat; policy accept;',
  rules: [
    {
      why: 'A port that is published on a loopback address is for this host only. Elsewhere such packets are martians, except where somebody set route_localnet, as kube-proxy does for all interfaces.',
      rule: 'iifname != "lo" ip daddr 127.0.0.0/8 return',
    },
    {
      why: 'Ports that obey the host’s own input policy (firewall=host): it shall see the packet as it came. What it lets in comes back by a gate.',
      rule: 'iifname != @gates fib daddr type local meta l4proto . ip daddr . th dport @guarded4 return',
    },
    {
      why: 'The same for IPv6.',
      rule: 'iifname != @gates fib daddr type local meta l4proto . ip6 daddr . th dport @guarded6 return',
    },
    {
      why: 'Containers ask for names at their gateway. The resolver listens on a port of its own there: port 53 may be a server’s of the host on all addresses, or published by a container. The address stays, which `redirect` would replace by the bridge’s first.',
      rule: `iifname . ip daddr @dns4 meta l4proto { tcp, udp } th dport 53 dnat to :${GATEWAY_DNS_PORT}`,
    },
    {
      why: 'The same for IPv6.',
      rule: `iifname . ip6 daddr @dns6 meta l4proto { tcp, udp } th dport 53 dnat to :${GATEWAY_DNS_PORT}`,
    },
    ...TO_TRANSLATION,
  ],
};

/** The priority is `dstnat`, whose name nft 1.0.6 takes in prerouting only. */
const OUTPUT: Chain = {
  name: 'output',
  hook: 'type nat hook output priority -100; policy accept;',
  rules: TO_TRANSLATION,
};

/**
 * Behind all filters of the host's input: nothing gets here that they have not let in. A first packet of a published port, which was
 * not translated, is marked for the tables `ip cnm` and `ip6 cnm`. The mark is conntrack's, of an entry that ends with this packet: the packet's
 * own belongs to the user, and would go with the copy.
 */
const ADMITTED: Chain = {
  name: 'admitted',
  hook: 'type filter hook input priority 200; policy accept;',
  rules: [
    {
      why: 'A connection to a port that obeys the host’s input policy.',
      rule: `ct state new iifname != @gates fib daddr type local meta l4proto . ip daddr . th dport @guarded4 ct mark set ${MARK}`,
    },
    {
      why: 'The same for IPv6.',
      rule: `ct state new iifname != @gates fib daddr type local meta l4proto . ip6 daddr . th dport @guarded6 ct mark set ${MARK}`,
    },
  ],
};

/**
 * `dup` is not to be had in family inet. The copy leaves by a gate, as the route says, without conntrack (nf_dup_ipv4()), comes in at its other end like
 * a packet from the wire, and is translated and forwarded there, once for each connection: all further packets follow conntrack.
 */
function toGate(family: 4 | 6): Chain {
  return {
    name: 'to_gate',
    hook: 'type filter hook input priority 201; policy accept;',
    rules: [
      {
        why: 'What `inet cnm` marked goes through the gate instead of to a process of the host.',
        rule: `ct state new ct mark ${MARK} dup to ${GATE[family].beyond} drop`,
      },
    ],
  };
}

/**
 * The host's own packets, after their translation. The sets open4 and open6 count what their lookups find (nft_lookup_eval()), therefore
 * every packet that a published port lets in is looked up there once: the host's here, the others in `into_bridge`.
 *
 * A published port asked for at ::1: no answer can come back, because the kernel takes a packet for ::1 from `lo` only
 * (rt6_need_strict()), and has no route_localnet for IPv6. Refused at once, a client that tries the addresses of `localhost` one by one
 * goes on to 127.0.0.1, where it is served.
 */
const FROM_HOST: Chain = {
  name: 'from_host',
  hook: 'type filter hook output priority filter; policy accept;',
  rules: [
    {
      why: 'A connection from ::1.',
      rule: 'ip6 saddr ::1 ip6 daddr . meta l4proto . th dport @open6 meta l4proto tcp reject with tcp reset',
    },
    {
      why: 'Anything else: the sender gets EPERM.',
      rule: 'ip6 saddr ::1 ip6 daddr . meta l4proto . th dport @open6 reject',
    },
    {
      why: 'The host asks for a published port: counted.',
      rule: 'ct status dnat ct direction original ip daddr . meta l4proto . th dport @open4 accept',
    },
    {
      why: 'The same for IPv6.',
      rule: 'ct status dnat ct direction original ip6 daddr . meta l4proto . th dport @open6 accept',
    },
    {
      why: 'A copy for a gate that is not there: the default route would send it to a router, and that would send it back.',
      rule: 'ct state untracked oifname != @gates fib daddr type local meta l4proto . ip daddr . th dport @guarded4 drop',
    },
    {
      why: 'The same for IPv6.',
      rule: 'ct state untracked oifname != @gates fib daddr type local meta l4proto . ip6 daddr . th dport @guarded6 drop',
    },
  ],
};

/** Packets that the host forwards into one of our bridges. */
const INTO: Chain = {
  name: 'into_bridge',
  rules: [
    {
      why: 'Replies to what a container began, and errors about it.',
      rule: 'ct direction reply accept',
    },
    {
      why: 'Published ports: somebody here chose to let this connection in by translating its destination. Looked up before connections that are established, so that each packet is counted.',
      rule: 'ct status dnat ip daddr . meta l4proto . th dport @open4 accept',
    },
    {
      why: 'The same for IPv6.',
      rule: 'ct status dnat ip6 daddr . meta l4proto . th dport @open6 accept',
    },
    {
      why: 'Errors about such a connection, and what others than we have translated.',
      rule: 'ct status dnat accept',
    },
    {
      why: 'Back into the bridge that it came from and not of same_bridge: with icc=false a container must not reach another by way of the gateway.',
      rule: 'iifname . oifname @hairpin drop',
    },
    {
      why: 'Gateway mode routed: nothing is translated, and published means the container’s own port.',
      rule: 'oifname @routed4 ip daddr . meta l4proto . th dport @open4 accept',
    },
    {
      why: 'The same for IPv6.',
      rule: 'oifname @routed6 ip6 daddr . meta l4proto . th dport @open6 accept',
    },
    {
      why: 'From interfaces that the user trusts, published ports are reached at the container’s own address too.',
      rule: 'iifname . oifname @trusted ip daddr . meta l4proto . th dport @open4 accept',
    },
    {
      why: 'The same for IPv6.',
      rule: 'iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @open6 accept',
    },
    {
      why: 'What was let in before, and errors about it.',
      rule: 'ct state established,related accept',
    },
    {
      why: 'Gateway mode nat-unprotected: whoever has a route may come in.',
      rule: 'oifname @unprotected4 meta nfproto ipv4 accept',
    },
    {
      why: 'The same for IPv6.',
      rule: 'oifname @unprotected6 meta nfproto ipv6 accept',
    },
    {
      why: 'Routed addresses are public ones: they answer echoes, and hear of packets that are too big (RFC 4890 §4.3.1), as with Docker.',
      rule: 'oifname @routed4 ip protocol icmp accept',
    },
    {
      why: 'The same for IPv6.',
      // By number: where there is no /etc/protocols, as in our image, nft knows ipv6-icmp by no name.
      rule: 'oifname @routed6 meta nfproto ipv6 meta l4proto 58 accept',
    },
    {
      why: 'All else: other networks, Docker bridges, and hosts of the LAN that route straight to a container.',
      rule: 'drop',
    },
  ],
};

const FORWARD: Chain = {
  name: 'forward',
  hook: 'type filter hook forward priority filter; policy accept;',
  rules: [
    {
      why: 'A published port asked for from its own network: let in, and counted, like all others.',
      rule: `ct status dnat iifname . oifname @same_bridge goto ${INTO.name}`,
    },
    {
      why: 'Between two ports of one bridge. Such frames come by here only when br_netfilter hands them to IP (bridge-nf-call-iptables, which dockerd sets), with the bridge as both interfaces.',
      rule: 'iifname . oifname @same_bridge accept',
    },
    {
      why: 'A network without a way out: nothing leaves it, whatever routes a container makes for itself,',
      rule: 'iifname @internal drop',
    },
    {
      why: 'and nothing enters, not even a reply: no connection across its edge may live on.',
      rule: 'oifname @internal drop',
    },
    {
      why: 'What is bound for the world from a bridge of ours leaves by the policy, as do packets that are not ours.',
      rule: `oifname @bridges goto ${INTO.name}`,
    },
  ],
};

const POSTROUTING: Chain = {
  name: 'postrouting',
  hook: 'type nat hook postrouting priority srcnat; policy accept;',
  rules: [
    {
      why: 'A container that asks for a port published by its own network: with its own source the answer would go straight back to it, from an address that it never asked. It gets the address of the bridge.',
      rule: 'ct status dnat iifname . oifname @hairpin masquerade',
    },
    {
      why: 'The same when its packet came back by a gate.',
      rule: 'ct status dnat iifname @gates ip saddr . oifname @inside4 masquerade',
    },
    {
      why: 'The same for IPv6.',
      rule: 'ct status dnat iifname @gates ip6 saddr . oifname @inside6 masquerade',
    },
    {
      why: 'The same when br_netfilter translated the frame inside the bridge: it shows no input interface here, like packets of the host, which are told by their source.',
      rule: 'ct status dnat iif 0 fib saddr type != local oifname @bridges masquerade',
    },
    {
      why: 'A client whose address is one of a network’s behind an uplink too, where subnets are nobody’s but the network’s: answered there, it would hear nothing. It gets the host’s end of the uplink.',
      rule: 'ip saddr . oifname @alike4 masquerade',
    },
    {
      why: 'The same for IPv6.',
      rule: 'ip6 saddr . oifname @alike6 masquerade',
    },
    {
      why: 'The host that asks for a published port at 127.0.0.1: no answer could come back to that.',
      rule: 'ip saddr 127.0.0.0/8 oifname @bridges masquerade',
    },
    {
      why: 'Outbound packets get the address that the user named for this bridge.',
      rule: 'oifname != @bridges ip daddr != 224.0.0.0/4 snat ip to iifname map @snat4',
    },
    {
      why: 'The same for IPv6.',
      rule: 'oifname != @bridges ip6 daddr != ff00::/8 snat ip6 to iifname map @snat6',
    },
    {
      why: 'Others get the address of the interface that they leave by. Matched by interface, not by subnet, so that containers that route for others work too; frames bridged under br_netfilter have no input interface here and keep their source, as do the packets of the host. Multicast keeps it, because receivers tell senders apart by their source (RFC 4607 §3): Linux 6.18 shows routed multicast no input interface here, which is not relied upon.',
      rule: 'iifname @masquerade4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade',
    },
    {
      why: 'The same for IPv6; RFC 4291 §2.7 for multicast.',
      rule: 'iifname @masquerade6 oifname != @bridges ip6 daddr != ff00::/8 masquerade',
    },
  ],
};

export const CHAINS: readonly Chain[] = [
  SPOOFED,
  TRANSLATE4,
  TRANSLATE6,
  PREROUTING,
  OUTPUT,
  ADMITTED,
  FROM_HOST,
  INTO,
  FORWARD,
  POSTROUTING,
];

export const TO_GATE = { ip: toGate(4), ip6: toGate(6) } as const;
