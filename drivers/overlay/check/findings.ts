/** What the evidence of a test means, and what to do about it. Pure. */
import { familyOf, type Ip } from '../../../address/ip.ts';
import { OPTION } from '../options.ts';
import { outside } from '../underlay.ts';
import { keysDiffer } from './keys.ts';
import { type Evidence, QUESTION } from './survey.ts';
import type { Tunnel, TunnelHere } from './tunnels.ts';

/** Each is one kind of fault; docs of the driver explain them. */
export type FindingCode =
  | 'unreachable'
  | 'silent'
  | 'idle'
  | 'other-vni'
  | 'other-port'
  | 'unknown-there'
  | 'not-listed'
  | 'port-closed'
  | 'blocked-there'
  | 'blocked-back'
  | 'refused-here'
  | 'mtu-there'
  | 'mtu-back'
  | 'mtu-differs'
  | 'mtu-changed'
  | 'checksum-there'
  | 'checksum-back'
  | 'subnets-differ'
  | 'ranges-overlap'
  | 'encryption-differs'
  | 'keys-differ'
  | 'address-twice'
  | 'entry-elsewhere'
  | 'clock'
  | 'not-here';

export interface Finding {
  readonly code: FindingCode;
  /** `error`: packets are lost. `warning`: some may be, or will be. `note`: nothing is wrong. */
  readonly severity: 'error' | 'warning' | 'note';
  readonly what: string;
  readonly todo: string;
}

/** What of this host is needed for judging. */
export interface Ground {
  readonly tunnel: Tunnel;
  readonly here: TunnelHere;
  /** Addresses of this host's own endpoints with their MACs. */
  readonly own: readonly (readonly [string, string])[];
  /** Permanent entries of the tunnel's forwarding table: where a MAC is, as this host has it. */
  readonly forwarding: ReadonlyMap<string, Ip>;
}

/** Milliseconds. Leases of a cluster last some seconds; the answer's way takes up to a quarter of one. */
const CLOCK_LIMIT = 2000;

export function findings(evidence: Evidence, ground: Ground): readonly Finding[] {
  const [first] = noWay(evidence, ground);
  if (first !== undefined) return [first];
  return [
    ...directions(evidence, ground),
    ...sizes(evidence, ground),
    ...checksums(evidence, ground),
    ...agreement(evidence, ground),
    ...entries(evidence, ground),
    ...clock(evidence),
  ];
}

/** Nothing passes, and there is one reason for it. */
function noWay(evidence: Evidence, { tunnel, here }: Ground): readonly Finding[] {
  const { peer, pong, answered, there, back, side, others, unreachable, refused } = evidence;
  const { vni, port } = tunnel;
  if (side?.listed === false)
    return [
      error(
        'not-listed',
        `${peer} has the network (VNI ${vni}), but not this host in its list of peers: nothing that is for everybody comes from there to ${here.local}`,
        `create the network there anew with ${here.local} in -o peers=…`,
      ),
    ];
  if (there || back) return [];
  if (!pong && !answered) {
    const by = unreachable.find(({ why }) => why === 'host');
    return [
      error(
        'unreachable',
        `${peer} cannot be reached: it answers neither ping nor anything on UDP ${port}${by === undefined ? '' : ` (${by.by} says that there is no way to it)`}`,
        `see that the host runs and that its address is right: ip route get ${peer}; ping ${peer}`,
      ),
    ];
  }
  const closed = unreachable.some(({ why, by }) => why === 'port' && by === peer);
  if (!answered)
    return [
      closed
        ? error(
            'port-closed',
            `${peer} answers to ping, but nothing listens on its UDP port ${port}, and no cnmd with an overlay network answers there`,
            `see on ${peer} that cnmd runs, and create the network there: cnm network ls`,
          )
        : error(
            'silent',
            `${peer} answers to ping, but neither cnmd nor anything on UDP ${port} does: cnmd does not run there, or is of a version without this test, or a firewall drops what it says`,
            `run cnm overlay check on ${peer} as well; see there that cnmd runs: systemctl status cnmd`,
          ),
    ];
  if (side === undefined) return [elsewhere(peer, vni, port, others)];
  if (!side.present)
    return [
      {
        code: 'idle',
        severity: 'note',
        what: `${peer} has the network, and no container of it runs there: there is no tunnel yet`,
        todo: 'nothing; start a container there to test the way',
      },
    ];
  const differ = tunnel.keys && side.keys && keysDiffer(tunnel.keys, side.keys, peer);
  if (differ !== undefined) return [error('keys-differ', differ.what, differ.todo)];
  return refusedHere(refused, peer, port);
}

