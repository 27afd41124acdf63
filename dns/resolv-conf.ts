/** resolv.conf(5), read as glibc does, and written. Pure. */
import { parseIp } from '../address/ip.ts';

export interface ResolvConf {
  /** Addresses, a link-local one with its interface: `fe80::1%eth0`. */
  readonly servers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Lines that say nothing usable are passed over. The last `search` or `domain` counts. */
export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  const options: string[] = [];
  let search: readonly string[] = [];
  for (const line of text.split('\n')) {
    const [keyword = '', ...words] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    const [first = ''] = words;
    if (keyword === 'nameserver' && isServer(first) && !servers.includes(first)) servers.push(first);
    else if (keyword === 'search' || keyword === 'domain') search = words;
    else if (keyword === 'options') options.push(...words);
  }
  return { servers, search, options };
}

/** An address that can be asked, with an interface where it is a link-local one. */
export function isServer(text: string): boolean {
  const [address = '', ...zone] = text.split('%');
  return parseIp(address) !== undefined && zone.length < 2 && zone[0] !== '';
}

export function resolvConfText({ servers, search, options }: ResolvConf, comment: string): string {
  return [
    `# ${comment}`,
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length === 0 ? [] : [`search ${search.join(' ')}`]),
    ...(options.length === 0 ? [] : [`options ${options.join(' ')}`]),
    '',
  ].join('\n');
}
