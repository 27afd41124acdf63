/** Through whom a host makes published networks: its Docker Engine, and its own daemon. */
import type { NetworkRecord } from '../model.ts';
import type { NetworkDescription } from './record.ts';

/** A network of Docker's. */
export interface EngineDescription {
  readonly id: string;
  readonly network: NetworkDescription;
  /** It was made because it is, or was, published. */
  readonly made: boolean;
  /** A swarm makes it on its nodes. */
  readonly swarm: boolean;
}

/** Never called while a call of Docker's is being answered. */
export interface EngineDoor {
  /** Its networks; undefined: no Engine answers. Whether it can make networks without IPv4. */
  networks(): Promise<
    { readonly networks: readonly EngineDescription[]; readonly withoutIpv4: boolean } | undefined
  >;
  /** Whether this host has an Engine, answering or not: its socket is there, or it runs us. */
  isInstalled(): Promise<boolean>;
  /** Names of containers on a network, those that do not run too. @throws EngineSilence */
  containers(network: { readonly id: string; readonly name: string }): Promise<readonly string[]>;
  /** @throws EngineRefusal with the Engine's own words, or EngineSilence. */
  create(network: NetworkDescription): Promise<void>;
  /** One that is not there is success. @throws as create */
  remove(id: string): Promise<void>;
  /** Nothing is waited for any more: what is under way ends with EngineSilence. */
  close(): void;
}

/** What the Engine said against it. */
export class EngineRefusal extends Error {
  override readonly name = 'EngineRefusal';
}

/** The Engine did not answer; what it was asked for it may have done, or yet do. */
export class EngineSilence extends Error {
  override readonly name = 'EngineSilence';
}

/** Standalone networks. All throw CnmError. */
export interface StandaloneDoor {
  describe(network: NetworkRecord): NetworkDescription;
  create(network: NetworkDescription, id: string): Promise<unknown>;
  remove(network: NetworkRecord): Promise<void>;
}
