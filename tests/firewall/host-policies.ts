/**
 * Firewalls as hosts have them: what each sets up, the rule that lets `lan` in to what `host-policy.test.ts` publishes, and what ufw, firewalld and
 * people add beside it. All of them let the host's own connections, neighbour discovery and answers in, and nothing else.
 */
import { sh } from './world.ts';

export interface HostPolicy {
  readonly name: string;
  install(): void;
  /** Lets 192.0.2.2 and 2001:db8:1::2 in to tcp 8080 and udp 5300, and nobody else. */
  open(): void;
  close(): void;
  remove(): void;
}

type Form = 'nft' | 'legacy';

function eachIptables(form: Form, act: (iptables: string, v6: boolean) => string): void {
  sh(act(`iptables-${form}`, false));
  sh(act(`ip6tables-${form}`, true));
}

const SERVICES = ['tcp --dport 8080', 'udp --dport 5300'];

function iptables(form: Form): HostPolicy {
  const rules = (verb: string): void => {
    eachIptables(form, (program, v6) =>
      SERVICES.map(
        (service) =>
          `${program} ${verb} INPUT -s ${v6 ? '2001:db8:1::2' : '192.0.2.2'} -p ${service} -j ACCEPT`,
      ).join('\n'),
    );
  };
  return {
    name: `iptables-${form}, INPUT policy DROP`,
    install: () => {
      eachIptables(
        form,
        (program, v6) => `
          ${program} -P INPUT DROP
          ${program} -A INPUT -i lo -j ACCEPT
          ${program} -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
          ${v6 ? `${program} -A INPUT -p icmpv6 -j ACCEPT` : ''}`,
      );
    },
    open: () => {
      rules('-A');
    },
    close: () => {
      rules('-D');
    },
    remove: () => {
      eachIptables(form, (program) => `${program} -P INPUT ACCEPT; ${program} -F`);
    },
  };
}

/** A table of a person's own, as /etc/nftables.conf has it. */
const NFT: HostPolicy = {
  name: 'nft, a table of family inet with policy drop',
  install: () => {
    sh(`nft -f - <<'END'
      table inet host {
        chain open { }
        chain input { type filter hook input priority filter; policy drop;
          iif "lo" accept
          ct state vmap { established : accept, related : accept, invalid : drop }
          icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
          jump open
        }
      }
END`);
  },
  open: () => {
    sh(`
      nft add rule inet host open ip saddr 192.0.2.2 tcp dport 8080 accept
      nft add rule inet host open ip saddr 192.0.2.2 udp dport 5300 accept
      nft add rule inet host open ip6 saddr 2001:db8:1::2 tcp dport 8080 accept
      nft add rule inet host open ip6 saddr 2001:db8:1::2 udp dport 5300 accept`);
  },
  close: () => {
    sh('nft flush chain inet host open');
  },
  remove: () => {
    sh('nft delete table inet host');
  },
};

/**
 * The chains of ufw 0.36 (before.rules, user.rules), with its FORWARD policy DROP, and Docker's chain for users, without which such a host forwards
 * nothing. `ufw allow` writes into ufw-user-input; `ufw reload` flushes its chains and fills them again.
 */
function ufwRules(program: string, v6: boolean): string {
  return `
    ${program} -P INPUT DROP
    ${program} -P FORWARD DROP
    for chain in before-logging before track not-local user skip-to-policy logging-deny; do ${program} -N ufw-$chain-input; done
    ${program} -N DOCKER-USER
    ${program} -A FORWARD -j DOCKER-USER
    for chain in before-logging before track; do ${program} -A INPUT -j ufw-$chain-input; done
    ${program} -A ufw-before-input -i lo -j ACCEPT
    ${program} -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    ${program} -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny-input
    ${program} -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
    ${v6 ? `${program} -A ufw-before-input -p icmpv6 -j ACCEPT` : ''}
    ${program} -A ufw-before-input -j ufw-not-local-input
    ${program} -A ufw-not-local-input -m addrtype --dst-type LOCAL -j RETURN
    ${program} -A ufw-not-local-input -m addrtype --dst-type MULTICAST -j RETURN
    ${program} -A ufw-not-local-input -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny-input
    ${program} -A ufw-not-local-input -j DROP
    ${program} -A ufw-before-input -j ufw-user-input
    ${program} -A ufw-track-input -p tcp -m conntrack --ctstate NEW -m limit --limit 1/hour -j RETURN`;
}

