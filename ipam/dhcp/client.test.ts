import fc from 'fast-check';
import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { addressOf } from '../../address/prefix.ts';
import { type Action, begin, type Client, hear, type Outcome, rename, wake } from './client.ts';
import { type DhcpMessage, OPTION, TYPE, UNSPECIFIED } from './message.ts';
import { reply, SERVER, SERVER_MAC } from './fake-server.ts';
import { addressesOf, numberOf, u32 } from './values.ts';
import { clientIdOf, messageFor } from './words.ts';

const MAC = mac('02:00:00:00:00:07');
const IDENTITY = { mac: MAC, clientId: clientIdOf(MAC) };
const ADDRESS = ip('10.0.0.7');
const TERMS = [
  [OPTION.leaseTime, u32(100)],
  [OPTION.subnetMask, Buffer.of(255, 255, 255, 0)],
] as const;
const at = (seconds: number, roll = 5) => ({ now: seconds * 1000, roll });

/** What it said last, by name. */
function said({ actions }: Outcome): DhcpMessage {
  const sent = actions.findLast((action) => action.do === 'send');
  if (sent === undefined) throw new Error('nothing was said');
  return sent.message;
}

function answer(outcome: Outcome, type: 'offer' | 'ack' | 'nak', seconds: number): Outcome {
  const message = reply(said(outcome), type, type === 'nak' ? UNSPECIFIED : ADDRESS, TERMS);
  return hear(outcome.client, message, SERVER_MAC, at(seconds, 0));
}

function bound(): Outcome {
  return answer(answer(begin(IDENTITY, at(0)), 'offer', 1), 'ack', 2);
}

function typeOf(outcome: Outcome): unknown {
  return numberOf(said(outcome), OPTION.messageType, 1);
}

t.test('from nothing to a lease, and its whole life', (t) => {
  const got = bound();
  t.match(got, {
    client: { phase: 'bound', lease: { address: '10.0.0.7/24', server: SERVER, expiresAt: 101_000 } },
  });
  t.equal(got.client.wakeAt, 51_000, 'half of the time after it was asked for');
  t.same(wake(got.client, at(50)).actions, [], 'it sleeps until then');

  const renewing = wake(got.client, at(51));
  t.match(renewing.actions, [{ do: 'send', to: { server: SERVER, mac: SERVER_MAC } }], 'to the server alone');
  t.equal(said(renewing).ciaddr, ADDRESS);
  const renewed = answer(renewing, 'ack', 52);
  t.match(renewed.actions, [{ do: 'bound', lease: { expiresAt: 151_000 } }]);

  const rebinding = wake({ ...renewing.client, wakeAt: 0 }, at(89));
  t.equal(rebinding.client.phase, 'rebinding');
  t.equal((rebinding.actions[0] as { to?: unknown }).to, undefined, 'to all');
  const over = wake({ ...rebinding.client, wakeAt: 0 }, at(101));
  t.match(over.actions, [{ do: 'lost', why: 'expired' }, { do: 'send' }]);
  t.equal(typeOf(over), TYPE.discover);
  t.same(addressesOf(said(over), OPTION.requestedAddress), [ADDRESS], 'it would like to have it again');
  t.end();
});

t.test('INIT-REBOOT', (t) => {
  const { lease } = bound().client;
  const rebooting = begin(IDENTITY, at(10, 9), lease);
  t.equal(typeOf(rebooting), TYPE.request);
  t.same(addressesOf(said(rebooting), OPTION.requestedAddress), [ADDRESS]);
  t.notOk(said(rebooting).options.has(OPTION.serverId), 'no server is named (RFC 2131 section 4.3.2)');
  t.equal(said(rebooting).ciaddr, UNSPECIFIED);
  t.equal(answer(rebooting, 'ack', 11).client.phase, 'bound');
  t.equal(typeOf(answer(rebooting, 'nak', 11)), TYPE.discover);
  t.notOk(addressesOf(said(answer(rebooting, 'nak', 11)), OPTION.requestedAddress).length, 'it was refused');

  const again = wake({ ...rebooting.client, wakeAt: 0 }, at(12));
  const alone = wake({ ...again.client, wakeAt: 0 }, at(15));
  t.match(
    alone,
    { client: { phase: 'bound' }, actions: [{ do: 'bound', lease }] },
    'without a server, what it has',
  );
  t.equal(typeOf(begin(IDENTITY, at(200), lease)), TYPE.discover, 'nothing that is over');
  t.end();
});

t.test('a server that says no', (t) => {
  const requesting = answer(begin(IDENTITY, at(0)), 'offer', 1);
  const refused = answer(requesting, 'nak', 2);
  t.match(refused, {
    client: { phase: 'selecting', wakeAt: 3000 },
    actions: [{ do: 'refused', server: SERVER }],
  });
  t.match(answer(wake(bound().client, at(51)), 'nak', 52).actions, [
    { do: 'lost', why: 'refused' },
    { do: 'send' },
  ]);
  t.end();
});

