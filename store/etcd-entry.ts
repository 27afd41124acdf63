/** Keys and values as etcd has them. Pure. */
import type { IKeyValue, IResponseHeader } from 'etcd3';
import type { ClusterEntry } from './cluster.ts';

export function keyBytes(root: string, key: string): Buffer {
  return Buffer.from(root + key);
}

/** The first key behind all those that begin with the prefix. No text ends in the byte 0xff, so that adding 1 is enough. */
export function endOf(root: string, prefix: string): Buffer {
  const end = keyBytes(root, prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}

export function entryOf(root: string, { key, value, mod_revision, lease }: IKeyValue): ClusterEntry {
  return {
    key: key.toString().slice(root.length),
    value: parse(value),
    revision: Number(mod_revision),
    ...(lease !== '0' && { lease }),
  };
}

/** Of the store as a whole, when it answered. */
export function revisionOf({ revision }: IResponseHeader): number {
  return Number(revision);
}

/** What is not JSON was written by somebody else: undefined, which every reader takes for a record that it cannot read. */
function parse(value: Buffer): unknown {
  try {
    return JSON.parse(value.toString());
  } catch {
    return undefined;
  }
}
