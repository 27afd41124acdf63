/** An address of a cluster's pool, at once where this host holds one, and else after it has been had from the cluster. */
import type { Ip } from '../../address/ip.ts';
import { checkedAddress } from '../checks.ts';
import type { AddressRequest } from '../ipam.ts';
import type { Range } from '../pool.ts';
import type { Holding } from './holding.ts';

/** Leases the address in memory; nothing may come between the look and this. */
type Take<T> = (address: Ip) => T;

/** @throws CnmError `address-taken`, `pool-exhausted`, `cluster-unreachable`. */
export async function obtain<T>(
  holding: Holding,
  range: Range,
  request: AddressRequest,
  restedBy: () => number,
  take: Take<T>,
): Promise<T> {
  const { address, gateway, aux } = request;
  if (gateway || aux === true)
    return holding.share(range, gateway ? 'gateway' : 'aux', address, (at) =>
      take(checkedAddress(range, at)),
    );
  if (address !== undefined) return named(holding, range, address, take);
  return chosen(holding, range, request, restedBy, take);
}

async function named<T>(holding: Holding, range: Range, address: Ip, take: Take<T>): Promise<T> {
  for (;;) {
    checkedAddress(range, address);
    if (holding.holds(address)) return take(address);
    await holding.claim(address);
  }
}

async function chosen<T>(
  holding: Holding,
  range: Range,
  { serial, name }: AddressRequest,
  restedBy: () => number,
  take: Take<T>,
): Promise<T> {
  await comeBack(holding, range, name);
  for (let failed: Error | undefined; ;) {
    const address = range.parent.choose(range, serial, name);
    // One that still rests is given only when the cluster has no other.
    const former = address === undefined ? undefined : range.parent.formers.get(address);
    const own = former?.name !== undefined && former.name === name;
    const rests = former !== undefined && !own && former.freed > restedBy();
    if (address !== undefined && (!rests || failed !== undefined)) {
      const taken = take(address);
      holding.ahead(range);
      return taken;
    }
    if (failed !== undefined) throw failed;
    try {
      await holding.more(range);
    } catch (error) {
      failed = error instanceof Error ? error : new Error(String(error));
    }
  }
}

/** What the name had last may have gone back to the cluster, and be free there. */
async function comeBack(holding: Holding, range: Range, name: string | undefined): Promise<void> {
  const former = range.parent.formerOf(range, name);
  if (former === undefined || holding.holds(former) || !holding.isNobodys(former)) return;
  try {
    await holding.claim(former);
  } catch {
    // Another one will do.
  }
}
