/** Docker's networks as a whole, made and removed over the Engine's API: for networks that are to be on every host of a cluster. */
import { access } from 'node:fs/promises';
import { request } from 'node:http';
import { z } from 'zod';
import { networkOf, parsePrefix } from '../address/prefix.ts';
import {
  type EngineDescription,
  type EngineDoor,
  EngineRefusal,
  EngineSilence,
} from '../cnm/published/doors.ts';
import { descriptionOf, type NetworkDescription, PUBLISHED_LABEL } from '../cnm/published/record.ts';
import { apiBase, type EngineOptions } from './engine-client.ts';

/** Milliseconds: dockerd looks for a plugin that does not answer for 15 s, once for the driver and once for the IPAM. */
const PATIENCE = 60_000;
const REPLY_MAX = 64 * 2 ** 20;
/** First version of the API that knows networks without IPv4 (Engine 28). */
const WITHOUT_IPV4 = [1, 48] as const;

export interface DoorOptions extends EngineOptions {
  /** It runs this daemon as its plugin: it is there, wherever its socket may be. */
  readonly runsUs?: boolean;
}

interface Options extends DoorOptions {
  readonly ended: AbortSignal;
}

export function engineDoor(given: DoorOptions): EngineDoor {
  const ended = new AbortController();
  const options: Options = { ...given, ended: ended.signal };
  return {
    close() {
      ended.abort();
    },
    async networks() {
      try {
        const base = await apiBase(options);
        const listed = networkList.parse(await call(options, 'GET', `${base}/networks`));
        return { networks: listed.map(engineDescription), withoutIpv4: knowsIpv4(base) };
      } catch (error) {
        options.log.debug({ socket: options.socket, err: error }, 'The Docker Engine did not answer');
        return undefined;
      }
    },
    async isInstalled() {
      if (options.runsUs === true) return true;
      return access(options.socket).then(
        () => true,
        () => false,
      );
    },
    async containers({ id, name }) {
      const base = await baseOf(options);
      const filters = encodeURIComponent(JSON.stringify({ network: [id, name] }));
      const path = `${base}/containers/json?all=true&filters=${filters}`;
      const listed = containerList.parse(await call(options, 'GET', path));
      return listed.map(({ Id, Names }) => Names?.[0]?.replace(/^\//, '') ?? Id.slice(0, 12));
    },
    async create(network) {
      const base = await baseOf(options);
      await call(options, 'POST', `${base}/networks/create`, createBody(network, base));
    },
    async remove(id) {
      const base = await baseOf(options);
      await call(options, 'DELETE', `${base}/networks/${encodeURIComponent(id)}`);
    },
  };
}

async function baseOf(options: EngineOptions): Promise<string> {
  try {
    return await apiBase(options);
  } catch (error) {
    throw new EngineSilence(`no Docker Engine answers at ${options.socket}`, { cause: error });
  }
}

function knowsIpv4(base: string): boolean {
  const [major = 0, minor = 0] = base.replace('/v', '').split('.').map(Number);
  return major > WITHOUT_IPV4[0] || (major === WITHOUT_IPV4[0] && minor >= WITHOUT_IPV4[1]);
}

const texts = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});

const networkList = z.array(
  z.object({
    Id: z.string(),
    Name: z.string(),
    Driver: z.string(),
    Scope: z.string().optional(),
    Internal: z.boolean().optional(),
    Attachable: z.boolean().optional(),
    EnableIPv4: z.boolean().optional(),
    EnableIPv6: z.boolean().optional(),
    Options: texts,
    Labels: texts,
    IPAM: z
      .object({
        Driver: z.string().optional(),
        Options: texts,
        Config: z
          .array(
            z.object({
              Subnet: z.string().optional(),
              IPRange: z.string().optional(),
              Gateway: z.string().optional(),
              AuxiliaryAddresses: texts,
            }),
          )
          .nullish(),
      })
      .nullish(),
  }),
);
type Listed = z.infer<typeof networkList>[number];

