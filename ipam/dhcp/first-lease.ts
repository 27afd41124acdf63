/** A container's first address: asked for until it is had, or until patience ends. */
import { CnmError, messageOf } from '../../cnm/errors.ts';
import type { Lease } from './lease.ts';
import { Session, type SessionEvent } from './session.ts';
import type { Wires } from './wires.ts';
import type { Identity } from './words.ts';

export interface FirstLeaseParts {
  readonly wires: Wires;
  readonly wire: string;
  readonly identity: Identity;
  /** The one that it had before: asked for first. */
  readonly lease?: Lease;
  /** Milliseconds. */
  readonly patience: number;
  /** Has, while it lasts, the way to end it. */
  readonly waits: Set<(error: CnmError) => void>;
  /** What comes after the address is had. */
  readonly on: (event: SessionEvent) => void;
}

/** @throws CnmError `lease-unanswered`, `kernel`, or what it is ended with. */
export function firstLease({
  wires,
  wire,
  identity,
  lease,
  patience,
  waits,
  on,
}: FirstLeaseParts): Promise<{ readonly session: Session; readonly lease: Lease }> {
  return new Promise((resolve, reject) => {
    let refusal: string | undefined;
    let isHad = false;
    const end = (error: CnmError) => {
      clearTimeout(timer);
      waits.delete(end);
      session.close();
      reject(error);
    };
    waits.add(end);
    const hear = (event: SessionEvent) => {
      if (isHad) on(event);
      else if (event.do === 'bound') {
        isHad = true;
        clearTimeout(timer);
        waits.delete(end);
        resolve({ session, lease: event.lease });
      } else if (event.do === 'refused') refusal = event.server ?? 'A DHCP server';
      else if (event.do === 'unsent')
        end(new CnmError('kernel', `No DHCP server can be asked on ${wire}: ${messageOf(event.error)}`));
    };
    const session = new Session({ wires, wire, on: hear }, identity, lease);
    const timer = setTimeout(() => {
      end(unanswered(wire, patience, refusal, session.client.offer?.server));
    }, patience);
  });
}

function unanswered(
  wire: string,
  patience: number,
  refusal: string | undefined,
  offering: string | undefined,
): CnmError {
  const within = `within ${Math.round(patience / 100) / 10} s`;
  const why =
    refusal !== undefined
      ? `DHCP server ${refusal} on ${wire} offers an address and refuses it`
      : offering !== undefined
        ? `DHCP server ${offering} on ${wire} offered an address and did not give it ${within}`
        : `No DHCP server answered on ${wire} ${within}; see with: tcpdump -ni ${wire} port 67`;
  return new CnmError('lease-unanswered', why);
}
