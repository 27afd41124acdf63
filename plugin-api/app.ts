/** The plugin that one socket serves: a network driver, the IPAM driver, or both. */
import express from 'express';
import type { Cnm } from '../cnm/cnm.ts';
import type { Driver } from '../cnm/driver.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { callRouter, refused, unknownCall } from './call.ts';
import type { Edge } from './call.ts';
import { ipamDriverRouter } from './ipam-driver.ts';
import { networkDriverRouter } from './network-driver.ts';

export interface PluginParts extends Edge {
  readonly cnm: Cnm;
  readonly driver?: Driver;
  readonly ipam?: Ipam;
}

export function pluginApp(parts: PluginParts): express.Express {
  const app = express();
  // Nobody caches or queries here; each of these would cost time on every call.
  app.disable('x-powered-by').disable('etag').disable('query parser');
  const families: string[] = [];
  if (parts.driver !== undefined) {
    families.push('NetworkDriver');
    app.use(networkDriverRouter(parts.cnm, parts.driver, parts));
  }
  if (parts.ipam !== undefined) {
    families.push('IpamDriver');
    app.use(ipamDriverRouter(parts.ipam, parts));
  }
  app.use(handshake(families, parts));
  app.use(unknownCall);
  app.use(refused);
  return app;
}

/** For plugins found through a socket; of a managed plugin the Engine reads `interface.types` in config.json instead. */
function handshake(families: readonly string[], edge: Edge): express.Router {
  const answer = (): object => {
    edge.onEngineStart?.();
    return { Implements: families };
  };
  return callRouter({ 'Plugin.Activate': { kind: 'greeting', answer } }, edge);
}
