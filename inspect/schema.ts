/** Decoding what arrives at the admin socket: `unknown` goes in, requests come out, errors name the field. */
import { z } from 'zod';
import { parseIp } from '../address/ip.ts';
import { CnmError } from '../cnm/errors.ts';
import type { CheckRequest, FindingView, JoinRequest, NetworkRequest, SandboxRequest } from './views.ts';

/** No control characters: a NUL would cut names short in the kernel, an escape sequence would reach a terminal. */

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

const text = z
  .string()
  .max(4096)
  .refine((value) => !CONTROL.test(value), 'must not contain control characters');
const name = text.min(1).max(255);
const texts = z.array(text).max(64).default([]);
const options = z.record(text.min(1), text).default({});

/** As after `-p`; in a body of 256 KiB there is no room for more than some twenty thousand. */
const portSpecs = z.array(text.max(255)).max(20_000);

const network = z.strictObject({
  name,
  driver: name.default('cnm-bridge'),
  subnets: texts,
  gateways: texts,
  ipRanges: texts,
  auxAddresses: options,
  ipv4: z.boolean().default(true),
  ipv6: z.boolean().default(false),
  internal: z.boolean().default(false),
  options,
  ipamOptions: options,
});

const join = z.strictObject({
  network: name,
  ip: text.optional(),
  ip6: text.optional(),
  mac: text.optional(),
  options,
  ports: portSpecs.default([]),
  aliases: z.array(name).max(64).default([]),
});

const publish = z.strictObject({ ports: portSpecs.min(1) });

const sandbox = z.strictObject({ name, dnsSearch: texts, dnsOptions: texts });
const leave = z.strictObject({ network: name });

/** Seconds; a command that waits longer than this is one that hangs. */
const wait = z.strictObject({ wait: z.number().min(0).max(600).default(30) });

/** How long an answer may be waited for, in milliseconds. */
export function decodeWait(body: unknown): number {
  return decode(wait, body ?? {}).wait * 1000;
}

const forget = z.strictObject({ host: z.string() });

const address = text.transform((value, context) => {
  const parsed = parseIp(value);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: 'custom', message: 'must be an IP address' });
  return z.NEVER;
});

const check = z.strictObject({ ask: z.array(address).max(16).default([]) });

export function decodeCheck(body: unknown): CheckRequest {
  return decode(check, body ?? {});
}

/** As `cnm ipam check --json` prints them. */
const findings = z.object({
  findings: z
    .array(
      z.object({
        kind: z.enum(['leak', 'double', 'orphan', 'overlap']),
        poolId: name,
        address: address.optional(),
        name: text.optional(),
        since: text.optional(),
        what: text,
      }),
    )
    .max(100_000),
});

export function decodeFindings(body: unknown): readonly FindingView[] {
  return decode(findings, body).findings.map(({ kind, poolId, what, ...rest }) => ({
    kind,
    poolId,
    what,
    ...(rest.address !== undefined && { address: rest.address }),
    ...(rest.name !== undefined && { name: rest.name }),
    ...(rest.since !== undefined && { since: rest.since }),
  }));
}

export function decodeNetwork(body: unknown): NetworkRequest {
  return decode(network, body);
}

export function decodeJoin(body: unknown): JoinRequest {
  return decode(join, body);
}

export function decodeSandbox(body: unknown): SandboxRequest {
  return decode(sandbox, body);
}

export function decodeLeave(body: unknown): { readonly network: string } {
  return decode(leave, body);
}

/** Of a host of the cluster: its id. */
export function decodeHost(body: unknown): { readonly host: string } {
  return decode(forget, body);
}

export function decodePublish(body: unknown): { readonly ports: readonly string[] } {
  return decode(publish, body);
}

/** @throws CnmError `request-invalid` naming the field. */
export function decode<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new CnmError(
    'request-invalid',
    issue === undefined ? 'The request cannot be decoded' : sentence(issue),
  );
}

function sentence(issue: z.core.$ZodIssue): string {
  const field = issue.path.map(String).join('.');
  return field === ''
    ? `In the request: ${issue.message}`
    : `In the request, field "${field}": ${issue.message}`;
}
