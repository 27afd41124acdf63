/**
 * Docker kills a plugin whose socket does not answer soon after its start, and gives up on one that refuses. So the sockets
 * listen at once, and requests wait here until the store has been compared with the kernel.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

/**
 * What Docker asks first, answered without state: the handshake and the capabilities. A driver whose GetCapabilities fails
 * stays unregistered until dockerd restarts.
 */
const AT_ONCE = new Set([
  '/Plugin.Activate',
  '/NetworkDriver.GetCapabilities',
  '/IpamDriver.GetCapabilities',
  '/IpamDriver.GetDefaultAddressSpaces',
]);

/** Passes requests on to `handler` once `ready` is resolved; one that has waited `boundMs` is answered with 503. */
export function whenReady(
  handler: RequestListener,
  ready: Promise<unknown>,
  boundMs: number,
): RequestListener {
  let isReady = false;
  const settled = ready.then(
    () => (isReady = true),
    () => false,
  );
  return (request, response) => {
    if (isReady || AT_ONCE.has(request.url ?? '')) handler(request, response);
    else void hold(request, response, handler, settled, boundMs);
  };
}

async function hold(
  request: IncomingMessage,
  response: ServerResponse,
  handler: RequestListener,
  ready: Promise<boolean>,
  boundMs: number,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, boundMs, false);
  });
  const inTime = await Promise.race([ready, bound]);
  clearTimeout(timer);
  if (inTime) handler(request, response);
  else refuse(response);
}

/** Docker reads `Err` of any answer that is not 200, from network and IPAM drivers alike. */
function refuse(response: ServerResponse): void {
  const sentence = 'cnmd is still comparing its records with the kernel; try again in a moment';
  response.writeHead(503, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ Err: sentence, error: { code: 'unavailable', message: sentence } }));
}
