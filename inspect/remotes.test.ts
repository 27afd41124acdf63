import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { Agreement, Remote } from '../cnm/control.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import { remotesView } from './remotes.ts';
import { remotesDrawing } from './render/remotes.ts';
import { PLAIN } from './render/text.ts';

const agreement: Agreement = { plane: 'cluster', id: 'a1', name: 'uber', numbers: [4097], shared: [] };
const network = { agreement } as unknown as NetworkRecord;
const endpoint = (id: string, address: string, names: readonly string[]): Remote => ({
  ...{ kind: 'endpoint', id: id.repeat(32), host: 'b2', at: ip('192.0.2.2'), generation: 1, ports: [] },
  ...{ mac: mac('02:42:0a:01:00:02'), addresses: [prefix(address)], names },
});

t.test('hosts, and what each has, in the order of addresses', (t) => {
  const remotes: readonly Remote[] = [
    endpoint('e1', '10.1.0.10/24', ['web', 'w']),
    endpoint('e2', '10.1.0.9/24', []),
    { kind: 'host', id: 'b2', name: 'h2', at: ip('192.0.2.2'), details: { vtep: 'kernel', mtu: '1450' } },
    { kind: 'host', id: 'c3', name: 'h3\u001b[2J', at: ip('192.0.2.3'), details: {} },
  ];
  const view = remotesView(network, remotes);
  t.match(view, { name: 'uber', numbers: [4097], hosts: [{ name: 'h2' }, {}] });
  t.same(
    view?.endpoints.map(({ addresses }) => addresses),
    [['10.1.0.9/24'], ['10.1.0.10/24']],
  );
  const drawn = remotesDrawing(view, PLAIN).join('\n');
  t.match(
    drawn,
    /host h2 +192\.0\.2\.2 {2}vtep kernel {2}mtu 1450\n +e2e2e2e2e2e2 +10\.1\.0\.9\/24 {2}mac 02:42:0a:01:00:02\n +web +10\.1\.0\.10/,
  );
  t.notMatch(drawn, '\u001b', 'no control characters of others');
  t.end();
});

t.test('nobody else, and no cluster at all', (t) => {
  t.match(remotesDrawing(remotesView(network, []), PLAIN).join('\n'), 'no other host');
  t.equal(remotesView({} as unknown as NetworkRecord, []), undefined);
  t.same(remotesDrawing(undefined, PLAIN), []);
  t.end();
});
