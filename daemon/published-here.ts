/** What this host has of published networks, and the making and removing of them: through its Engine, or as standalone ones. */
import type { Cnm } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import { type Ability, copyOf, decide, type Here, isSame, type Outcome } from '../cnm/published/decide.ts';
import {
  type EngineDescription,
  type EngineDoor,
  EngineRefusal,
  EngineSilence,
  type StandaloneDoor,
} from '../cnm/published/doors.ts';
import { type NetworkDescription, publishedId, type PublishedNetwork } from '../cnm/published/record.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { SPACE } from '../ipam/options.ts';

export interface HereParts {
  readonly cnm: Pick<Cnm, 'drivers' | 'networks' | 'network' | 'endpoints'>;
  readonly ipam: Pick<Ipam, 'globalSpace' | 'cluster'>;
  readonly engine: EngineDoor;
  readonly standalone: StandaloneDoor;
}

/** Removed, made: and once more looked at. */
const STEPS = 4;
const NO_ENGINE = 'no Docker Engine answers here';

export class PublishedHere {
  readonly #parts: HereParts;

  constructor(parts: HereParts) {
    this.#parts = parts;
  }

  /** Brings what this host has to what is published. */
  async settle(network: PublishedNetwork): Promise<Outcome> {
    try {
      for (let step = 0; step < STEPS; step += 1) {
        const { here, ability } = await this.#look(network);
        const decision = decide(network, here, ability);
        if (decision.do === 'nothing') return decision;
        if (decision.do === 'make') await this.#make(network, ability);
        else await this.#remove(decision.id);
      }
      return { outcome: 'refused', message: 'it is made and removed here by others at the same time' };
    } catch (error) {
      if (error instanceof EngineSilence) return { outcome: 'waiting', message: error.message };
      if (error instanceof EngineRefusal || error instanceof CnmError)
        return { outcome: network.state === 'published' ? 'refused' : 'kept', message: error.message };
      throw error;
    }
  }

  /**
   * As it is to be on the other hosts.
   * @throws CnmError `request-invalid` for one that cannot be there; `unavailable` while its Engine does not answer.
   */
  async describe(network: NetworkRecord): Promise<NetworkDescription> {
    const description = await this.#describe(network);
    const sharing = this.#parts.cnm.drivers.find(({ name }) => name === network.driver)?.sharing;
    const title = `Network ${description.name}`;
    if (sharing === undefined)
      throw new CnmError(
        'request-invalid',
        `${title} is of ${network.driver}, whose networks are one host's: networks of cnm-overlay can be published`,
      );
    const own = sharing.ownOptions(network);
    if (own.length > 0)
      throw new CnmError(
        'request-invalid',
        `${title} has ${own.map((option) => `-o ${option}=${network.options[option] ?? ''}`).join(' ')}, which holds on this host alone: create it without, and publish that`,
      );
    return description;
  }

  async #describe(network: NetworkRecord): Promise<NetworkDescription> {
    if (network.origin === 'cnm') return this.#parts.standalone.describe(network);
    const listed = await this.#parts.engine.networks();
    const found = listed?.networks.find(({ id }) => id === network.id);
    if (found === undefined)
      throw new CnmError(
        'unavailable',
        `Network ${network.id.slice(0, 12)} is Docker's, and ${listed === undefined ? NO_ENGINE : 'its Engine does not list it'}: try again when it does`,
      );
    if (found.swarm)
      throw new CnmError(
        'request-invalid',
        `Network ${found.network.name} is the swarm's, which makes it on its nodes by itself`,
      );
    return this.#identified(found);
  }

  /** With what Docker does not know: by what the hosts know it for the same, and in which address space its subnets are. */
  #identified({ id, network }: EngineDescription): NetworkDescription {
    const record = this.#parts.cnm.network(id);
    const identity = record?.agreement?.name;
    const { globalSpace } = this.#parts.ipam;
    const isGlobal = record?.ipv4.concat(record.ipv6).some((one) => one.addressSpace === globalSpace);
    const options = { ...network.ipam.options, ...(isGlobal === true && { [SPACE]: globalSpace }) };
    return {
      ...network,
      ...(record !== undefined && { kind: record.driver }),
      ...(identity !== undefined && { identity }),
      ipam: { ...network.ipam, options },
    };
  }

  async #look(network: PublishedNetwork): Promise<{ here: Here | undefined; ability: Ability }> {
    const { cnm, engine, ipam } = this.#parts;
    const drivers = cnm.drivers.flatMap(({ name, sharing }) => (sharing === undefined ? [] : [name]));
    const space = ipam.globalSpace;
    const own = this.#own(network.name);
    const isDockers = network.owner === 'docker';
    // Docker is asked about one of ours that is to be Docker's, and about what is none of ours.
    if (own !== undefined && !(own.made && isDockers && network.state === 'published'))
      return { here: own, ability: { drivers, docker: false, withoutIpv4: true, space } };
    const listed = await engine.networks();
    if (listed === undefined && isDockers && (await this.#hasDocker())) throw new EngineSilence(NO_ENGINE);
    const { networks = [], withoutIpv4 = true } = listed ?? {};
    const docker = networks.find((one) => one.network.name === network.name);
    const here = own ?? (docker && (await this.#dockers(network, docker)));
    return { here, ability: { drivers, docker: listed !== undefined, withoutIpv4, space } };
  }

  #own(wanted: string): Here | undefined {
    const { cnm, standalone } = this.#parts;
    const own = cnm.networks().find(({ name, origin }) => origin === 'cnm' && name === wanted);
    if (own === undefined) return undefined;
    const used = cnm.endpoints(own.id).map((one) => one.name ?? one.id.slice(0, 12));
    return { id: own.id, network: standalone.describe(own), made: own.id === publishedId(wanted), used };
  }

  /** Although it does not answer. A dockerd without socket activation takes its socket along, and its networks stay in our records. */
  async #hasDocker(): Promise<boolean> {
    const { cnm, engine } = this.#parts;
    return cnm.networks().some(({ origin }) => origin === 'docker') || (await engine.isInstalled());
  }

  async #dockers(network: PublishedNetwork, docker: EngineDescription): Promise<Here> {
    const there = this.#identified(docker);
    const { id, made } = docker;
    const mayGo = made && (network.state === 'withdrawn' || !isSame(network, there));
    const used = mayGo ? await this.#parts.engine.containers({ id, name: network.name }) : [];
    return { id, network: there, made, used };
  }

  async #make(network: PublishedNetwork, { docker, space }: Ability): Promise<void> {
    const { engine, standalone } = this.#parts;
    const { name, owner } = network;
    if (owner === 'cnm') await standalone.create(network, publishedId(name));
    else if (docker) await engine.create(copyOf(network, space));
    else await standalone.create(copyOf(network, space), publishedId(name));
  }

  async #remove(id: string): Promise<void> {
    const { cnm, engine, standalone } = this.#parts;
    const record = cnm.network(id);
    if (record?.origin === 'cnm') await standalone.remove(record);
    else await engine.remove(id);
  }
}
