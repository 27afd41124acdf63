import t from 'tap';
import { gatewaySkip } from './gateway-skip.ts';

const BRIDGE = 'com.docker.network.bridge';

t.test('P19 which gateways Docker shall not allocate, as its own bridge driver answers', (t) => {
  const table: readonly (readonly [boolean, Record<string, string>, boolean, boolean])[] = [
    [false, {}, false, false],
    [true, {}, false, false],
    [true, { [`${BRIDGE}.inhibit_ipv4`]: 'true' }, true, false],
    [true, { [`${BRIDGE}.inhibit_ipv4`]: '1' }, true, false],
    [true, { [`${BRIDGE}.inhibit_ipv4`]: 'false' }, false, false],
    [true, { [`${BRIDGE}.inhibit_ipv4`]: 'maybe' }, false, false],
    [false, { [`${BRIDGE}.inhibit_ipv4`]: 'true' }, false, false],
    [true, { [`${BRIDGE}.gateway_mode_ipv4`]: 'isolated' }, true, false],
    [true, { [`${BRIDGE}.gateway_mode_ipv6`]: 'isolated' }, false, true],
    [false, { [`${BRIDGE}.gateway_mode_ipv4`]: 'routed' }, false, false],
  ];
  for (const [internal, options, SkipIPv4, SkipIPv6] of table) {
    t.same(
      gatewaySkip({ internal, options }),
      { 4: SkipIPv4, 6: SkipIPv6 },
      `${internal} ${JSON.stringify(options)}`,
    );
  }
  t.end();
});
