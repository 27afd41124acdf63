/** The accept rules in DOCKER-USER of a fake host, and the translations of its namespaces. */
import type { AcceptRule } from './facts.ts';
import type { FakeNetns } from './fake-host.ts';
import type { FakeState, Undo } from './fake-state.ts';
import { checkName } from './link-name.ts';
import type { ForwardAccept, Mark, UplinkTranslate } from './step.ts';
import { translationName } from './translation.ts';

export function forwardAccept(state: FakeState, step: ForwardAccept): Undo {
  checkName(step.bridge);
  const network = shortId(step.mark);
  const families = ([4, 6] as const).filter((family) => state.acceptChain[family === 4 ? 'v4' : 'v6']);
  const added = families
    .map((family) => ({ family, bridge: step.bridge, network }))
    .filter(
      (rule) =>
        !state.accepts.some(
          (held) => held.family === rule.family && isAccept(held, rule.bridge, rule.network),
        ),
    );
  if (added.length === 0) return undefined;
  state.accepts.push(...added);
  return () => {
    state.accepts = state.accepts.filter((rule) => !added.includes(rule));
  };
}

export function isAccept(rule: AcceptRule, bridge: string, network: string): boolean {
  return rule.bridge === bridge && rule.network === network;
}

export function shortId(mark: Mark): string {
  return mark.network.slice(0, 12);
}

export function translate(netns: FakeNetns, step: UplinkTranslate): Undo {
  const name = translationName(step);
  if (netns.translation === name) return undefined;
  netns.translation = name;
  return () => {
    delete netns.translation;
  };
}
