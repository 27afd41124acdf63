/**
 * The options of an endpoint (`docker run --network name=n,driver-opt=k=v`, `docker network connect --driver-opt k=v`). Given to the
 * network instead (`-o k=v`) they hold for each of its endpoints that does not say otherwise.
 */
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec, NetworkSpec, StaticRoute } from '../../cnm/model.ts';
import type { QdiscSet } from '../../kernel/step.ts';
import { parseRate, parseSize } from './rates.ts';
import { networkRoutes, staticRoutes } from '../../cnm/static-routes.ts';
import { interfaceNameValue, invalidValue, quote } from '../../cnm/option-values.ts';

export type Limit = Pick<QdiscSet, 'rate' | 'burst' | 'limit'>;

export interface EndpointOptions {
  readonly routes: readonly StaticRoute[];
  /** Of what goes to the container. */
  readonly limitIn: Limit | undefined;
  /** Of what comes from it. */
  readonly limitOut: Limit | undefined;
  /** What the interface's name begins with, where the endpoint has a wish of its own. */
  readonly ifacePrefix: string | undefined;
}

const ROUTES = 'cnm.routes';
const RATE = { in: 'cnm.rate-in', out: 'cnm.rate-out' } as const;
const BURST = { in: 'cnm.burst-in', out: 'cnm.burst-out' } as const;
/** Docker's own name, acted on by its own drivers alone: a plugin may only say what the name begins with. */
const IFNAME = 'com.docker.network.endpoint.ifname';

/** Those that a network may have, too, as defaults. */
export const ENDPOINT_DEFAULTS: readonly string[] = [ROUTES, RATE.in, BURST.in, RATE.out, BURST.out];

type Options = Readonly<Record<string, string>>;

/** Of the network's own defaults. @throws CnmError `option-invalid`. */
export function assertDefaults(network: NetworkSpec, mtu: number | undefined): void {
  networkRoutes(ROUTES, network.options[ROUTES], network);
  for (const way of ['in', 'out'] as const) limitOf(way, network.options, network.options, mtu);
}

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function endpointOptions(
  network: NetworkSpec,
  endpoint: EndpointSpec,
  mtu: number | undefined,
): EndpointOptions {
  const own = endpoint.options;
  for (const name of Object.keys(own)) assertKnown(name);
  const all = { ...network.options, ...own };
  return {
    routes: Object.hasOwn(own, ROUTES)
      ? staticRoutes(ROUTES, own[ROUTES], network, endpoint)
      : networkRoutes(ROUTES, network.options[ROUTES], network).filter((route) => isServed(route, endpoint)),
    limitIn: limitOf('in', all, own, mtu),
    limitOut: limitOf('out', all, own, mtu),
    ifacePrefix: own[IFNAME] === undefined ? undefined : interfaceNameValue(IFNAME, own[IFNAME]),
  };
}

function assertKnown(name: string): void {
  if (name === IFNAME || ENDPOINT_DEFAULTS.includes(name)) return;
  throw new CnmError(
    'option-invalid',
    `cnm-bridge does not know the option ${quote(name)} of an endpoint; it knows ${[...ENDPOINT_DEFAULTS, IFNAME].join(', ')}`,
  );
}

/** A network's route of a family that the endpoint has no address of leads it nowhere. */
function isServed({ destination }: StaticRoute, endpoint: EndpointSpec): boolean {
  return (destination.includes(':') ? endpoint.addressV6 : endpoint.address) !== undefined;
}

/** 1 kB/s: at the default burst the kernel's 32 bits of ticks hold the bucket. 400 Gbit/s: its 32 bits of bytes hold the queue. */
const LEAST_RATE = 1000;
const MOST_RATE = 50e9;
/** A bucket that takes longer to fill is no limit, and does not fit the kernel's ticks. */
const LONGEST_BURST_S = 60;
const MOST_BURST = 2 ** 30;
/** By default what the rate passes in 20 ms, and no less than makes up for a timer that is late. */
const DEFAULT_BURST_S = 0.02;
const DEFAULT_BURST_LEAST = 32 * 1024;
/** What waits at most, beside the burst: as long as tc's own examples let it. */
const WAIT_S = 0.05;
/** Ethernet header and one VLAN tag. A packet that never fits the bucket would never pass (tbf_enqueue()). */
const FRAME_OVERHEAD = 18;

function limitOf(way: 'in' | 'out', all: Options, own: Options, mtu: number | undefined): Limit | undefined {
  const rate = rateValue(RATE[way], all[RATE[way]]);
  if (rate === undefined) {
    if ((own[BURST[way]] ?? '') === '') return undefined;
    throw new CnmError('option-invalid', `${BURST[way]} needs a rate: add ${RATE[way]}, for example 100mbit`);
  }
  const burst = burstValue(BURST[way], all[BURST[way]], rate, mtu ?? 1500);
  return { rate, burst, limit: burst + Math.ceil(rate * WAIT_S) };
}

function rateValue(name: string, text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const rate = parseRate(text);
  if (rate !== undefined && rate >= LEAST_RATE && rate <= MOST_RATE) return rate;
  throw invalidValue(
    name,
    text,
    'a rate as tc(8) reads it, from 8kbit to 400gbit, for example 100mbit (bits per second) or 12mbps (bytes per second)',
  );
}

function burstValue(name: string, text: string | undefined, rate: number, mtu: number): number {
  if (text === undefined || text === '') return defaultBurst(rate, mtu);
  const burst = parseSize(text);
  const least = mtu + FRAME_OVERHEAD;
  const most = Math.min(MOST_BURST, rate * LONGEST_BURST_S);
  if (burst !== undefined && burst >= least && burst <= most) return burst;
  throw invalidValue(
    name,
    text,
    `a size as tc(8) reads it, for example 256kb: from one packet (${least} bytes) to what the rate passes in a minute (${most} bytes)`,
  );
}

function defaultBurst(rate: number, mtu: number): number {
  return Math.ceil(Math.max(rate * DEFAULT_BURST_S, DEFAULT_BURST_LEAST, mtu + FRAME_OVERHEAD));
}