function elsewhere(peer: Ip, vni: number, port: number, others: readonly string[]): Finding {
  const list = others.join(', ');
  const there = others.map((one) => one.split('/'));
  const samePort = there.find(([other]) => other === String(vni));
  if (samePort !== undefined)
    return error(
      'other-port',
      `${peer} has VNI ${vni} on UDP port ${samePort[1] ?? ''}, this host on ${port}`,
      `create the network on one of the two hosts anew, with the same -o port=…`,
    );
  const otherVni = there.find(([, other]) => other === String(port));
  if (otherVni !== undefined)
    return error(
      'other-vni',
      `${peer} has no network with VNI ${vni}; with this host it shares ${list} (VNI/port)`,
      `create the network on one of the two hosts anew, with the same -o vni=…`,
    );
  return error(
    'unknown-there',
    `cnmd on ${peer} knows no network with VNI ${vni} on UDP port ${port}, nor any other that has this host in its list of peers`,
    `create the network there, with the same vni, port and peers`,
  );
}

function refusedHere(refused: ReadonlyMap<number, string>, peer: Ip, port: number): readonly Finding[] {
  const errno = refused.get(QUESTION.there);
  if (errno !== 'EPERM' && errno !== 'EACCES') return [];
  return [
    error(
      'refused-here',
      `This host's own firewall refuses to send to UDP port ${port} of ${peer} (${errno})`,
      `let UDP ${port} out: nft list ruleset, iptables -S OUTPUT`,
    ),
  ];
}

function directions(
  { peer, there, back, unreachable, refused }: Evidence,
  { tunnel, here }: Ground,
): readonly Finding[] {
  const { port } = tunnel;
  const said = unreachable.filter(({ why }) => why === 'prohibited' || why === 'port').map(({ by }) => by);
  const by = said.length === 0 ? '' : ` (${said.join(', ')} says so)`;
  const refusal = refusedHere(refused, peer, port);
  return [
    ...(there
      ? []
      : refusal.length > 0
        ? refusal
        : [
            error(
              'blocked-there',
              `What this host sends to UDP port ${port} of ${peer} does not arrive there${by}`,
              `let UDP ${port} from ${here.local} in on ${peer}, and through firewalls between the two hosts`,
            ),
          ]),
    ...(back
      ? []
      : [
          error(
            'blocked-back',
            `What ${peer} sends to UDP port ${port} of this host does not arrive here`,
            `let UDP ${port} from ${peer} in on this host, and through firewalls between the two hosts`,
          ),
        ]),
  ];
}

function sizes(evidence: Evidence, ground: Ground): readonly Finding[] {
  const { peer, there, back, fullThere, fullBack, longestThere, longestBack } = evidence;
  const found: Finding[] = [];
  if (there && !fullThere)
    found.push(narrow('mtu-there', `from this host to ${peer}`, longestThere, evidence, ground));
  if (back && !fullBack)
    found.push(narrow('mtu-back', `from ${peer} to this host`, longestBack, evidence, ground));
  return found;
}

function narrow(
  code: 'mtu-there' | 'mtu-back',
  way: string,
  longest: number | undefined,
  { unreachable }: Evidence,
  ground: Ground,
): Finding {
  const { mtu } = ground.here;
  const router = unreachable.find(({ why }) => why === 'too-big');
  const says =
    router === undefined
      ? 'nobody on the way says so: a black hole for path MTU discovery'
      : `${router.by} says: at most ${router.mtu ?? 0}`;
  const passes =
    longest === undefined ? 'and what does pass could not be found out' : `at most ${longest} pass`;
  const below = longest === undefined ? 'WHAT PASSES' : String(passed(longest, ground));
  return error(
    code,
    `Packets of ${mtu} bytes, as large as the network's links take, do not pass whole ${way}; ${passes} (${says})`,
    `create the network on all hosts with -o ${OPTION.mtu}=${below}, or let the way carry ${needed(mtu, ground)} bytes`,
  );
}

/** Bytes below of the packet that passed: encrypted, with the cipher that takes less, so that no more is taken for proved. */
function passed(length: number, { tunnel, here }: Ground): number {
  return outside(length, familyOf(here.local), tunnel.encrypted ? 'gcm' : undefined);
}

/** Bytes that the network below has to take, whatever a packet of so many inside is encrypted with. */
function needed(mtu: number, { tunnel, here }: Ground): number {
  return outside(mtu, familyOf(here.local), tunnel.encrypted ? 'cbc' : undefined);
}

