/**
 * The fields of Docker's messages, each with one sentence for what it must be. A field that is wrong names itself, shows
 * what was sent and says what would be right; `decode` turns that into one CnmError.
 */
import { familyOf, parseIp } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { isUnicast, parseMac } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import { familyOfPrefix, parsePrefix } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { z } from 'zod';
import { CnmError } from '../cnm/errors.ts';

/** How much of a wrong value an error repeats: enough to recognise it, never a whole hostile body. */
const SHOWN = 64;
const ISSUES_SHOWN = 3;

/** Longest text that any field takes. Sandbox keys are paths (PATH_MAX); ids, names and options are far shorter. */
const TEXT_MAX = 4096;

/** A value as an error repeats it: quoted and cut. Never descends, so that depth cannot hurt. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(value.length > SHOWN ? `${value.slice(0, SHOWN)}…` : value);
  }
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

function refuse(context: z.core.$RefinementCtx, value: unknown, what: string): never {
  const message = value === undefined ? `is missing: it must be ${what}` : `${show(value)} is not ${what}`;
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
}

/** A field that must be there. `parse` answers undefined for what is wrong. */
export function required<T>(what: string, parse: (value: unknown) => T | undefined) {
  return z
    .unknown()
    .optional()
    .transform((value, context): T => parse(value) ?? refuse(context, value, what));
}

/** A field that Docker leaves out, or sends as null or "", when it has nothing to say (all three mean the same to Go). */
export function optional<T>(what: string, parse: (value: unknown) => T | undefined) {
  return z
    .unknown()
    .optional()
    .transform((value, context): T | undefined =>
      value === undefined || value === null || value === ''
        ? undefined
        : (parse(value) ?? refuse(context, value, what)),
    );
}

/** A field that counts as `fallback` when Docker leaves it out or sends null: Go's null slices and maps. */
export function orElse<T extends z.ZodType>(fallback: () => unknown, schema: T) {
  return z.preprocess((value) => value ?? fallback(), schema);
}

export function object<T extends z.core.$ZodLooseShape>(shape: T) {
  return z.object(shape, { error: (issue) => `${show(issue.input)} is not a JSON object` });
}

export function list<T extends z.ZodType>(item: T) {
  return orElse(() => [], z.array(item, { error: (issue) => `${show(issue.input)} is not a list` }));
}

export const parseText = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' && value.length <= TEXT_MAX ? value : undefined;

const texts =
  <T>(parse: (text: string) => T | undefined) =>
  (value: unknown): T | undefined =>
    typeof value === 'string' && value.length <= TEXT_MAX ? parse(value) : undefined;

const parseFlag = (value: unknown): boolean | undefined => (typeof value === 'boolean' ? value : undefined);

const within =
  (low: number, high: number) =>
  (value: unknown): number | undefined =>
    typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high ? value : undefined;

const matching = (form: RegExp) => texts((text) => (form.test(text) ? text : undefined));

/** `stringid.GenerateRandomID` gives 64 hex digits; swarmkit's `identity.NewID` 25 digits of base 36. */
const NETWORK_ID = /^(?:[0-9a-f]{64}|[0-9a-z]{25})$/;
const ENDPOINT_ID = /^[0-9a-f]{64}$/;

export const networkId = required(
  'a network id (64 hexadecimal digits, or the 25 of base 36 of a swarm network)',
  matching(NETWORK_ID),
);
export const endpointId = required('an endpoint id (64 hexadecimal digits)', matching(ENDPOINT_ID));

const EXAMPLES = { 4: '10.0.0.2', 6: 'fd00::2' } as const;
type Family = 4 | 6;

const ofFamily = (family: Family) => (text: string) => {
  const parsed = parseIp(text);
  return parsed !== undefined && familyOf(parsed) === family ? parsed : undefined;
};

const prefixOfFamily = (family: Family) => (text: string) => {
  const parsed = parsePrefix(text);
  return parsed !== undefined && familyOfPrefix(parsed) === family ? parsed : undefined;
};

