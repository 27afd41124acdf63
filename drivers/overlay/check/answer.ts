/** What another host is answered, and by which ways. Pure. */
import type { Ip } from '../../../address/ip.ts';
import { PACKET_OVERHEAD } from './frame.ts';
import { type Answer, type Ask, encodeMessage, MESSAGE_MOST, type Side, type Way } from './message.ts';
import type { Tunnel } from './tunnels.ts';

export interface Reply {
  /** To be sent through a tunnel, by each of these ways, with as many bytes as were asked for. */
  readonly inside?: {
    readonly tunnel: Tunnel;
    readonly ways: readonly Exclude<Way, 'icmp'>[];
    readonly answer: Omit<Answer, 'way'>;
  };
  /** To be sent beside all tunnels, also where this host has none of the asker's; `from`: by this address of ours. */
  readonly beside?: { readonly from?: Ip; readonly answer: Answer };
}

/**
 * Only to hosts of a network that this one is on: else anybody could have it send to anybody.
 * @param from who sent it, where that is known; through a tunnel it is what the message says
 * @param clock milliseconds since 1970
 */
export function replyTo(
  ask: Ask,
  heard: Way,
  from: Ip | undefined,
  tunnels: readonly Tunnel[],
  clock: number,
  entries: (tunnel: Tunnel) => readonly (readonly [string, string])[],
): Reply {
  if (from !== undefined && from !== ask.from) return {};
  const tunnel = tunnels.find(({ vni, port }) => vni === ask.vni && port === ask.port);
  const listed = tunnels.filter(
    ({ hosts, here }) => hosts.includes(ask.from) || here?.peers.includes(ask.from),
  );
  const isPeer = tunnel !== undefined && listed.includes(tunnel);
  const local = (tunnel?.here ?? listed.find(({ here }) => here !== undefined)?.here)?.local;
  const answer = {
    say: 'answer' as const,
    id: ask.id,
    question: ask.question,
    from: local ?? ask.from,
    heard,
    clock,
    ...(tunnel && { side: sideOf(tunnel, isPeer) }),
  };
  const ways = ask.by.filter((way) => way !== 'icmp');
  const others = listed.filter((one) => one !== tunnel).map(({ vni, port }) => `${vni}/${port}`);
  return {
    ...(isPeer &&
      ways.length > 0 && {
        inside: {
          tunnel,
          ways,
          answer: {
            ...answer,
            ...(ask.entries === true && { entries: listOf(tunnel, answer, entries(tunnel)) }),
          },
        },
      }),
    ...(ask.by.includes('icmp') && {
      beside: {
        ...(local !== undefined && { from: local }),
        answer: { ...answer, way: 'icmp' as const, others: others.slice(0, 16) },
      },
    }),
  };
}

/** As many as an answer through the tunnel holds, in one packet, and whoever hears it reads. */
function listOf(
  { here }: Tunnel,
  answer: Omit<Answer, 'way'>,
  entries: readonly (readonly [string, string])[],
): Answer['entries'] {
  const bare = encodeMessage({ ...answer, way: 'offload', entries: [] }).length;
  let room = Math.min((here?.mtu ?? 0) - PACKET_OVERHEAD, MESSAGE_MOST) - bare;
  const list: [string, string][] = [];
  for (const [ip, mac] of entries.slice(0, 256)) {
    room -= JSON.stringify([ip, mac]).length + 1;
    if (room < 0) break;
    list.push([ip, mac]);
  }
  return list;
}

/** A stranger is told that he is none of the network's hosts, and no more. */
function sideOf({ here, pools, ranges, encrypted, keys }: Tunnel, listed: boolean): Side {
  if (!listed) return { present: here !== undefined, listed, pools: [], ranges: [], encrypted };
  return {
    present: here !== undefined,
    listed,
    ...(here && { mtu: here.mtu }),
    pools: [...pools].slice(0, 8),
    ranges: [...ranges].slice(0, 8),
    encrypted,
    ...(keys && { keys: { ...keys, prints: [...keys.prints] } }),
  };
}
