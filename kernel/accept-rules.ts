/**
 * Our accept rules in DOCKER-USER, as text of iptables. Pure.
 *
 * dockerd sets the FORWARD policy to DROP, and a drop in one table is final for the packet, so that something must
 * accept our bridges' packets in Docker's own table before its policy does. Accepting is no hole: packets into our
 * bridges that may not enter were dropped in our own table, which sees them whatever happens here.
 */
import { KernelError } from './kernel.ts';

export const CHAIN = 'DOCKER-USER';

/** One bridge of one network, `network` being the first 12 digits of its id. */
export interface Accept {
  readonly bridge: string;
  readonly network: string;
}

/**
 * Docker's chains that keep packets out of its own bridges. An accept in DOCKER-USER comes before them and would open
 * what they close, therefore our containers' packets are sent through them first. `except`: connections that Docker
 * itself lets through before it looks there.
 */
const GUARDS: readonly { readonly chain: string; readonly except: string }[] = [
  // Up to Engine 28: drops whatever is bound for a bridge of Docker's. Docker's own containers reach published ports
  // through the userland proxy and never come there with a translated destination; ours do, and are let through.
  { chain: 'DOCKER-ISOLATION-STAGE-2', except: 'RELATED,ESTABLISHED,DNAT' },
  // From Engine 28: drops what crosses the edge of an internal network; then, per bridge, accepts published ports and drops the rest.
  { chain: 'DOCKER-INTERNAL', except: 'RELATED,ESTABLISHED' },
  { chain: 'DOCKER-BRIDGE', except: 'RELATED,ESTABLISHED' },
];

/** What `iptables -S` says of the filter table. */
export interface Listing {
  /** The rules of DOCKER-USER in order, without `-A DOCKER-USER`; undefined: there is no such chain. */
  readonly rules: readonly string[] | undefined;
  readonly guards: readonly string[];
}

export function parseListing(text: string): Listing {
  const lines = text.split('\n');
  const append = `-A ${CHAIN} `;
  return {
    rules: lines.includes(`-N ${CHAIN}`)
      ? lines.filter((line) => line.startsWith(append)).map((line) => line.slice(append.length))
      : undefined,
    guards: GUARDS.map(({ chain }) => chain).filter((chain) => lines.includes(`-N ${chain}`)),
  };
}

/** The rules of one bridge as iptables writes them. @throws KernelError EINVAL for names that it would misread. */
export function rulesOf(accept: Accept, guards: readonly string[]): readonly string[] {
  const { bridge, network } = checked(accept);
  const mark = `-m comment --comment "cnm ${network}"`;
  return [
    ...GUARDS.filter(({ chain }) => guards.includes(chain)).map(
      ({ chain, except }) =>
        `-i ${bridge} ! -o ${bridge} -m conntrack ! --ctstate ${except} ${mark} -j ${chain}`,
    ),
    `-i ${bridge} ${mark} -j ACCEPT`,
    `-o ${bridge} ${mark} -j ACCEPT`,
  ];
}

/**
 * A name must be one word that is no option and no wildcard (a trailing `+`) for iptables, and needs no quoting in what
 * iptables-restore reads.
 */
export function checked(accept: Accept): Accept {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/.test(accept.bridge)) {
    throw new KernelError(
      `forward accept ${JSON.stringify(accept.bridge)}`,
      'EINVAL',
      'a bridge behind Docker’s firewall is named with letters, digits, "_", ".", "@" and "-"',
    );
  }
  if (!/^[A-Za-z0-9]{1,12}$/.test(accept.network)) {
    throw new KernelError(`forward accept for network ${JSON.stringify(accept.network)}`, 'EINVAL');
  }
  return accept;
}

/**
 * Input for `iptables-restore --noflush` that makes the groups of `adds` complete and takes those of `removes` away, in
 * one transaction; undefined when all is as it should be. Rules are deleted by their text, not their number: if someone
 * was faster, the transaction fails instead of hitting another's rule.
 */
export function edit(
  listing: Listing & { rules: readonly string[] },
  adds: readonly Accept[],
  removes: readonly Accept[],
): { readonly input: string; readonly added: readonly Accept[] } | undefined {
  const wanting = adds.filter((accept) => !isComplete(listing, accept));
  const stale = listing.rules.filter((rule) => [...wanting, ...removes].some((one) => belongs(rule, one)));
  const fresh = wanting.flatMap((accept) => rulesOf(accept, listing.guards));
  if (stale.length + fresh.length === 0) return undefined;
  const rest = listing.rules.filter((rule) => !stale.includes(rule));
  // Before the RETURN that ends the chain, after all rules of the user's: what the user drops stays dropped.
  const end = rest.indexOf(RETURN);
  const place = (rule: string, i: number): string =>
    end < 0 ? `-A ${CHAIN} ${rule}` : `-I ${CHAIN} ${end + 1 + i} ${rule}`;
  const lines = [...stale.map((rule) => `-D ${CHAIN} ${rule}`), ...fresh.map(place)];
  return { input: ['*filter', ...lines, 'COMMIT', ''].join('\n'), added: wanting };
}

const RETURN = '-j RETURN';

/** The groups that are there whole, and to which no rule of the user's comes too late. */
export function completeIn(listing: Listing): readonly Accept[] {
  const found = new Map<string, Accept>();
  for (const rule of listing.rules ?? []) {
    const accept = ownerOf(rule);
    if (accept !== undefined) found.set(`${accept.bridge} ${accept.network}`, accept);
  }
  return [...found.values()].filter((accept) => isComplete(listing, accept));
}

function isComplete(listing: Listing, accept: Accept): boolean {
  const all = listing.rules ?? [];
  const end = all.indexOf(RETURN);
  const reached = end < 0 ? all : all.slice(0, end);
  const held = all.filter((rule) => belongs(rule, accept));
  const first = reached.findIndex((rule) => belongs(rule, accept));
  return (
    first >= 0 &&
    held.map(gist).join('\n') === rulesOf(accept, listing.guards).map(gist).join('\n') &&
    reached.slice(first).every((rule) => ownerOf(rule) !== undefined)
  );
}

function belongs(rule: string, { bridge, network }: Accept): boolean {
  const owner = ownerOf(rule);
  return owner?.bridge === bridge && owner.network === network;
}

/** Whose rule it is: ours are told by comment and interface. */
function ownerOf(rule: string): Accept | undefined {
  const network = /(?:^| )--comment "cnm ([A-Za-z0-9]{1,12})"(?: |$)/.exec(rule)?.[1];
  const bridge = /^-[io] (\S+) /.exec(rule)?.[1];
  return network === undefined || bridge === undefined ? undefined : { bridge, network };
}

/** Interfaces and target: versions of iptables differ in how they write the rest. */
function gist(rule: string): string {
  return (rule.match(/(?:^| )(?:! )?-[ioj] \S+/g) ?? []).join('');
}
