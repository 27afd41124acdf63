/** `inspect` for people: a network, an endpoint or a sandbox as the chain of links that it is. Pure. */
import { leaseFields } from '../lease.ts';
import type {
  DifferenceView,
  EndpointView,
  NetworkView,
  RouteView,
  RuleView,
  SandboxView,
} from '../views.ts';
import { differenceLines } from './doctor.ts';
import { encryptionFields } from './encryption.ts';
import { publishedRuns } from './ports.ts';
import { presenceDrawing } from './presence.ts';
import { publishedDrawing } from './published.ts';
import { remotesDrawing } from './remotes.ts';
import { fields } from './table.ts';
import { called, linkLine, type Paint, printable, short, subnetLine } from './text.ts';
import { type Branch, drawBranches } from './tree.ts';

export function networkDrawing(network: NetworkView, paint: Paint): string {
  const { driver, origin, state, createdAt, internal, options } = network;
  const root = network.bridgeName === undefined ? 'no device of its own' : deviceLine(network, paint);
  const branches = (bridge?: string) =>
    network.members
      .filter(({ bridgeName }) => bridge === undefined || bridgeName === bridge)
      .map((member) => fromOutside(member, paint));
  return lines([
    heading('network', network, paint),
    ...fields([
      ['id', network.id],
      ['driver', `${driver}, made by ${origin === 'cnm' ? 'cnm' : 'Docker'}`],
      ['state', `${state}, since ${createdAt}`],
      ...network.subnets.map((subnet) => ['subnet', subnetLine(subnet)] as const),
      ['internal', internal ? 'yes: no way out' : 'no'],
      ...(network.fields ?? []),
      ...encryptionFields(network.encryption),
      ...Object.entries(options).map(([key, value]) => ['option', `${key}=${value}`] as const),
    ]),
    ...(network.warnings ?? []).map((warning) => `  ${paint.yellow(`warning: ${printable(warning)}`)}`),
    '',
    ...(network.presence === undefined
      ? [`  ${root}`, ...drawBranches(branches(), '  ')]
      : presenceDrawing(network.presence, branches, paint)),
    ...remotesDrawing(network.remotes, paint),
    ...publishedDrawing(network.published, paint),
    ...publishedLines(network.members, paint),
    ...ruleLines(network.rules, paint),
    ...trouble([...network.differences, ...network.members.flatMap((member) => member.differences)], paint),
  ]);
}

export function sandboxDrawing(sandbox: SandboxView, paint: Paint): string {
  const { path, exists, state, createdAt } = sandbox;
  return lines([
    heading('sandbox', sandbox, paint),
    ...fields([
      ['id', sandbox.id],
      ['state', `${state}, since ${createdAt}`],
    ]),
    '',
    `  namespace ${path}${exists ? '' : paint.red('  missing')}`,
    ...drawBranches(
      sandbox.members.map((member) => fromInside(member, paint)),
      '  ',
    ),
    ...(sandbox.members.length === 0 ? ['  (on no network)'] : []),
    ...trouble([...sandbox.differences, ...sandbox.members.flatMap((member) => member.differences)], paint),
  ]);
}

export function endpointDrawing(endpoint: EndpointView, paint: Paint): string {
  const { attachment, createdAt, state, options } = endpoint;
  return lines([
    heading('endpoint', endpoint, paint),
    ...fields([
      ['id', endpoint.id],
      ['network', `${called(endpoint.network)} (${endpoint.driver})`],
      ['state', `${state}, since ${createdAt}`],
      ['mac', endpoint.mac],
      ...endpoint.addresses.map((address) => ['address', address] as const),
      ...(endpoint.lease === undefined ? [] : leaseFields(endpoint.lease)),
      ...Object.entries(options).map(([key, value]) => ['option', `${key}=${value}`] as const),
      ...publishedRuns(endpoint.ports).map((line) => ['published', line] as const),
    ]),
    '',
    `  ${whereabouts(endpoint)}`,
    ...(attachment?.path === undefined ? [] : [`  namespace ${attachment.path}`]),
    ...drawBranches([fromInside(endpoint, paint)], '  '),
    ...ruleLines(endpoint.rules, paint),
    ...trouble(endpoint.differences, paint),
  ]);
}