/** An interface's address, as Docker writes it. */
export const interfaceAddress = (family: Family) =>
  optional(
    `an IPv${family} address with its prefix length (like ${EXAMPLES[family]}/${family === 4 ? 24 : 64})`,
    texts(prefixOfFamily(family)),
  );

export const pool = (family: Family) =>
  required(
    `an IPv${family} subnet (like ${family === 4 ? '10.0.0.0/24' : 'fd00::/64'})`,
    texts(prefixOfFamily(family)),
  );

/** Gateways and auxiliary addresses: Docker sends a prefix length with them, its documents (remote.md) show none. */
const parseHost = (family: Family) =>
  texts((text): Ip | Prefix | undefined => prefixOfFamily(family)(text) ?? ofFamily(family)(text));

const hostWhat = (family: Family) => `an IPv${family} address (like ${EXAMPLES[family]}/24)`;

export const optionalHost = (family: Family) => optional(hostWhat(family), parseHost(family));
export const requiredHost = (family: Family) => required(hostWhat(family), parseHost(family));

export const optionalPrefix = optional<Prefix>(
  'a subnet (like 10.0.0.0/24 or fd00::/64)',
  texts(parsePrefix),
);
const ADDRESS = 'an IP address (like 10.0.0.2 or fd00::2)';
export const requiredIp = required<Ip>(ADDRESS, texts(parseIp));
export const optionalIp = optional<Ip>(ADDRESS, texts(parseIp));
/** What the kernel takes for an interface (is_valid_ether_addr): neither a group's address nor all zero. */
const parseInterfaceMac = texts((text): Mac | undefined => {
  const mac = parseMac(text);
  return mac !== undefined && isUnicast(mac) && mac !== '00:00:00:00:00:00' ? mac : undefined;
});
export const optionalMac = optional(
  'a MAC address that an interface can have (unicast, like 02:42:0a:00:00:02)',
  parseInterfaceMac,
);
export const optionalFlag = optional('true or false', parseFlag);
export const requiredText = (what: string) => required(`${what} (at most ${TEXT_MAX} characters)`, parseText);
export const optionalText = (what: string) => optional(`${what} (at most ${TEXT_MAX} characters)`, parseText);
export const port = required('a port number (0 to 65535)', within(0, 65535));
export const optionalPort = optional('a port number (0 to 65535)', within(0, 65535));

/** The protocols that Docker publishes, by their IANA numbers. */
const PROTOCOLS: readonly unknown[] = [1, 6, 17, 132];
export const protocol = required('a protocol number: 1 (icmp), 6 (tcp), 17 (udp) or 132 (sctp)', (value) =>
  typeof value === 'number' && PROTOCOLS.includes(value) ? value : undefined,
);

/**
 * A map from text to `value`. `__proto__` is no name for anything of Docker's, and is refused because code further on
 * that assigns by name would set a prototype with it.
 */
export function map<T extends z.ZodType>(value: T) {
  return orElse(
    () => ({}),
    z
      .unknown()
      .transform((input, context) => {
        if (typeof input !== 'object' || input === null || Array.isArray(input)) {
          return refuse(context, input, 'a JSON object');
        }
        if (Object.hasOwn(input, '__proto__')) {
          context.addIssue({ code: 'custom', message: '"__proto__" cannot be the name of an option' });
          return z.NEVER;
        }
        return input as Record<string, unknown>;
      })
      .pipe(z.record(z.string(), value)),
  );
}

/** What `-o key=value` and `--ipam-opt key=value` become: every value is text, also "true" and "1500". */
export const texted = map(
  required(
    'a string, as every option is',
    texts((text) => text),
  ),
);

/** `Options["com.docker.network.portmap"][0].HostIP` */
function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      const name = String(part);
      if (!/^\w{1,64}$/.test(name)) return `[${show(name)}]`;
      return index === 0 ? name : `.${name}`;
    })
    .join('');
}

/** @throws CnmError `request-invalid`, with the first few things that are wrong. */
export function decode<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, ISSUES_SHOWN).map((issue) => {
    const path = issue.path.length === 0 ? 'The request' : pathText(issue.path);
    return `${path}: ${issue.message}`;
  });
  throw new CnmError('request-invalid', issues.join('; '));
}
