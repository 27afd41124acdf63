/** The self-test of overlay networks (`cnm overlay check`), and this host's answers to that of others. */
import { randomBytes } from 'node:crypto';
import type { Ip } from '../../address/ip.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { HostSettings } from '../../cnm/driver.ts';
import type { NetworkRecord } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { findingsBelow } from '../../drivers/overlay/check/below.ts';
import { type Finding, findings, type Ground } from '../../drivers/overlay/check/findings.ts';
import { Station, type StationParts } from './station.ts';
import type { CheckReport, PeerReport, SegmentReport } from '../../drivers/overlay/check/report.ts';
import { type Pace, Survey } from '../../drivers/overlay/check/survey.ts';
import { entriesOf, type TunnelHere } from '../../drivers/overlay/check/tunnels.ts';

export interface OverlayCheck {
  /** From now on other hosts are answered. To be called when the records are true. */
  start(): void;
  /** Some seconds; all peers at once. @throws CnmError `request-invalid` for a network of another driver. */
  check(network: NetworkRecord): Promise<CheckReport>;
  /** What is wrong with the way below a network, which it may be of any driver. */
  below(network: NetworkRecord, facts: Facts): Finding | undefined;
  close(): void;
}

export interface OverlayCheckParts extends StationParts {
  readonly kernel: StationParts['kernel'] & Pick<Kernel, 'facts'>;
  readonly host: HostSettings;
}

const PACE: Pace = {
  interval: 500,
  attempts: 4,
  wait: (ms) => new Promise((resolve) => void setTimeout(resolve, ms)),
  elapsed: () => performance.now(),
};

export function createOverlayCheck(parts: OverlayCheckParts): OverlayCheck {
  const station = new Station(parts);
  return {
    start: () => {
      station.start();
    },
    check: (network) => check(parts, station, network),
    below: (network, facts) => (network.driver === DRIVER ? below(parts, network, facts) : [])[0],
    close: () => {
      station.close();
    },
  };
}

const DRIVER = 'cnm-overlay';

function below({ cnm, host }: OverlayCheckParts, network: NetworkRecord, facts: Facts): readonly Finding[] {
  const others = cnm.remotes?.(network.id) ?? [];
  return findingsBelow(
    network,
    host,
    facts,
    others.flatMap((one) => (one.kind === 'host' ? [one.at] : [])),
  );
}

async function check(
  parts: OverlayCheckParts,
  station: Station,
  network: NetworkRecord,
): Promise<CheckReport> {
  const { kernel, cnm } = parts;
  if (network.driver !== DRIVER)
    throw new CnmError(
      'request-invalid',
      `Network ${network.name ?? network.id.slice(0, 12)} is of driver ${network.driver}: only networks of cnm-overlay reach other hosts`,
    );
  const facts = await kernel.facts({ plans: [network.presence ?? []], firewall: false });
  const own = entriesOf(cnm.endpoints(network.id));
  const segments = await Promise.all(
    station.tunnels(network.id).flatMap((tunnel) => {
      const { here } = tunnel;
      if (here === undefined) return [];
      const forwarding = forwardingOf(here, facts);
      return [segment(station, { tunnel, here, own, forwarding })];
    }),
  );
  const ownFindings = segments.length === 0 ? [NOT_HERE] : below(parts, network, facts);
  const all = [...ownFindings, ...segments.flatMap(({ peers }) => peers.flatMap((one) => one.findings))];
  return {
    network: network.id,
    healthy: all.every(({ severity }) => severity === 'note'),
    findings: ownFindings,
    segments,
  };
}

const NOT_HERE: Finding = {
  code: 'not-here',
  severity: 'note',
  what: 'No container of the network runs on this host, which therefore has no tunnel: there is nothing to test from here',
  todo: 'start a container on the network, or check from a host that has one',
};

async function segment(station: Station, ground: Ground): Promise<SegmentReport> {
  const { tunnel, here } = ground;
  const peers = await Promise.all(
    here.peers.map(async (peer): Promise<PeerReport> => {
      const id = randomBytes(8).toString('hex');
      const evidence = await new Survey(station, tunnel, here, peer, id).run(PACE);
      const { clockAhead } = evidence;
      return { peer, findings: findings(evidence, ground), ...(clockAhead !== undefined && { clockAhead }) };
    }),
  );
  return { vni: tunnel.vni, port: tunnel.port, local: here.local, mtu: here.mtu, peers };
}

function forwardingOf({ netns, link }: TunnelHere, facts: Facts): ReadonlyMap<string, Ip> {
  const entries = [...(facts.netns.get(netns)?.entries?.values() ?? [])];
  return new Map(
    entries.flatMap((one) =>
      one.do === 'fdb.add' && one.link === link ? [[one.mac, one.dst] as const] : [],
    ),
  );
}
