/** For tests: a wire with a DHCP server on it, as small as RFC 2131 section 4.3 allows, and what it was told. */
import { ip, ipBytes, type Ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import {
  type DhcpMessage,
  decodeMessage,
  encodeMessage,
  OPTION,
  SERVER_PORT,
  TYPE,
  UNSPECIFIED,
} from './message.ts';
import { u32 } from './values.ts';
import type { OpenTap } from './wires.ts';

export const SERVER = ip('10.0.0.1');
export const SERVER_MAC = mac('02:00:00:00:00:01');

export interface TestServer {
  readonly tap: OpenTap;
  /** What clients said: `discover`, `request 10.0.0.7`, …; those that went to the server alone with `!`. */
  readonly heard: readonly string[];
  /** By client identifier in hex. */
  readonly leases: ReadonlyMap<string, Ip>;
  readonly names: ReadonlyMap<string, string>;
  /** Taps that are open. */
  readonly open: number;
  isSilent: boolean;
  /** Seconds. */
  leaseTime: number;
  /** Where the next new client's address comes from. */
  next: number;
  refuses: boolean;
  forget(): void;
}

export function reply(
  to: DhcpMessage,
  type: keyof typeof TYPE,
  address: Ip,
  options: readonly (readonly [number, Uint8Array])[] = [],
): DhcpMessage {
  const all = [
    [OPTION.messageType, Buffer.of(TYPE[type])],
    [OPTION.serverId, ipBytes(SERVER)],
    ...options,
  ] as const;
  return { ...to, op: 2, yiaddr: address, options: new Map(all) };
}

export function testServer(): TestServer {
  const heard: string[] = [];
  const leases = new Map<string, Ip>();
  const names = new Map<string, string>();
  const server = { heard, leases, names, open: 0, isSilent: false, leaseTime: 3600, next: 7, refuses: false };
  const answerTo = (message: DhcpMessage): DhcpMessage | undefined => {
    const type = message.options.get(OPTION.messageType)?.[0];
    const id = Buffer.from(message.options.get(OPTION.clientId) ?? []).toString('hex');
    const name = message.options.get(OPTION.hostName);
    const terms: readonly (readonly [number, Uint8Array])[] = [
      [OPTION.leaseTime, u32(server.leaseTime)],
      [OPTION.subnetMask, Buffer.of(255, 255, 255, 0)],
    ];
    if (type === TYPE.discover) {
      const address = leases.get(id) ?? ip(`10.0.0.${server.next++}`);
      leases.set(id, address);
      return reply(message, 'offer', address, terms);
    }
    const known = leases.get(id);
    if (type === TYPE.release) {
      leases.delete(id);
      return undefined;
    }
    if (known === undefined || server.refuses) return reply(message, 'nak', UNSPECIFIED);
    if (name !== undefined) names.set(id, Buffer.from(name).toString());
    return reply(message, 'ack', known, terms);
  };
  const tap: OpenTap = () => {
    const waiting: Uint8Array[] = [];
    server.open += 1;
    return {
      send({ payload, to }) {
        const message = decodeMessage(payload);
        if (message === undefined) throw new Error('no DHCP message');
        heard.push(sentence(message) + (to.mac === SERVER_MAC ? '!' : ''));
        const answer = server.isSilent ? undefined : answerTo(message);
        if (answer !== undefined) waiting.push(encodeMessage(answer));
        return true;
      },
      receive() {
        const payload = waiting.shift();
        return payload && { from: { mac: SERVER_MAC, address: SERVER, port: SERVER_PORT }, payload };
      },
      close() {
        server.open -= 1;
      },
    };
  };
  const forget = () => {
    leases.clear();
  };
  return Object.assign(server, { tap, forget });
}

function sentence({ options, ciaddr }: DhcpMessage): string {
  const type = options.get(OPTION.messageType)?.[0];
  const [word = ''] = Object.entries(TYPE).find(([, number]) => number === type) ?? [];
  const asked = options.get(OPTION.requestedAddress);
  const address = asked === undefined ? ciaddr : ip([...asked].join('.'));
  return address === UNSPECIFIED ? word : `${word} ${address}`;
}
