/** The overlay driver's part of the admin API. */
import express from 'express';
import type { NetworkRecord } from '../cnm/model.ts';
import { CnmError } from '../cnm/errors.ts';
import type { OverlayCheckView } from './views.ts';

/** What the composition root gives: the driver's own doing. */
export interface OverlayService {
  check(network: NetworkRecord): Promise<OverlayCheckView>;
}

export interface OverlayRouteParts {
  readonly overlay: OverlayService | undefined;
  readonly findNetwork: (ref: string) => Promise<NetworkRecord>;
}

export function overlayRoutes({ overlay, findNetwork }: OverlayRouteParts): express.Router {
  return express.Router().get('/overlays/:ref/check', async (request, response) => {
    if (overlay === undefined) throw new CnmError('unavailable', 'This daemon does not serve cnm-overlay');
    response.json(await overlay.check(await findNetwork(request.params.ref)));
  });
}
