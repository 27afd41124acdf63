/** Networks on all hosts of a cluster: their part of the admin API, and standalone networks for whoever makes them here. */
import express from 'express';
import { addressOf } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { NetworkRecord, Subnet } from '../cnm/model.ts';
import type { StandaloneDoor } from '../cnm/published/doors.ts';
import type { NetworkDescription, PublishedNetwork, PublishedSubnet } from '../cnm/published/record.ts';
import type { Ipam, PoolView } from '../ipam/ipam.ts';
import { SPACE } from '../ipam/options.ts';
import { decodeWait } from './schema.ts';
import type { Standalone } from './standalone.ts';
import type { HostOutcomeView, NetworkRequest, PublishedView } from './views.ts';

interface PublishedState {
  readonly network: PublishedNetwork;
  readonly hosts: readonly HostOutcomeView[];
}

/** What the composition root gives. All throw CnmError. */
export interface PublishedService {
  /** @param milliseconds for the hosts to say what became of it */
  publish(network: NetworkRecord, milliseconds: number): Promise<PublishedState>;
  withdraw(name: string, milliseconds: number): Promise<PublishedState>;
  all(): readonly PublishedState[];
}

export interface PublishedRouteParts {
  readonly published: PublishedService | undefined;
  readonly findNetwork: (ref: string) => Promise<NetworkRecord>;
}

export function publishedRoutes({ published, findNetwork }: PublishedRouteParts): express.Router {
  return express
    .Router()
    .get('/published', (_request, response) => {
      response.json((published?.all() ?? []).map(viewOf));
    })
    .post('/networks/:ref/publish', async (request, response) => {
      const wait = decodeWait(request.body);
      const service = inCluster(published);
      const network = await findNetwork(request.params.ref);
      response.json(viewOf(await service.publish(network, wait)));
    })
    .post('/published/:name/withdraw', async (request, response) => {
      const wait = decodeWait(request.body);
      response.json(viewOf(await inCluster(published).withdraw(request.params.name, wait)));
    });
}

function inCluster(published: PublishedService | undefined): PublishedService {
  if (published !== undefined) return published;
  throw new CnmError(
    'request-invalid',
    'This host is in no cluster: networks are published where cnmd --cluster etcd://… runs on all hosts',
  );
}

/** Of what there is on this host under a name: what is published, or undefined. */
export function publishedAs(
  name: string | undefined,
  { agreement }: NetworkRecord,
  all: readonly PublishedState[],
): PublishedView | undefined {
  const found = all.find(({ network }) => network.name === name && network.identity === agreement?.name);
  return found && viewOf(found);
}

const DONE: readonly HostOutcomeView['outcome'][] = ['ok', 'exists', 'no-docker', 'removed', 'own'];

function viewOf({ network, hosts }: PublishedState): PublishedView {
  const { name, state, by } = network;
  return { name, state, by, hosts, complete: hosts.every(({ outcome }) => DONE.includes(outcome)) };
}

export function standaloneDoor(standalone: Standalone, ipam: Ipam): StandaloneDoor {
  return {
    describe: (network) => describe(network, ipam.pools()),
    create: (network, id) => standalone.createNetwork(requestFor(network), id),
    remove: (network) => standalone.deleteNetwork(network),
  };
}

function describe(network: NetworkRecord, pools: readonly PoolView[]): NetworkDescription {
  const { id, name = id, driver, agreement, internal, enableIpv4, enableIpv6, options, ipv4, ipv6 } = network;
  const poolOf = (index: number) => pools.find(({ poolId }) => poolId === network.pools?.[index]);
  const first = poolOf(0);
  return {
    ...{ name, owner: 'cnm', driver, kind: driver, internal, options, labels: {} },
    ...(agreement !== undefined && { identity: agreement.name }),
    ...{ attachable: false, ipv4: enableIpv4, ipv6: enableIpv6 },
    ipam: {
      driver: 'cnm-ipam',
      options: { ...first?.options, ...(first !== undefined && { [SPACE]: first.space }) },
      subnets: [...ipv4, ...ipv6].map((subnet, index) => subnetOf(subnet, poolOf(index))),
    },
  };
}

function subnetOf({ pool, gateway, aux }: Subnet, view: PoolView | undefined): PublishedSubnet {
  return {
    subnet: pool,
    ...(view?.subPool !== undefined && { range: view.subPool }),
    ...(gateway !== undefined && { gateway: addressOf(gateway) }),
    aux: Object.fromEntries(Object.entries(aux).map(([key, address]) => [key, addressOf(address)])),
  };
}

function requestFor({ ipam, ...network }: NetworkDescription): NetworkRequest {
  const { name, kind, ipv4, ipv6, internal, options } = network;
  const { subnets } = ipam;
  return {
    ...{ name, driver: kind ?? network.driver, ipv4, ipv6, internal, options },
    subnets: subnets.map(({ subnet }) => subnet),
    gateways: subnets.flatMap(({ gateway }) => gateway ?? []),
    ipRanges: subnets.flatMap(({ range }) => range ?? []),
    auxAddresses: Object.fromEntries(subnets.flatMap(({ aux }) => Object.entries(aux))),
    ipamOptions: ipam.options,
  };
}
