import t from 'tap';
import { mac } from '../../address/mac.ts';
import { macvlan } from './index.ts';
import { endpointSpec, networkSpec } from '../../tests/specs.ts';

const network = (options: Readonly<Record<string, string>>) => networkSpec('cnm-macvlan', { options });

t.test('the LAN is asked before the link is made, as the user wants it', (t) => {
  const first = (options: Readonly<Record<string, string>>) =>
    macvlan.endpoint(network(options), { ...endpointSpec(), mac: mac('02:42:0a:01:00:02') })[0];
  const question = { do: 'neigh.probe', link: 'eth0.7', addresses: ['10.1.0.2'], mac: '02:42:0a:01:00:02' };
  t.same(first({ parent: 'eth0', vlan: '7' }), { ...question, taken: 'warn' });
  t.same(first({ parent: 'eth0', vlan: '7', probe: 'fail' }), { ...question, taken: 'fail' });
  t.equal(first({ parent: 'eth0', probe: 'off' })?.do, 'link.add');
  t.equal(first({})?.do, 'link.add', 'without a parent there is nobody to ask');
  t.throws(() => first({ parent: 'eth0', probe: 'maybe' }), /probe cannot be "maybe"/);
  t.end();
});
