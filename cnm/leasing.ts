/** Networks whose addresses are leased from a DHCP server on their wire. */
import { lengthOf } from '../address/prefix.ts';
import { type Context, driverOf } from './context.ts';
import { CnmError } from './errors.ts';
import type { EndpointSpec, NetworkRecord, NetworkSpec, Subnet } from './model.ts';

/**
 * With no subnet where there is none: Docker's null IPAM says 0.0.0.0/0 (libnetwork.md section 0.1), which would overlap every other.
 * @throws CnmError `option-invalid`
 */
export function withoutNullPool(context: Context, spec: NetworkSpec): NetworkSpec {
  if (driverOf(context, spec.driver).leases?.(spec) !== true) return spec;
  return { ...spec, ipv4: spec.ipv4.filter((subnet) => !isNull(subnet)) };
}

function isNull({ addressSpace, pool }: Subnet): boolean {
  return addressSpace === 'null' && lengthOf(pool) === 0;
}

/**
 * Makes an endpoint with the address that it is leased, where its network's are. Nothing of it is there before, and the lease is given back
 * when it cannot be made.
 * @throws CnmError `lease-unanswered`, and what `make` throws
 */
export async function withLease<T>(
  context: Context,
  network: NetworkRecord,
  spec: EndpointSpec,
  make: (spec: EndpointSpec) => Promise<T>,
): Promise<T> {
  const driver = driverOf(context, network.driver);
  if (driver.leases?.(network) !== true || driver.leaseRequest === undefined) return make(spec);
  const { leases } = context;
  if (leases === undefined) throw new CnmError('unavailable', 'This daemon asks no DHCP servers');
  const wanted = { ...spec, mac: spec.mac ?? driver.mac(network, spec) };
  const { leased, mac } = await leases.obtain(wanted, driver.leaseRequest(network, wanted));
  try {
    return await make({ ...wanted, mac, address: leased.address, leased });
  } catch (error) {
    await leases.giveBack(spec.network, spec.id);
    throw error;
  }
}
