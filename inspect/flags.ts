/** What the flags of `cnm sandbox join` and `cnm endpoint publish` say, decoded. Pure. */
import { type Ip, parseIp } from '../address/ip.ts';
import { type Mac, parseMac } from '../address/mac.ts';
import { CnmError } from '../cnm/errors.ts';
import type { NetworkRecord, PortBinding, Subnet } from '../cnm/model.ts';
import { bindingsOf, parsePortSpec } from './port-spec.ts';
import { quote, title } from './refs.ts';

/** Docker's driver keeps silent about ports of an internal network; who typed them wants to know. */
export function checkWayIn(network: NetworkRecord | undefined, ports: readonly PortBinding[]): void {
  if (network?.internal !== true || ports.length === 0) return;
  throw new CnmError(
    'option-invalid',
    `Network ${title(network)} is internal: nothing comes in from outside, so no port can be published on it`,
  );
}

/** Many as they may be, a host has no more ports of one protocol and address. */
const MOST_PORTS = 65_535;

export function readPorts(specs: readonly string[]): readonly PortBinding[] {
  const bindings: PortBinding[] = [];
  for (const spec of specs) {
    bindings.push(...bindingsOf(parsePortSpec(spec)));
    if (bindings.length > MOST_PORTS) {
      throw new CnmError(
        'request-invalid',
        `-p ${quote(spec)} is too much: an endpoint publishes at most ${MOST_PORTS} ports`,
      );
    }
  }
  return bindings;
}

export function readIp(flag: string, family: 4 | 6, text: string | undefined): Ip | undefined {
  if (text === undefined) return undefined;
  const address = parseIp(text);
  if (address !== undefined && address.includes(':') === (family === 6)) return address;
  throw new CnmError('address-invalid', `${quote(text)} (${flag}) is not an IPv${family} address`);
}

export function readMac(text: string | undefined): Mac | undefined {
  if (text === undefined) return undefined;
  const mac = parseMac(text);
  if (mac !== undefined) return mac;
  throw new CnmError(
    'address-invalid',
    `${quote(text)} (--mac) is not a MAC address, for example 02:42:0a:01:00:02`,
  );
}

export function outside(address: Ip, subnets: readonly Subnet[]): CnmError {
  const pools = subnets.map((subnet) => subnet.pool).join(', ');
  return new CnmError(
    'address-invalid',
    `Address ${address} is in none of the network's subnets${pools === '' ? '' : ` (${pools})`}`,
  );
}

/** Words of a line of resolv.conf. @throws CnmError `request-invalid` for what would be several, or the beginning of a comment. */
export function words(flag: string, given: readonly string[]): readonly string[] {
  const bad = given.find((word) => !/^[^\s#;]+$/.test(word));
  if (bad === undefined) return given;
  throw new CnmError(
    'request-invalid',
    `${flag} ${JSON.stringify(bad)} must be one word, without "#" and ";"`,
  );
}
