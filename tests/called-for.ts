/**
 * What a host must hold for the bridge networks that live on it: a small model that shares nothing with the driver but the names of
 * links. And what a fake kernel holds, in the same words: one line for each thing, sorted.
 */
import { familyOf, type Ip } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import type { EndpointSpec, NetworkSpec, PortBinding } from '../cnm/model.ts';
import { vethNamesOf } from '../cnm/short-name.ts';
import { bridgeNameOf, gateNamesOf } from '../drivers/bridge/names.ts';
import type { Kernel } from '../kernel/kernel.ts';

export interface LiveEndpoint {
  readonly spec: EndpointSpec;
  joined: boolean;
  /** With the port of the host that each got (0: it needs none). */
  published: readonly (PortBinding & { readonly got: number })[];
}

export interface LiveNetwork {
  readonly spec: NetworkSpec;
  readonly endpoints: Map<number, LiveEndpoint>;
  /** A port of a loopback address was asked for since the bridge was made. */
  askedForLoopback: boolean;
}

export interface Target {
  readonly ip: Ip;
  /** Absent: routed, the container's own port is what is published. */
  readonly host?: Ip;
}

const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

const option = ({ options }: NetworkSpec, name: string) => options[`com.docker.network.bridge.${name}`];
const modeOf = (spec: NetworkSpec, family: 4 | 6) => option(spec, `gateway_mode_ipv${family}`) ?? 'nat';
const isOff = (spec: NetworkSpec, name: string) => option(spec, name) === 'false';

function familiesOf({ ipv4, ipv6 }: NetworkSpec): readonly (4 | 6)[] {
  return [...(ipv4.length > 0 ? [4 as const] : []), ...(ipv6.length > 0 ? [6 as const] : [])];
}

/** Where a binding leads from and to; undefined: it cannot be. */
export function targetsOf(
  network: NetworkSpec,
  endpoint: EndpointSpec,
  { hostIp }: PortBinding,
): readonly Target[] | undefined {
  if (network.internal) return [];
  const chosen = option(network, 'host_binding_ipv4');
  const hosts = (hostIp ?? chosen) === undefined ? [ANY[4], ANY[6]] : [hostIp ?? chosen ?? ''];
  const targets = hosts.flatMap((host) => {
    const family = host.includes(':') ? 6 : 4;
    const own = family === 4 ? endpoint.address : endpoint.addressV6;
    if (own === undefined) return [];
    const isRouted = modeOf(network, family) === 'routed';
    return [{ ip: addressOf(own), ...(!isRouted && { host: host as Ip }) }];
  });
  return targets.length === 0 ? undefined : targets;
}

export function calledFor(live: Iterable<LiveNetwork>): readonly string[] {
  return [...live]
    .flatMap((one) => [
      ...ofNetwork(one),
      ...[...one.endpoints.values()].flatMap((endpoint) => ofEndpoint(one.spec, endpoint)),
    ])
    .sort();
}

function ofNetwork({ spec }: LiveNetwork): readonly string[] {
  const bridge = bridgeNameOf(spec.id);
  const lines = [`link ${bridge} up`, `bridges ${bridge}`];
  for (const family of [4, 6]) lines.push(`accept ${family} ${bridge} ${spec.id.slice(0, 12)}`);
  if (!isOff(spec, 'enable_icc')) lines.push(`same_bridge ${bridge} . ${bridge}`);
  for (const family of familiesOf(spec)) lines.push(...gatewayLines(spec, family, bridge));
  if (spec.internal) return [...lines, `internal ${bridge}`];
  lines.push(`hairpin ${bridge} . ${bridge}`);
  const trusted = option(spec, 'trusted_host_interfaces');
  if (trusted !== undefined) lines.push(`trusted ${trusted} . ${bridge}`);
  for (const family of familiesOf(spec)) lines.push(...translationLines(spec, family, bridge));
  return [...lines, ...gateLines(spec, bridge)];
}

function gatewayLines(spec: NetworkSpec, family: 4 | 6, bridge: string): readonly string[] {
  if (modeOf(spec, family) === 'isolated' || (family === 4 && option(spec, 'inhibit_ipv4') === 'true'))
    return [];
  const [subnet] = family === 4 ? spec.ipv4 : spec.ipv6;
  const lines = [`address ${subnet?.gateway ?? ''} ${bridge}`, `route ${subnet?.pool ?? ''} ${bridge}`];
  const [gateway = ''] = subnet?.gateway?.split('/') ?? [];
  return spec.options['dns'] === 'off' ? lines : [...lines, `dns${family} ${bridge} . ${gateway}`];
}

function translationLines(spec: NetworkSpec, family: 4 | 6, bridge: string): readonly string[] {
  const lines: string[] = [];
  if (modeOf(spec, family) === 'routed') return [`routed${family} ${bridge}`];
  if (modeOf(spec, family) === 'nat-unprotected') lines.push(`unprotected${family} ${bridge}`);
  const source = spec.options[`com.docker.network.host_ipv${family}`];
  if (isOff(spec, 'enable_ip_masquerade')) return lines;
  return [
    ...lines,
    source === undefined ? `masquerade${family} ${bridge}` : `snat${family} ${bridge} -> ${source}`,
  ];
}

