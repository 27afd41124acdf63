import t from 'tap';
import { inOrder, Upstream, Upstreams } from './upstream.ts';

const asked = (...upstreams: Upstream[]) => inOrder(upstreams).map(({ address }) => address);

t.test('the order of resolv.conf, the dead last', (t) => {
  const [a, b] = [new Upstream('10.0.0.1'), new Upstream('10.0.0.2')];
  t.same(asked(a, b), ['10.0.0.1', '10.0.0.2']);
  a.failed('timedOut', 0);
  t.same(asked(a, b), ['10.0.0.1', '10.0.0.2'], 'a packet may get lost');
  a.failed('timedOut', 10);
  t.same(asked(a, b), ['10.0.0.2', '10.0.0.1']);
  t.notOk(a.isDue(900));
  t.ok(a.isDue(1100));
  a.failed('timedOut', 1100);
  t.notOk(a.isDue(3000), 'twice as long each time');
  t.ok(a.isDue(3200));
  a.answered(5);
  t.same(asked(a, b), ['10.0.0.1', '10.0.0.2'], 'one answer is enough');
  t.end();
});

t.test('how soon a server counts as dead', (t) => {
  for (const [how, times] of [
    ['unreachable', 1],
    ['timedOut', 2],
    ['refused', 4],
  ] as const) {
    const one = new Upstream('10.0.0.1');
    for (let n = 1; n < times; n += 1) one.failed(how, n);
    t.notOk(one.isDown(), how);
    one.failed(how, times);
    t.ok(one.isDown(), how);
    t.equal(one.counts[how], times);
  }
  t.end();
});

t.test('a far server is waited for longer, one that failed less', (t) => {
  const one = new Upstream('10.0.0.1');
  t.equal(one.patience(), 800);
  one.answered(500);
  t.equal(one.patience(), 1500);
  one.failed('timedOut', 0);
  t.equal(one.patience(), 300);
  t.end();
});

t.test('servers that lead back to us are not asked', (t) => {
  const [a, b] = [new Upstream('10.0.0.1'), new Upstream('10.0.0.2')];
  a.loops = true;
  t.same(asked(a, b), ['10.0.0.2']);
  t.end();
});

t.test('what is known of a server outlives a change of the list', (t) => {
  const upstreams = new Upstreams();
  const [a] = upstreams.of(['10.0.0.1', '10.0.0.2#5353']);
  t.match(upstreams.all()[1], { address: '10.0.0.2', port: 5353 });
  upstreams.keep(new Set(['10.0.0.1']));
  t.equal(upstreams.of(['10.0.0.1'])[0], a);
  t.equal(upstreams.all().length, 1);
  t.end();
});
