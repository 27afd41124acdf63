/**
 * Networks that are to be on every host of the cluster: a record for each, and what each host says became of it there, with its lease.
 * drivers/overlay/README.md has them as a table. Pure.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';

/** All of them, and what hosts say of them. */
export const PUBLISHED = 'overlay/published/';

/** On networks of Docker's that were made because they are published. */
export const PUBLISHED_LABEL = 'cnm.published';

export function publishedKey(name: string): string {
  return PUBLISHED + encodeURIComponent(name);
}

export function reportKey(name: string, host: string): string {
  return `${publishedKey(name)}/${host}`;
}

/** Undefined: not a key of these. No host: the network's own record. */
export function readKey(key: string): { readonly name: string; readonly host?: string } | undefined {
  const [name = '', host, ...more] = key.slice(PUBLISHED.length).split('/');
  if (!key.startsWith(PUBLISHED) || name === '' || more.length > 0) return undefined;
  try {
    return { name: decodeURIComponent(name), ...(host !== undefined && { host }) };
  } catch {
    return undefined;
  }
}

/** Of a standalone network that was made because it is published: so it is known again, whatever was lost meanwhile. */
export function publishedId(name: string): string {
  return createHash('sha256').update(`published ${name}`).digest('hex');
}

const texts = z.record(z.string(), z.string()).readonly();

const subnet = z
  .object({
    subnet: z.string(),
    range: z.string().optional(),
    gateway: z.string().optional(),
    aux: texts,
  })
  .readonly();

const described = z.object({
  name: z.string().min(1),
  /** Through whom hosts make it: Docker, where they have it, or their own cnmd. */
  owner: z.enum(['docker', 'cnm']),
  /** `Agreement.name`, by which hosts know it for the same; absent: its options list its hosts. */
  identity: z.string().optional(),
  /** As Docker calls it: a managed plugin has a name that a person chose, and a tag. */
  driver: z.string(),
  /** As we call it; absent: it is not one of ours. */
  kind: z.string().optional(),
  internal: z.boolean(),
  attachable: z.boolean(),
  ipv4: z.boolean(),
  ipv6: z.boolean(),
  options: texts,
  labels: texts,
  ipam: z.object({ driver: z.string(), options: texts, subnets: z.array(subnet).readonly() }).readonly(),
});

const published = described.extend({
  /** A withdrawn one stays, so that hosts which are away now hear of it. */
  state: z.enum(['published', 'withdrawn']),
  /** Name of the host where it was last said. */
  by: z.string(),
});

const report = z.object({
  /** Of the host, for people. */
  host: z.string(),
  /** Of the record that it is about. */
  revision: z.number(),
  /**
   * Of a published one: `ok` made because of that, `exists` there already, `refused` (`message` says why), `waiting` until its Docker
   * Engine answers, `no-docker` not to be had without an Engine, and there is none. Of a withdrawn one: `removed` or never there, `own` made by somebody else and left, `kept` in use.
   */
  outcome: z.enum(['ok', 'exists', 'refused', 'waiting', 'no-docker', 'removed', 'own', 'kept']),
  message: z.string().optional(),
});

export type PublishedSubnet = z.infer<typeof subnet>;
/** A network as it stands on one host, in what is to be the same on all. */
export type NetworkDescription = Readonly<z.infer<typeof described>>;
export type PublishedNetwork = Readonly<z.infer<typeof published>>;
export type Report = Readonly<z.infer<typeof report>>;

/** Undefined: not written by us. */
export function decodePublished(value: unknown): PublishedNetwork | undefined {
  return published.safeParse(value).data;
}

export function decodeReport(value: unknown): Report | undefined {
  return report.safeParse(value).data;
}

/** Without what is not there: two that say the same are equal. */
export function descriptionOf(network: NetworkDescription): NetworkDescription {
  return described.parse(JSON.parse(JSON.stringify(network)));
}
