/** What the views of all objects share. */
import type { Mac } from '../../address/mac.ts';
import type { Prefix } from '../../address/prefix.ts';

/** Something with an id, and a name where one is known. Docker's networks get theirs from the Engine, if it answers. */
export interface Named {
  readonly id: string;
  readonly name?: string;
}

/** A link as the kernel has it now. */
export interface LinkView {
  readonly name: string;
  readonly index: number;
  readonly kind?: string;
  readonly mac?: Mac;
  readonly mtu: number;
  readonly up: boolean;
  readonly carrier: boolean;
  readonly addresses: readonly Prefix[];
}