t.test('a name that becomes known is told at once', (t) => {
  const told = rename(bound().client, 'web', at(3));
  t.equal(Buffer.from(said(told).options.get(OPTION.hostName) ?? []).toString(), 'web');
  t.equal(told.client.phase, 'renewing');
  t.same(rename(begin(IDENTITY, at(0)).client, 'web', at(1)).actions, [], 'or with the next message');
  t.end();
});

/** RFC 2131 table 5. */
t.test('each message has the fields that it must have, and none that it must not', (t) => {
  const known = { ...IDENTITY, hostName: 'web' };
  const moment = { xid: 1, secs: 0 };
  const has = (want: Parameters<typeof messageFor>[1]) => {
    const { ciaddr, broadcast, options } = messageFor(known, want, moment);
    const { requestedAddress, serverId, parameters, clientId, hostName } = OPTION;
    const there = Object.entries({ requestedAddress, serverId, parameters, clientId, hostName });
    const names = there.filter(([, code]) => options.has(code)).map(([name]) => name);
    return [ciaddr === ADDRESS ? 'ciaddr' : '', broadcast ? 'broadcast' : '', ...names]
      .filter(Boolean)
      .join(' ');
  };
  const usual = 'parameters clientId hostName';
  t.equal(has({ say: 'discover' }), `broadcast ${usual}`);
  t.equal(
    has({ say: 'request', address: ADDRESS, server: SERVER }),
    `broadcast requestedAddress serverId ${usual}`,
  );
  t.equal(has({ say: 'reboot', address: ADDRESS }), `broadcast requestedAddress ${usual}`);
  t.equal(has({ say: 'renew', address: ADDRESS }), `ciaddr ${usual}`);
  t.equal(has({ say: 'release', address: ADDRESS, server: SERVER }), 'ciaddr serverId clientId');
  t.end();
});

interface Event {
  readonly pass: number;
  readonly what: 'wait' | 'offer' | 'ack' | 'nak' | 'stranger';
  readonly roll: number;
}

const events = () =>
  fc.array(
    fc.record<Event>({
      // Without an end: until it wants to be woken.
      pass: fc.oneof(fc.nat(20_000), fc.constant(Infinity)),
      what: fc.constantFrom('wait', 'wait', 'wait', 'offer', 'ack', 'nak', 'stranger'),
      roll: fc.nat(0xffffffff),
    }),
    { maxLength: 60, size: 'max' },
  );

/** The address that it may use, told by its actions alone. */
function used(before: string | undefined, actions: readonly Action[]): string | undefined {
  let now = before;
  for (const action of actions) {
    if (action.do === 'bound') now = addressOf(action.lease.address);
    if (action.do === 'lost') now = undefined;
  }
  return now;
}

t.test('whatever happens, and in whatever order', (t) => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(events(), (list) => {
      let moment = { now: 0, roll: 1 };
      let outcome = begin(IDENTITY, moment);
      let last = said(outcome);
      let address = used(undefined, outcome.actions);
      for (const { pass, what, roll } of list) {
        // It is woken when it wants to be, or hears something before.
        const now = Math.min(moment.now + pass, Math.max(outcome.client.wakeAt, moment.now));
        moment = { now, roll };
        const before: Client = outcome.client;
        if (what === 'wait') outcome = wake(before, moment);
        else if (what === 'stranger') {
          const foreign = { ...reply(last, 'ack', ADDRESS, TERMS), chaddr: mac('02:00:00:00:00:99') };
          outcome = hear(before, foreign, SERVER_MAC, moment);
          if (outcome.client !== before) throw new Error('heard what was another’s');
        } else
          outcome = hear(
            before,
            reply(last, what, what === 'nak' ? UNSPECIFIED : ADDRESS, TERMS),
            SERVER_MAC,
            moment,
          );
        for (const action of outcome.actions) if (action.do === 'send') last = action.message;
        address = used(address, outcome.actions);
        seen.add(outcome.client.phase);
        check(outcome, before, now, address);
      }
    }),
    { numRuns: 1000 },
  );
  t.same([...seen].sort(), ['bound', 'rebinding', 'renewing', 'requesting', 'selecting'], 'everywhere');
  t.end();
});

function check({ client, actions }: Outcome, before: Client, now: number, address: string | undefined): void {
  const must = (holds: boolean, what: string) => {
    if (!holds) throw new Error(`${what}: ${before.phase} → ${client.phase} at ${now}`);
  };
  const { phase, lease, wakeAt } = client;
  const isHolding = ['bound', 'renewing', 'rebinding'].includes(phase);
  must(isHolding === (address !== undefined), 'an address is used exactly while there is a lease');
  // A wake-up that is due may still be due: an address is not used beyond the moment at which it is woken for its end.
  must(!isHolding || (lease !== undefined && now <= lease.expiresAt), 'no address beyond its lease');
  must(isHolding || wakeAt <= now + 64 * 1100, 'who has none asks again in a minute');
  must(!isHolding || wakeAt <= (lease?.expiresAt ?? 0), 'who has one wakes before it ends');
  for (const action of actions) {
    if (action.do !== 'send') continue;
    must(action.message.xid === client.xid, 'the answer will be known by its number');
    must(action.to === undefined || phase === 'renewing', 'to one server alone only what renews');
    must(action.message.ciaddr === UNSPECIFIED || isHolding, 'from an address only while it is had');
  }
}
