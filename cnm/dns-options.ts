/** The options of a network that are about names. What they do is the resolver's affair; drivers see to it that they can be done. */
import { parseIp } from '../address/ip.ts';
import { choiceValue, invalidValue } from './option-values.ts';

/** Where names are resolved for containers: at the gateway's addresses; `on`: inside Docker's sandboxes too; nowhere. */
export const DNS_OPTION = 'dns';
/** Who is asked for what is not known here, in the place of the host's servers. */
export const DNS_SERVERS_OPTION = 'dns.servers';
export const DNS_OPTIONS = [DNS_OPTION, DNS_SERVERS_OPTION];

const PLACES = ['gateway', 'on', 'off'] as const;
export type DnsPlace = (typeof PLACES)[number];

/** @throws CnmError `option-invalid` */
export function dnsPlace(
  options: Readonly<Record<string, string>>,
  places: readonly DnsPlace[] = PLACES,
  otherwise: DnsPlace = 'gateway',
): DnsPlace {
  for (const server of dnsServers(options)) {
    const [, address = '', port = '53'] = /^([^#%]+)(?:%[^#\s]+)?(?:#(\d{1,5}))?$/.exec(server) ?? [];
    if (parseIp(address) === undefined || Number(port) < 1 || Number(port) > 65535)
      throw invalidValue(
        DNS_SERVERS_OPTION,
        server,
        'addresses separated by commas, each with its port if that is not 53: 10.0.0.53, 192.0.2.1#5353',
      );
  }
  return choiceValue(DNS_OPTION, options[DNS_OPTION], places, otherwise);
}

export function dnsServers(options: Readonly<Record<string, string>>): readonly string[] {
  return (options[DNS_SERVERS_OPTION] ?? '').split(/[\s,]+/).filter((server) => server !== '');
}
