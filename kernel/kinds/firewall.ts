/** nft.element, forward.accept and uplink.translate. */
import type { Facts } from '../facts.ts';
import type { ForwardAccept, NftElement, UplinkTranslate } from '../step.ts';
import { translationName } from '../translation.ts';
import { type Kind, netnsFacts } from './kind.ts';

export const nftElement: Kind<NftElement> = {
  looks: () => [],
  apply: (element) => [{ via: 'element', verb: 'add', element }],
  inverse: (element) => [{ via: 'element', verb: 'remove', element }],
  satisfied: (step, facts) =>
    facts.elements?.get(step.set)?.get(step.key.join(' . ')) === (step.data?.join(' . ') ?? ''),
};

export const forwardAccept: Kind<ForwardAccept> = {
  looks: () => [],
  apply: (accept) => [{ via: 'accept', verb: 'add', accept }],
  inverse: (accept) => [{ via: 'accept', verb: 'remove', accept }],
  satisfied: (step, facts) =>
    (!facts.acceptChain.v4 || isAccepted(step, facts, 4)) &&
    (!facts.acceptChain.v6 || isAccepted(step, facts, 6)),
};

export const uplinkTranslate: Kind<UplinkTranslate> = {
  looks: () => [],
  apply: (translation) => [{ via: 'translation', verb: 'load', translation }],
  inverse: (translation) => [{ via: 'translation', verb: 'drop', translation }],
  satisfied: (step, facts) => netnsFacts(facts, step.netns)?.translation === translationName(step),
};

function isAccepted({ bridge, mark }: ForwardAccept, facts: Facts, family: 4 | 6): boolean {
  const network = mark.network.slice(0, 12);
  return facts.accepts.some(
    (rule) => rule.family === family && rule.bridge === bridge && rule.network === network,
  );
}
