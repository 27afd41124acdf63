/** One daemon for each network namespace: each would take the other's links for orphans and remove them. */
import { createServer, type Server } from 'node:net';

/**
 * A name in the abstract namespace of unix sockets: it belongs to the network namespace, so that a service and a managed
 * plugin (which shares the host's) see each other's, and the kernel drops it with its process (unix(7)).
 */
const NAME = '\0cnmd';

/**
 * Holds the claim until `release` or the end of the process, kill -9 included.
 * @throws Error when another daemon looks after this namespace.
 */
export async function claimNetworkNamespace(): Promise<{ release(): Promise<void> }> {
  const server = createServer((socket) => socket.destroy());
  try {
    await listening(server);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
    throw new Error(
      'Another cnmd looks after this network namespace, as a service or as a managed plugin, and two would remove ' +
        "each other's links. Stop that one first: ss -xlp src @cnmd shows its process, docker plugin ls the plugins.",
      { cause: error },
    );
  }
  return {
    release: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
      }),
  };
}

function listening(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(NAME, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