/** From the bridge inwards: veth, then the interface in the namespace. */
function fromOutside(endpoint: EndpointView, paint: Paint): Branch {
  const inner: Branch = { lines: insideLines(endpoint, `${whereabouts(endpoint)}, `, paint), children: [] };
  return endpoint.outsideName === undefined && endpoint.role === 'parent'
    ? inner
    : { lines: [outsideLine(endpoint, paint)], children: [inner] };
}

/** From the namespace outwards: interface, veth, bridge, network. */
function fromInside(endpoint: EndpointView, paint: Paint): Branch {
  const network: Branch = { lines: [`network ${title(endpoint.network)}  ${endpoint.driver}`], children: [] };
  const bridge: readonly Branch[] =
    endpoint.bridgeName === undefined
      ? [network]
      : [{ lines: [deviceLine(endpoint, paint)], children: [network] }];
  const isGone = endpoint.outsideName === undefined && endpoint.role === 'parent';
  const outside = isGone ? bridge : [{ lines: [outsideLine(endpoint, paint)], children: bridge }];
  return { lines: insideLines(endpoint, '', paint), children: outside };
}

/** The interface, whose it is, and its ways out; from the record where the kernel's own view is not to be had. */
function insideLines(endpoint: EndpointView, whose: string, paint: Paint): readonly string[] {
  const { inside, insideNote, routes, mac, addresses, putBackAt } = endpoint;
  const recorded = ['(interface)', `mac ${mac}`, ...addresses].join('  ');
  return [
    inside === undefined ? recorded : linkLine(inside),
    `${whose}endpoint ${short(endpoint.id)}`,
    ...routes.map(routeLine),
    ...(insideNote === undefined ? [] : [paint.yellow(printable(insideNote))]),
    ...(putBackAt === undefined ? [] : [`put back at ${putBackAt}, after its parent had gone`]),
  ];
}

function routeLine({ to, via }: RouteView): string {
  const destination = to.endsWith('/0') ? 'default' : to;
  return via === undefined ? `${destination} on link` : `${destination} via ${via}`;
}

function outsideLine(endpoint: EndpointView, paint: Paint): string {
  const { outside, outsideName } = endpoint;
  if (outside !== undefined) return `${outside.kind ?? 'link'} ${linkLine(outside)}`;
  return outsideName === undefined ? '(no link outside)' : paint.red(`${outsideName}  missing`);
}

function deviceLine(
  { bridge, bridgeName = '', role }: Pick<NetworkView, 'bridge' | 'bridgeName' | 'role'>,
  paint: Paint,
): string {
  const what = role ?? 'bridge';
  return bridge === undefined ? paint.red(`${what} ${bridgeName}  missing`) : `${what} ${linkLine(bridge)}`;
}

function whereabouts({ attachment }: EndpointView): string {
  if (attachment === undefined) return 'not joined to a sandbox';
  const kind = attachment.kind === 'cnm' ? 'sandbox' : 'container';
  return attachment.name === undefined
    ? `${kind} with namespace ${printable(attachment.key)}`
    : `${kind} ${printable(attachment.name)}`;
}

function publishedLines(members: readonly EndpointView[], paint: Paint): readonly string[] {
  const rows = members.flatMap((member) =>
    publishedRuns(member.ports).map((line) => [`  ${called(member)}`, line] as const),
  );
  return rows.length === 0 ? [] : ['', `  ${paint.bold('published ports')}`, ...fields(rows)];
}

function ruleLines(rules: readonly RuleView[], paint: Paint): readonly string[] {
  if (rules.length === 0) return [];
  return [
    '',
    `  ${paint.bold('rules')}`,
    ...fields(rules.map(({ where, what }) => [`  ${where}`, what] as const)),
  ];
}

function trouble(differences: readonly DifferenceView[], paint: Paint): readonly string[] {
  if (differences.length === 0) return [];
  return [
    '',
    `  ${paint.red('differs from what should be')}`,
    ...differences.flatMap((one) => differenceLines(one, paint)).map((line) => `    ${line}`),
  ];
}

function heading(
  kind: string,
  object: { readonly id: string; readonly name?: string },
  paint: Paint,
): string {
  return `${kind} ${paint.bold(printable(called(object)))}`;
}

function title(network: { readonly id: string; readonly name?: string }): string {
  return network.name === undefined ? short(network.id) : `${printable(network.name)} (${short(network.id)})`;
}

function lines(all: readonly string[]): string {
  return all.join('\n') + '\n';
}