const UFW: HostPolicy = {
  name: 'ufw',
  install: () => {
    eachIptables('nft', ufwRules);
  },
  open: () => {
    eachIptables('nft', (program, v6) =>
      SERVICES.map(
        (service) =>
          `${program} -A ufw-user-input -p ${service} -s ${v6 ? '2001:db8:1::2' : '192.0.2.2'} -j ACCEPT`,
      ).join('\n'),
    );
  },
  close: () => {
    eachIptables('nft', (program) => `${program} -F ufw-user-input`);
  },
  remove: () => {
    eachIptables(
      'nft',
      (program) => `${program} -P INPUT ACCEPT; ${program} -P FORWARD ACCEPT; ${program} -F; ${program} -X`,
    );
  },
};

/** The table of firewalld 1.3 with its public zone on every interface, and IPv6_rpfilter=loose. */
const FIREWALLD: HostPolicy = {
  name: 'firewalld',
  install: () => {
    sh(`nft -f - <<'END'
      table inet firewalld {
        chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept;
          icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
          meta nfproto ipv6 fib saddr . mark oif missing drop
        }
        chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; }
        chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; }
        chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
          ct state { established, related } accept
          ct status dnat accept
          iifname "lo" accept
          ct state invalid drop
          jump filter_INPUT_ZONES
          reject with icmpx admin-prohibited
        }
        chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
          ct state { established, related } accept
          ct status dnat accept
          iifname "lo" accept
          ct state invalid drop
          jump filter_FORWARD_ZONES
          reject with icmpx admin-prohibited
        }
        chain filter_OUTPUT { type filter hook output priority filter + 10; policy accept;
          ct state { established, related } accept
          oifname "lo" accept
        }
        chain filter_INPUT_ZONES { goto filter_IN_public; }
        chain filter_FORWARD_ZONES {
          iifname "cnm-*" accept comment "firewall-cmd --zone=trusted --add-interface=…, as the README has it"
          goto filter_FWD_public
        }
        chain filter_IN_public { jump filter_IN_public_allow; meta l4proto { icmp, ipv6-icmp } accept; }
        chain filter_IN_public_allow { }
        chain filter_FWD_public { meta l4proto { icmp, ipv6-icmp } accept; }
      }
END`);
  },
  open: () => {
    sh(`
      nft add rule inet firewalld filter_IN_public_allow ip saddr 192.0.2.2 tcp dport 8080 accept
      nft add rule inet firewalld filter_IN_public_allow ip saddr 192.0.2.2 udp dport 5300 accept
      nft add rule inet firewalld filter_IN_public_allow ip6 saddr 2001:db8:1::2 tcp dport 8080 accept
      nft add rule inet firewalld filter_IN_public_allow ip6 saddr 2001:db8:1::2 udp dport 5300 accept`);
  },
  close: () => {
    sh('nft flush chain inet firewalld filter_IN_public_allow');
  },
  remove: () => {
    sh('nft delete table inet firewalld');
  },
};

export const HOST_POLICIES: readonly HostPolicy[] = [
  iptables('legacy'),
  iptables('nft'),
  NFT,
  UFW,
  FIREWALLD,
];
export { NFT };

/** Every rule of others, without counters: what must be the same before and after. */
export function foreignRules(): string {
  const tables = sh('nft list tables')
    .split('\n')
    .filter((line) => line !== '' && !line.endsWith(' cnm'));
  return [
    ...tables.map((table) => sh(`nft -s list ${table}`)),
    sh('iptables-legacy-save; ip6tables-legacy-save')
      .replaceAll(/^#.*\n/gm, '')
      .replaceAll(/ \[\d+:\d+\]$/gm, ''),
  ].join('\n');
}
