/** Where this host's network namespaces are: files by which they can be looked into. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Configuration } from './configuration.ts';

/** Of containers, in dockerd's exec-root beside its socket, and of our own sandboxes. */
export function namespacesOf({ dockerSocket, runDir }: Configuration): readonly string[] {
  return [join(dirname(dockerSocket), 'docker/netns'), join(runDir, 'netns')].flatMap(filesIn);
}

/** None when there is no such folder. */
function filesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).map((name) => join(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