function checksums(evidence: Evidence, { here }: Ground): readonly Finding[] {
  const { peer, there, back, offloadThere, offloadBack } = evidence;
  const why =
    'its network device is trusted to compute checksums inside of a tunnel, and does not; pings pass, TCP does not';
  return [
    ...(there && !offloadThere
      ? [
          error(
            'checksum-there',
            `Packets whose checksum is left to this host's network device arrive broken at ${peer}: ${why}`,
            `on this host: ethtool -K LINK tx off, LINK being the device towards ${peer} (ip route get ${peer}); or ethtool -K ${here.link} tx off in the namespace ${here.netns}`,
          ),
        ]
      : []),
    ...(back && !offloadBack
      ? [
          error(
            'checksum-back',
            `Packets whose checksum is left to the network device of ${peer} arrive broken here: ${why}`,
            `on ${peer}: ethtool -K LINK tx off, LINK being the device towards ${here.local}`,
          ),
        ]
      : []),
  ];
}

/** What the two hosts say of the same network. */
function agreement({ peer, side }: Evidence, ground: Ground): readonly Finding[] {
  const { tunnel, here } = ground;
  if (side === undefined) return [];
  const found: Finding[] = [];
  if (side.mtu !== undefined && side.mtu !== here.mtu)
    found.push(
      error(
        'mtu-differs',
        `The network's links have an MTU of ${here.mtu} here and of ${side.mtu} on ${peer}: the larger packets are lost at the host with the smaller one`,
        `create the network on all hosts with -o ${OPTION.mtu}=${needed(Math.min(side.mtu, here.mtu), ground)}`,
      ),
    );
  if (side.encrypted !== tunnel.encrypted)
    found.push(
      error(
        'encryption-differs',
        `The network is ${tunnel.encrypted ? 'encrypted here and not' : 'not encrypted here and is'} on ${peer}`,
        `create it on one of the two hosts anew, with or without -o encrypted`,
      ),
    );
  const differ = tunnel.keys && side.keys && keysDiffer(tunnel.keys, side.keys, peer);
  // Something passes: keys from before are there as well.
  if (differ !== undefined) found.push(warning('keys-differ', differ.what, differ.todo));
  const theirs = side.pools.toSorted().join(', ');
  const ours = tunnel.pools.toSorted().join(', ');
  if (theirs !== ours)
    found.push(
      error(
        'subnets-differ',
        `VNI ${tunnel.vni} is ${ours} here and ${theirs} on ${peer}`,
        `create the network on one of the two hosts anew, with the same subnets`,
      ),
    );
  const shared = side.ranges.filter((range) => tunnel.ranges.includes(range));
  if (shared.length > 0)
    found.push(
      warning(
        'ranges-overlap',
        `Both this host and ${peer} give the addresses of ${shared.join(', ')}`,
        `give each host an ip-range of its own, with --ip-range and -o ip-range`,
      ),
    );
  return found;
}

function entries({ peer, entries: theirs }: Evidence, { own, forwarding }: Ground): readonly Finding[] {
  const here = new Set(own.map(([address]) => address));
  return theirs.flatMap(([address, mac]): readonly Finding[] => {
    const place = forwarding.get(mac);
    if (here.has(address))
      return [
        error(
          'address-twice',
          `Address ${address} is a container's here and another's on ${peer}`,
          `start one of the two anew with another --ip`,
        ),
      ];
    if (place === undefined || place === peer) return [];
    return [
      error(
        'entry-elsewhere',
        `${address} (${mac}) is on ${peer}, and this host sends what is for it to ${place}`,
        `cnm doctor --fix; look at cnmd's log for why the record is old`,
      ),
    ];
  });
}

function clock({ peer, clockAhead = 0 }: Evidence): readonly Finding[] {
  if (Math.abs(clockAhead) < CLOCK_LIMIT) return [];
  const seconds = Math.round(Math.abs(clockAhead) / 1000);
  return [
    warning(
      'clock',
      `The clock of ${peer} is ${seconds} s ${clockAhead > 0 ? 'ahead of' : 'behind'} this host's`,
      `have both follow a time server: timedatectl`,
    ),
  ];
}

/** The host, not a peer: the links could not follow the way below (cnm/resize.ts). */
export function changedBelow(mtu: number, now: number): readonly Finding[] {
  if (mtu === now) return [];
  return [
    warning(
      'mtu-changed',
      `The network's links here have an MTU of ${mtu}, and the network below would give ${now} by now`,
      now < mtu
        ? `larger packets are cut below or lost: see why in the log of cnmd, which has them follow it`
        : `nothing is lost; see why in the log of cnmd, which has them follow it`,
    ),
  ];
}

function error(code: FindingCode, what: string, todo: string): Finding {
  return { code, severity: 'error', what, todo };
}

function warning(code: FindingCode, what: string, todo: string): Finding {
  return { code, severity: 'warning', what, todo };
}
