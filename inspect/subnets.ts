/**
 * `--subnet`, `--gateway`, `--ip-range` and `--aux-address` as pools to request. The flags come as independent lists, as
 * in Docker's CLI (its consolidateIpam): each gateway, range and auxiliary address belongs to the subnet that contains it.
 */
import { type Ip, parseIp } from '../address/ip.ts';
import {
  contains,
  covers,
  familyOfPrefix,
  hasHostBits,
  networkOf,
  overlaps,
  parsePrefix,
  type Prefix,
} from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import { quote } from './refs.ts';
import type { NetworkRequest } from './views.ts';

/** One pool to ask of the IPAM. `pool` absent = the IPAM chooses. */
export interface SubnetRequest {
  readonly v6: boolean;
  readonly pool?: Prefix;
  readonly range?: Prefix;
  readonly gateway?: Ip;
  /** None is set aside. */
  readonly noGateway?: boolean;
  readonly aux: Readonly<Record<string, Ip>>;
  /** `--ipam-opt`, the same for all. */
  readonly options?: Readonly<Record<string, string>>;
}

/** @throws CnmError `address-invalid` or `request-invalid`, naming the value. */
export function subnetRequests(request: NetworkRequest): readonly SubnetRequest[] {
  if (!request.ipv4 && !request.ipv6) throw invalid('request-invalid', 'IPv4 or IPv6 must be enabled');
  const pools = request.subnets.map(readSubnet);
  checkPools(pools, request);
  const found = pools.map((pool) => ({
    v6: familyOfPrefix(pool) === 6,
    pool,
    aux: {},
    ...ipamOptions(request),
  }));
  const asked = withAux(withGateways(withRanges(found, request), request), request);
  return [...chosen(asked, request, false), ...asked, ...chosen(asked, request, true)];
}

/** A family that is enabled and has no subnet gets one that the IPAM chooses. */
function chosen(
  asked: readonly SubnetRequest[],
  request: NetworkRequest,
  v6: boolean,
): readonly SubnetRequest[] {
  const enabled = v6 ? request.ipv6 : request.ipv4;
  return enabled && !asked.some((subnet) => subnet.v6 === v6)
    ? [{ v6, aux: {}, ...ipamOptions(request) }]
    : [];
}

function ipamOptions({ ipamOptions: options }: NetworkRequest): Pick<SubnetRequest, 'options'> {
  return options === undefined ? {} : { options };
}

function readSubnet(text: string): Prefix {
  const pool = parsePrefix(text);
  if (pool === undefined) {
    throw invalid('address-invalid', `Subnet ${quote(text)} is not in CIDR form, for example 10.1.0.0/24`);
  }
  if (hasHostBits(pool)) {
    throw invalid('address-invalid', `Subnet ${pool} has host bits set; the subnet is ${networkOf(pool)}`);
  }
  return pool;
}

function checkPools(pools: readonly Prefix[], request: NetworkRequest): void {
  for (const [index, pool] of pools.entries()) {
    const other = pools.slice(0, index).find((earlier) => overlaps(earlier, pool));
    if (other !== undefined)
      throw invalid('address-invalid', `Subnets ${other} and ${pool} of one network overlap`);
    // Docker drops such a subnet in silence (ValidateIPAM skips it); the user then wonders where the addresses are.
    if (familyOfPrefix(pool) === 6 && !request.ipv6) {
      throw invalid('request-invalid', `Subnet ${pool} is IPv6, but IPv6 is not enabled; add --ipv6`);
    }
    if (familyOfPrefix(pool) === 4 && !request.ipv4) {
      throw invalid('request-invalid', `Subnet ${pool} is IPv4, but IPv4 is disabled by --ipv4=false`);
    }
  }
}

type Found = SubnetRequest & { readonly pool: Prefix };

function withRanges(subnets: readonly Found[], request: NetworkRequest): readonly Found[] {
  return request.ipRanges.reduce((done: readonly Found[], text) => {
    const range = parsePrefix(text);
    if (range === undefined) throw invalid('address-invalid', `Range ${quote(text)} is not in CIDR form`);
    const owner = owning(done, 'range', range, (pool) => covers(pool, range));
    if (owner.range !== undefined) throw twice('ranges', owner.range, range, owner.pool);
    return replace(done, owner, { ...owner, range: networkOf(range) });
  }, subnets);
}

function withGateways(subnets: readonly Found[], request: NetworkRequest): readonly Found[] {
  return request.gateways.reduce((done: readonly Found[], text) => {
    const gateway = readAddress('Gateway', text);
    const owner = owning(done, 'gateway', gateway, (pool) => contains(pool, gateway));
    if (owner.gateway !== undefined) throw twice('gateways', owner.gateway, gateway, owner.pool);
    return replace(done, owner, { ...owner, gateway });
  }, subnets);
}

function withAux(subnets: readonly Found[], request: NetworkRequest): readonly Found[] {
  return Object.entries(request.auxAddresses).reduce((done: readonly Found[], [key, text]) => {
    const address = readAddress(`Auxiliary address ${quote(key)}:`, text);
    const owner = owning(done, 'auxiliary address', address, (pool) => contains(pool, address));
    return replace(done, owner, { ...owner, aux: { ...owner.aux, [key]: address } });
  }, subnets);
}

function owning(
  subnets: readonly Found[],
  what: string,
  value: string,
  holds: (pool: Prefix) => boolean,
): Found {
  const owner = subnets.find((subnet) => holds(subnet.pool));
  if (owner !== undefined) return owner;
  const pools = subnets.map((subnet) => subnet.pool).join(', ');
  const given = pools === '' ? 'no --subnet was given' : `the subnets are ${pools}`;
  throw invalid('address-invalid', `There is no matching subnet for ${what} ${value}: ${given}`);
}

function replace(subnets: readonly Found[], old: Found, next: Found): readonly Found[] {
  return subnets.map((subnet) => (subnet === old ? next : subnet));
}

function readAddress(what: string, text: string): Ip {
  const address = parseIp(text);
  if (address === undefined) throw invalid('address-invalid', `${what} ${quote(text)} is not an IP address`);
  return address;
}

function twice(what: string, first: string, second: string, pool: Prefix): CnmError {
  return invalid(
    'address-invalid',
    `Cannot use two ${what} (${first}, ${second}) on the same subnet ${pool}`,
  );
}

function invalid(code: 'address-invalid' | 'request-invalid', message: string): CnmError {
  return new CnmError(code, message);
}
