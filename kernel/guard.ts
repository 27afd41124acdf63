/**
 * The table that no plaintext of an encrypted network passes, neither out nor in. A table of its own, so that who has no such network pays
 * nothing: it comes with the first element and goes with the last. By UDP port and VNI, which stand at fixed places behind the IP header.
 */
import { guardName } from './guard-name.ts';
import { KernelError } from './kernel.ts';
import type { OwnPorts } from './own-ports.ts';
import { run } from './run.ts';
import type { EncryptedGuard } from './step.ts';

export const GUARD_TABLE = 'cnm_encrypted';

/**
 * The VNI is 24 bits behind the UDP header's 64 and the 32 of VXLAN's flags. `route`: a packet whose mark has changed is looked up anew, and
 * so finds the policy (nft_chain_route.c). What has a policy by then has a transformation in its route (`rt ipsec`); what came in by one bears
 * it (`meta ipsec`). The rest is dropped: whatever happens to policies and states, nothing goes out or in in the clear. Two of a kind, because a map is no set to
 * kernels before 6.3 (nft_lookup_init()).
 */
const CHAINS = `
add table inet ${GUARD_TABLE}
add set inet ${GUARD_TABLE} networks { typeof udp dport . @th,96,24; }
add map inet ${GUARD_TABLE} marks { typeof udp dport . @th,96,24 : meta mark; }
add chain inet ${GUARD_TABLE} outward { type route hook output priority mangle; policy accept; }
add chain inet ${GUARD_TABLE} leaving { type filter hook postrouting priority mangle; policy accept; }
add chain inet ${GUARD_TABLE} inward { type filter hook input priority raw; policy accept; }
flush chain inet ${GUARD_TABLE} outward
flush chain inet ${GUARD_TABLE} leaving
flush chain inet ${GUARD_TABLE} inward
add rule inet ${GUARD_TABLE} outward meta mark set udp dport . @th,96,24 map @marks
add rule inet ${GUARD_TABLE} leaving udp dport . @th,96,24 @networks rt ipsec missing counter drop
add rule inet ${GUARD_TABLE} inward udp dport . @th,96,24 @networks meta ipsec missing counter drop
`;

export class Guards {
  readonly #own: OwnPorts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(own: OwnPorts) {
    this.#own = own;
  }

  /** False when it is there already. */
  add(guard: EncryptedGuard): Promise<boolean> {
    return this.#alone(async () => {
      if ((await this.#held()).has(guardName(guard))) return false;
      const { port, vni, mark } = guard;
      const add = `add element inet ${GUARD_TABLE}`;
      await this.#nft(
        `${CHAINS}${add} networks { ${port} . ${vni} }\n${add} marks { ${port} . ${vni} : ${mark} }\n`,
      );
      return true;
    });
  }

  remove(guard: EncryptedGuard): Promise<void> {
    return this.#alone(async () => {
      const held = await this.#held();
      if (!held.delete(guardName(guard))) return;
      const { port, vni } = guard;
      const gone = ['marks', 'networks'].map(
        (set) => `delete element inet ${GUARD_TABLE} ${set} { ${port} . ${vni} }\n`,
      );
      await this.#nft(held.size === 0 ? `delete table inet ${GUARD_TABLE}\n` : gone.join(''));
    });
  }

  /** By guardName; empty where the table or one of its rules is not there. */
  held(): Promise<ReadonlySet<string>> {
    return this.#alone(() => this.#held());
  }

  async #held(): Promise<Set<string>> {
    try {
      return parseGuards(await run('nft', ['-j', 'list', 'table', 'inet', GUARD_TABLE], '', this.#own));
    } catch (error) {
      if (error instanceof KernelError && error.detail.includes('No such file')) return new Set();
      throw error;
    }
  }

  async #nft(script: string): Promise<void> {
    await run('nft', ['-f', '-'], script, this.#own);
  }

  /** One nft after another: who adds must not find the table that who removes is just deleting. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work, work);
    this.#last = next.catch(() => undefined);
    return next;
  }
}

const RULES = 3;

/** From nft's JSON (libnftables-json(5)). A table whose rules somebody has taken out holds nothing. */
export function parseGuards(text: string): Set<string> {
  const { nftables } = JSON.parse(text) as { nftables: readonly Record<string, unknown>[] };
  const rules = nftables.filter((one) => 'rule' in one).length;
  if (rules !== RULES) return new Set();
  const marks = elements(nftables, 'map') as readonly (readonly [Key, number])[];
  const networks = elements(nftables, 'set') as readonly Key[];
  const guarded = new Set(networks.map(({ concat }) => concat.join(' ')));
  return new Set(
    marks
      .filter(([{ concat }]) => guarded.has(concat.join(' ')))
      .map(([{ concat }, mark]) => guardName({ port: concat[0], vni: concat[1], mark })),
  );
}

function elements(all: readonly Record<string, unknown>[], kind: string): readonly unknown[] {
  const found = all.find((one) => kind in one)?.[kind] as { readonly elem?: readonly unknown[] } | undefined;
  return found?.elem ?? [];
}

interface Key {
  readonly concat: readonly [port: number, vni: number];
}
