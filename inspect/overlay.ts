/** The overlay driver's part of the admin API. */
import express from 'express';
import type { NetworkRecord } from '../cnm/model.ts';
import { CnmError } from '../cnm/errors.ts';
import type { OverlayCheckView, RotationView } from './views.ts';

/** What the composition root gives: the driver's own doing. */
export interface OverlayService {
  check(network: NetworkRecord): Promise<OverlayCheckView>;
  rotate(): Promise<RotationView>;
  /** When the next keys come by themselves; undefined: there are none. */
  until(): string | undefined;
}

export interface OverlayRouteParts {
  readonly overlay: OverlayService | undefined;
  readonly findNetwork: (ref: string) => Promise<NetworkRecord>;
}

export function overlayRoutes({ overlay, findNetwork }: OverlayRouteParts): express.Router {
  return express
    .Router()
    .get('/overlays/:ref/check', async (request, response) => {
      response.json(await served(overlay).check(await findNetwork(request.params.ref)));
    })
    .post('/overlay/rotate', async (_request, response) => {
      response.json(await served(overlay).rotate());
    });
}

function served(overlay: OverlayService | undefined): OverlayService {
  if (overlay === undefined) throw new CnmError('unavailable', 'This daemon does not serve cnm-overlay');
  return overlay;
}
