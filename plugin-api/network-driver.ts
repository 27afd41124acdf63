/** Docker's NetworkDriver protocol (moby, daemon/libnetwork/docs/remote.md) over the operations of the CNM. */
import type { Router } from 'express';
import type { Cnm } from '../cnm/cnm.ts';
import type { Driver } from '../cnm/driver.ts';
import type { EndpointRecord, EndpointSpec } from '../cnm/model.ts';
import { callRouter } from './call.ts';
import type { Call, Edge } from './call.ts';
import { Refusal } from './refusal.ts';
import * as wire from './wire.ts';

export function networkDriverRouter(cnm: Cnm, driver: Driver, edge: Edge): Router {
  return callRouter(
    {
      ...capabilityCalls(driver, edge),
      ...networkCalls(cnm, driver),
      ...endpointCalls(cnm, driver),
      ...connectivityCalls(cnm),
      ...swarmCalls(cnm, driver, edge),
    },
    edge,
  );
}

/** The only type of discovery that dockerd passes on (discoverapi.NodeDiscovery). */
const NODE = 1;

const change = (answer: Call['answer']): Call => ({ kind: 'change', answer });
const question = (answer: Call['answer']): Call => ({ kind: 'question', answer });

function capabilityCalls(driver: Driver, edge: Edge): Record<string, Call> {
  const capabilities: wire.CapabilitiesReply = {
    Scope: driver.scope,
    ConnectivityScope: driver.connectivityScope,
    GwAllocChecker: true,
  };
  return {
    'NetworkDriver.GetCapabilities': {
      kind: 'greeting',
      answer: () => {
        edge.onEngineStart?.();
        return capabilities;
      },
    },
    'NetworkDriver.GwAllocCheck': question((body): wire.GatewayReply => {
      const skip = driver.gatewaySkip?.(wire.decodeGatewayCheck(body));
      return { SkipIPv4: skip?.[4] ?? false, SkipIPv6: skip?.[6] ?? false };
    }),
  };
}

function networkCalls(cnm: Cnm, driver: Driver): Record<string, Call> {
  return {
    'NetworkDriver.CreateNetwork': change(async (body) => {
      await cnm.createNetwork(wire.decodeNetwork(body, driver.name));
      return {};
    }),
    'NetworkDriver.DeleteNetwork': change(async (body) => {
      await cnm.deleteNetwork(wire.decodeNetworkId(body));
      return {};
    }),
  };
}

function endpointCalls(cnm: Cnm, driver: Driver): Record<string, Call> {
  return {
    'NetworkDriver.CreateEndpoint': change((body) => createEndpoint(cnm, wire.decodeEndpoint(body))),
    'NetworkDriver.EndpointOperInfo': question((body) => {
      const { network, endpoint } = wire.decodeEndpointKey(body);
      const record = cnm.endpoint(network, endpoint);
      return record === undefined ? {} : { Value: operationalInfo(record, driver) };
    }),
    'NetworkDriver.DeleteEndpoint': change(async (body) => {
      const { network, endpoint } = wire.decodeEndpointKey(body);
      await cnm.deleteEndpoint(network, endpoint);
      return {};
    }),
    'NetworkDriver.Join': change(async (body) => {
      const { network, endpoint, sandboxKey } = wire.decodeJoin(body);
      return wire.joinReply(await cnm.join(network, endpoint, sandboxKey));
    }),
    'NetworkDriver.Leave': change(async (body) => {
      const { network, endpoint } = wire.decodeEndpointKey(body);
      await cnm.leave(network, endpoint);
      return {};
    }),
  };
}

async function createEndpoint(cnm: Cnm, spec: EndpointSpec): Promise<wire.CreateEndpointReply> {
  const { mac, address } = await cnm.createEndpoint(spec);
  return {
    Interface: {
      ...(mac !== undefined && spec.mac === undefined && { MacAddress: mac }),
      ...(address !== undefined && spec.address === undefined && { Address: address }),
    },
  };
}

/**
 * From memory alone: dockerd asks for every endpoint of a container around every connect and disconnect, and does nothing
 * with the answer. The names are our own, because dockerd casts what it finds under `com.docker.network.…` to Go types.
 */
function operationalInfo(record: EndpointRecord, driver: Driver): Record<string, unknown> {
  const links = record.plan.flatMap((step) => {
    if (step.do !== 'link.add') return [];
    return step.link.kind === 'veth' ? [step.name, step.link.peer.name] : [step.name];
  });
  return {
    Driver: driver.name,
    State: record.state,
    MacAddress: record.mac,
    Links: links,
    ...(record.attachment === undefined ? {} : { SandboxKey: record.attachment.key }),
  };
}

function connectivityCalls(cnm: Cnm): Record<string, Call> {
  return {
    'NetworkDriver.ProgramExternalConnectivity': change(async (body) => {
      const { network, endpoint, ports } = wire.decodeProgram(body);
      await cnm.programExternalConnectivity(network, endpoint, ports);
      return {};
    }),
    'NetworkDriver.RevokeExternalConnectivity': change(async (body) => {
      const { network, endpoint } = wire.decodeEndpointKey(body);
      await cnm.revokeExternalConnectivity(network, endpoint);
      return {};
    }),
  };
}

/** Docker Swarm's: a manager's allocator, and the nodes that it tells every host of. */
function swarmCalls(cnm: Cnm, driver: Driver, edge: Edge): Record<string, Call> {
  const allocates = driver.scope === 'global' && driver.allocate !== undefined;
  const follows = driver.follow !== undefined;
  return {
    'NetworkDriver.AllocateNetwork': !allocates
      ? notImplemented(driver)
      : change(async (body) => ({
          Options: await cnm.allocateNetwork(wire.decodeAllocation(body, driver.name)),
        })),
    'NetworkDriver.FreeNetwork': !allocates
      ? notImplemented(driver)
      : change(async (body) => {
          await cnm.freeNetwork(wire.decodeNetworkId(body));
          return {};
        }),
    'NetworkDriver.DiscoverNew': change(async (body) => {
      const { type, address, self } = wire.decodeDiscovery(body);
      if (!follows || type !== NODE || address === undefined) return {};
      await cnm.addNode({ address, self });
      // Said of itself when it joins, and when it loads this plugin: the nodes that were there before are not told of.
      if (self) edge.onEngineStart?.();
      return {};
    }),
    'NetworkDriver.DiscoverDelete': change(async (body) => {
      const { type, address } = wire.decodeDiscovery(body);
      if (follows && type === NODE && address !== undefined) await cnm.removeNode(address);
      return {};
    }),
  };
}

/** Swarm's managers ask drivers of global scope only, and this is how a driver says that it has nothing to allocate. */
function notImplemented(driver: Driver): Call {
  return {
    kind: 'greeting',
    answer: () => {
      throw new Refusal(
        404,
        `${driver.name} allocates nothing for a swarm: its scope is ${driver.scope}, every host creates the network itself`,
      );
    },
  };
}