function gateLines(spec: NetworkSpec, bridge: string): readonly string[] {
  const families = familiesOf(spec).filter((family) => modeOf(spec, family) !== 'routed');
  if (spec.options['firewall'] !== 'host' || families.length === 0) return [];
  const { entrance, exit } = gateNamesOf(spec.id);
  const lines = [entrance, exit].flatMap((name) => [`link ${name} up`, `gates ${name}`]);
  if (families.includes(4)) {
    const pool = spec.ipv4[0]?.pool ?? '';
    lines.push(`inside4 ${pool} . ${bridge}`, `route 169.254.157.122/31 ${entrance}`, `rp_filter ${exit}`);
    lines.push(`address 169.254.157.122/31 ${entrance}`, `address 169.254.157.122/32 ${exit}`);
  }
  if (families.includes(6)) {
    lines.push(`inside6 ${spec.ipv6[0]?.pool ?? ''} . ${bridge}`, `route fd9d:7b6a:6d2f::/127 ${entrance}`);
    lines.push(`address fd9d:7b6a:6d2f::/127 ${entrance}`);
  }
  return lines;
}

function ofEndpoint(network: NetworkSpec, { spec, joined, published }: LiveEndpoint): readonly string[] {
  const { host, container } = vethNamesOf(spec.id);
  const flags = [isOff(network, 'enable_icc') ? ' isolated' : '', network.internal ? '' : ' hairpin'].join(
    '',
  );
  const lines = [`link ${host} up port of ${bridgeNameOf(network.id)}${flags}`];
  if (!joined) lines.push(`link ${container} down`);
  return [...lines, ...new Set(published.flatMap((one) => portLines(network, spec, one)))];
}

function portLines(
  network: NetworkSpec,
  endpoint: EndpointSpec,
  binding: PortBinding & { readonly got: number },
): readonly string[] {
  const proto = PROTOCOLS[binding.proto] ?? '';
  return (targetsOf(network, endpoint, binding) ?? []).flatMap(({ ip, host }) => {
    const opened = `open${familyOf(ip)} ${ip} . ${proto} . ${binding.port}`;
    if (host === undefined) return [opened];
    const at = `${proto} ${host} ${binding.got}`;
    const guarded = network.options['firewall'] === 'host' ? [`guarded ${at}`] : [];
    return [opened, `held ${at}`, `publish ${at} -> ${ip} ${binding.port}`, ...guarded];
  });
}

/** The sysctls of a bridge and its gate that a network may need. */
export function sysctlsOf({ id }: NetworkSpec): { readonly loopback: string; readonly looseReturn: string } {
  return {
    loopback: `net.ipv4.conf.${bridgeNameOf(id)}.route_localnet`,
    looseReturn: `net.ipv4.conf.${gateNamesOf(id).exit}.rp_filter`,
  };
}

export async function observed(kernel: Kernel, networks: readonly NetworkSpec[]): Promise<readonly string[]> {
  const sysctls = networks.map((spec) => sysctlsOf(spec).looseReturn);
  const { host, elements, heldPorts, accepts } = await kernel.facts({ sysctls });
  const links = [...host.links.values()].filter(({ name }) => name !== 'lo');
  return [
    ...links.map(({ name, up, master, isolated, hairpin }) =>
      [
        `link ${name} ${up ? 'up' : 'down'}`,
        ...(master === undefined ? [] : [`port of ${master}`]),
        ...(isolated === true ? ['isolated'] : []),
        ...(hairpin === true ? ['hairpin'] : []),
      ].join(' '),
    ),
    ...host.addresses
      .filter(({ link }) => link !== 'lo')
      .map(({ prefix, link }) => `address ${prefix} ${link}`),
    ...host.routes.map(
      ({ to, link, via }) => `route ${to} ${link ?? ''}${via === undefined ? '' : ` via ${via}`}`,
    ),
    ...networks
      .map(({ id }) => gateNamesOf(id).exit)
      .filter((exit) => host.sysctls.get(`net.ipv4.conf.${exit}.rp_filter`) === '2')
      .map((exit) => `rp_filter ${exit}`),
    ...accepts.map(({ family, bridge, network }) => `accept ${family} ${bridge} ${network}`),
    ...[...heldPorts].map((port) => `held ${port}`),
    ...[...(elements ?? [])].flatMap(([set, held]) =>
      [...held].flatMap(([key, data]) => elementLines(set, key.split(' . '), data)),
    ),
  ].sort();
}

/** Intervals port by port: how many share an element is the driver's own affair. */
function elementLines(set: string, key: readonly string[], data: string): readonly string[] {
  const [, what, family, any] = /^(publish|guarded)([46])(_any)?(?:_range)?$/.exec(set) ?? [];
  if (what === undefined) return [`${set} ${key.join(' . ')}${data === '' ? '' : ` -> ${data}`}`];
  const [proto, host = '', numbers = ''] =
    any === undefined ? key : [key[0], ANY[family === '4' ? 4 : 6], key[1]];
  const [from = 0, to = from] = numbers.split('-').map(Number);
  const [target, port] = data.split(' . ');
  return Array.from({ length: to - from + 1 }, (_, n) => {
    const at = `${what} ${proto ?? ''} ${host.replace(/\/0$/, '')} ${from + n}`;
    return what === 'guarded' ? at : `${at} -> ${target ?? ''} ${port ?? from + n}`;
  });
}
