/** What the test of an overlay network found, for people. Pure. */
import type { CheckFinding, OverlayCheckView, RotationView } from '../views.ts';
import type { Paint } from './text.ts';

export function checkText({ findings, segments, healthy }: OverlayCheckView, paint: Paint): string {
  const lines = [
    ...findings.flatMap((one) => findingLines(one, paint)),
    ...segments.flatMap(({ vni, port, local, mtu, peers }) => [
      paint.bold(`vni ${vni}, udp ${port}, from ${local}, mtu ${mtu}`),
      ...(peers.length === 0 ? ['  no other host is in its list of peers'] : []),
      ...peers.flatMap(({ peer, findings: found }) =>
        found.length === 0
          ? [`  ${peer}  ${paint.green('ok')}  both ways, full packets, checksums`]
          : [`  ${peer}`, ...found.flatMap((one) => findingLines(one, paint).map((line) => `    ${line}`))],
      ),
    ]),
  ];
  return `${lines.join('\n')}\n${healthy ? '' : 'Something is wrong; what to do stands behind each arrow.\n'}`;
}

export function rotationText({ networks, ahead, next }: RotationView): string {
  const early = ahead === 0 ? '' : ', ahead of their time';
  return `rotated  ${networks} ${networks === 1 ? 'network sends' : 'networks send'} with other keys${early}; the next come at ${next}\n`;
}

function findingLines({ code, severity, what, todo }: CheckFinding, paint: Paint): readonly string[] {
  return [`${coloured(`${severity} ${code}`, severity, paint)}  ${what}`, `  -> ${todo}`];
}

function coloured(text: string, severity: CheckFinding['severity'], paint: Paint): string {
  if (severity === 'note') return paint.dim(text);
  return severity === 'error' ? paint.red(text) : paint.yellow(text);
}
