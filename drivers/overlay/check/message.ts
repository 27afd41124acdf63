/** What hosts say to each other when one tests a network: a magic word, JSON, and zeros up to the size that is tested. Pure. */
import { z } from 'zod';
import { type Ip, parseIp } from '../../../address/ip.ts';

const MAGIC = Buffer.from('cnm-check/1 ');
/** Beyond that nothing is read: a host may be sent anything. */
const JSON_LIMIT = 8192;
export const MESSAGE_MOST = MAGIC.length + JSON_LIMIT;

/** By which way: an ICMP echo request beside the tunnel; through it; through it as TCP goes, the checksum left to a device. */
const WAYS = ['icmp', 'tunnel', 'offload'] as const;
export type Way = (typeof WAYS)[number];

const address = z
  .string()
  .max(45)
  .transform((text, context): Ip => {
    const parsed = parseIp(text);
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: 'custom', message: 'no address' });
    return z.NEVER;
  });
const whole = (limit: number) => z.number().int().min(0).max(limit);

const ask = z.object({
  say: z.literal('ask'),
  /** Of the whole test, and of this question in it. */
  id: z.string().max(32),
  question: whole(9999),
  /** Whose tunnel the answer goes to. */
  from: address,
  vni: whole(0xffffff),
  port: whole(65_535),
  way: z.enum(WAYS),
  /** The ways by which it is to be answered. */
  by: z.array(z.enum(WAYS)).max(3),
  /** The length that an answer through the tunnel has, as an IP packet inside it; 0: whatever it needs. */
  size: whole(65_535),
  /** Wants the list of endpoints. */
  entries: z.boolean().optional(),
});

/** What a host says of its side of a tunnel. */
const side = z.object({
  /** It has endpoints there, and so a tunnel. */
  present: z.boolean(),
  /** Whether it has the asker in its list. */
  listed: z.boolean(),
  mtu: whole(65_535).optional(),
  pools: z.array(z.string().max(50)).max(8),
  ranges: z.array(z.string().max(50)).max(8),
  encrypted: z.boolean(),
  keys: z
    .object({
      lasts: whole(Number.MAX_SAFE_INTEGER),
      period: whole(Number.MAX_SAFE_INTEGER),
      prints: z.array(z.string().max(16)).max(4),
    })
    .optional(),
});

const answer = z.object({
  say: z.literal('answer'),
  id: z.string().max(32),
  question: whole(9999),
  from: address,
  /** How the question came, and how this goes. */
  heard: z.enum(WAYS),
  way: z.enum(WAYS),
  /** Milliseconds since 1970. */
  clock: z.number(),
  side: side.optional(),
  /** Other tunnels that it shares with the asker, as `VNI/port`. */
  others: z.array(z.string().max(16)).max(16).optional(),
  /** Why an answer by another way could not be sent: the errno. */
  failed: z.string().max(20).optional(),
  /** Addresses of its endpoints, with their MACs, as many as fit. */
  entries: z
    .array(z.tuple([z.string().max(45), z.string().max(17)]))
    .max(256)
    .optional(),
});

export type Ask = z.infer<typeof ask>;
export type Side = z.infer<typeof side>;
export type Answer = z.infer<typeof answer>;
export type Message = Ask | Answer;

const message = z.discriminatedUnion('say', [ask, answer]);

/** `length`: bytes, at least; zeros fill it. */
export function encodeMessage(what: Message, length = 0): Buffer {
  const text = Buffer.concat([MAGIC, Buffer.from(JSON.stringify(what))]);
  return text.length >= length ? text : Buffer.concat([text, Buffer.alloc(length - text.length)]);
}

/** Undefined: something else, or nothing that we know. */
export function decodeMessage(bytes: Buffer): Message | undefined {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const end = bytes.indexOf(0);
  const text = bytes.subarray(MAGIC.length, end < 0 ? bytes.length : end);
  if (text.length > JSON_LIMIT) return undefined;
  try {
    return message.safeParse(JSON.parse(text.toString())).data;
  } catch {
    return undefined;
  }
}