const containerList = z.array(z.object({ Id: z.string(), Names: z.array(z.string()).nullish() }));

function engineDescription(listed: Listed): EngineDescription {
  const labels = Object.entries(listed.Labels).filter(([name]) => name !== PUBLISHED_LABEL);
  const network = descriptionOf({
    name: listed.Name,
    owner: 'docker',
    driver: listed.Driver,
    internal: listed.Internal ?? false,
    attachable: listed.Attachable ?? false,
    ipv4: listed.EnableIPv4 ?? true,
    ipv6: listed.EnableIPv6 ?? false,
    options: listed.Options,
    labels: Object.fromEntries(labels),
    ipam: {
      driver: listed.IPAM?.Driver ?? 'default',
      options: listed.IPAM?.Options ?? {},
      subnets: (listed.IPAM?.Config ?? []).flatMap(subnetOf),
    },
  });
  const made = PUBLISHED_LABEL in listed.Labels;
  return { id: listed.Id, network, made, swarm: listed.Scope === 'swarm' };
}

/** Engines before 25 list subnets as they were typed, which later ones refuse; and some gateways with a prefix's length. */
function subnetOf(listed: NonNullable<NonNullable<Listed['IPAM']>['Config']>[number]) {
  const pool = parsePrefix(listed.Subnet ?? '');
  if (pool === undefined) return [];
  const range = parsePrefix(listed.IPRange ?? '');
  const gateway = listed.Gateway?.replace(/\/.*/, '');
  return [
    {
      subnet: networkOf(pool),
      ...(range !== undefined && { range: networkOf(range) }),
      ...(gateway !== undefined && gateway !== '' && { gateway }),
      aux: listed.AuxiliaryAddresses,
    },
  ];
}

function createBody(network: NetworkDescription, base: string): object {
  const { name, driver, internal, attachable, ipv4, ipv6, options, labels, ipam } = network;
  return {
    Name: name,
    // Else Engines before 25 make a second one of the same name.
    CheckDuplicate: true,
    Driver: driver,
    Internal: internal,
    Attachable: attachable,
    ...(knowsIpv4(base) && { EnableIPv4: ipv4 }),
    EnableIPv6: ipv6,
    Options: options,
    Labels: labels,
    IPAM: {
      Driver: ipam.driver,
      Options: ipam.options,
      Config: ipam.subnets.map(({ subnet, range, gateway, aux }) => ({
        Subnet: subnet,
        ...(range !== undefined && { IPRange: range }),
        ...(gateway !== undefined && { Gateway: gateway }),
        ...(Object.keys(aux).length > 0 && { AuxiliaryAddresses: aux }),
      })),
    },
  };
}

/** The reply's JSON. @throws EngineRefusal with the Engine's message, or EngineSilence. */
async function call(options: Options, method: string, path: string, body?: object): Promise<unknown> {
  const { status, text } = await exchange(options, method, path, body).catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new EngineSilence(`the Docker Engine at ${options.socket} did not answer: ${why}`, {
      cause: error,
    });
  });
  if (status >= 400 && !(method === 'DELETE' && status === 404)) throw new EngineRefusal(messageOf(text));
  return text.trim() === '' ? undefined : (JSON.parse(text) as unknown);
}

const failure = z.object({ message: z.string() });

function messageOf(text: string): string {
  try {
    return failure.parse(JSON.parse(text)).message;
  } catch {
    return text.slice(0, 500);
  }
}

function exchange(
  { socket, ended, timeout = PATIENCE }: Options,
  method: string,
  path: string,
  body: object | undefined,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.any([ended, AbortSignal.timeout(timeout)]);
    const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const asked = request({ socketPath: socket, method, path, agent: false, headers, signal }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > REPLY_MAX) asked.destroy(new Error(`the reply is over ${REPLY_MAX} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
