/** The ports of a fake host: who holds them, with the kernel's rule of which addresses are in each other's way. */
import { familyOf, isAny } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { KernelError } from './kernel.ts';
import { inUse } from './port-holder.ts';
import { portName, portNumbers, portsText } from './ports.ts';
import type { Ports } from './ports.ts';

/** Whose port it is: ours, or a process's of that name. */
type Holder = { readonly process?: string };

export class FakePorts {
  /** By protocol, family and number: the addresses on which it is held. */
  readonly #held = new Map<string, Map<Ip, Holder>>();

  /** Another process takes them. */
  occupy(ports: Ports, process: string): void {
    for (const port of portNumbers(ports)) this.#at(ports, port).set(ports.address, { process });
  }

  /** Returns the numbers that we did not hold before. @throws KernelError EADDRINUSE; then nothing has changed. */
  hold(ports: Ports): readonly number[] {
    const wanted = portNumbers(ports).filter((port) => !isOurs(this.#at(ports, port).get(ports.address)));
    for (const port of wanted) {
      const rival = [...this.#at(ports, port)].find(([address]) => collide(address, ports.address));
      if (rival === undefined) continue;
      const one = { ...ports, port, portEnd: port };
      throw new KernelError(`hold ${portsText(one)}`, 'EADDRINUSE', inUse(one, rival[1].process ?? 'cnm'));
    }
    for (const port of wanted) this.#at(ports, port).set(ports.address, {});
    return wanted;
  }

  release(ports: Ports, numbers: readonly number[] = portNumbers(ports)): void {
    for (const port of numbers) {
      const there = this.#at(ports, port);
      if (isOurs(there.get(ports.address))) there.delete(ports.address);
    }
  }

  /** As in Facts. */
  ours(): ReadonlySet<string> {
    return new Set(
      [...this.#held].flatMap(([place, there]) => {
        const [proto = '', , port = ''] = place.split(' ');
        return [...there].flatMap(([address, holder]) =>
          isOurs(holder) ? [portName({ proto: proto as Ports['proto'], address }, Number(port))] : [],
        );
      }),
    );
  }

  #at({ proto, address }: Ports, port: number): Map<Ip, Holder> {
    const place = `${proto} ${familyOf(address)} ${port}`;
    const there = this.#held.get(place) ?? new Map<Ip, Holder>();
    this.#held.set(place, there);
    return there;
  }
}

function isOurs(holder: Holder | undefined): boolean {
  return holder !== undefined && holder.process === undefined;
}

/** inet_rcv_saddr_equal(): the same address, or one of them is every address. */
function collide(a: Ip, b: Ip): boolean {
  return a === b || isAny(a) || isAny(b);
}
