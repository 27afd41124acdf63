import fc from 'fast-check';
import t from 'tap';
import { ipFromValue } from '../address/ip.ts';
import { CnmError } from '../cnm/errors.ts';
import { bindingsOf, formatPortSpec, parsePortSpec, type PortSpec } from './port-spec.ts';

/** What go-connections' ParsePortSpec makes of the same words (nat/nat_test.go and nat/parse_test.go have most of them). */
const RIGHT: readonly [text: string, spec: object][] = [
  ['80', { proto: 6, container: { from: 80, to: 80 } }],
  ['80/', { proto: 6, container: { from: 80, to: 80 } }],
  ['80/udp', { proto: 17, container: { from: 80, to: 80 } }],
  ['80/SCTP', { proto: 132, container: { from: 80, to: 80 } }],
  [':80', { proto: 6, container: { from: 80, to: 80 } }],
  ['0:80', { proto: 6, container: { from: 80, to: 80 } }],
  ['8080:80', { proto: 6, container: { from: 80, to: 80 }, host: { from: 8080, to: 8080 } }],
  ['8000-8010:80', { proto: 6, container: { from: 80, to: 80 }, host: { from: 8000, to: 8010 } }],
  ['8000-8002:80-82', { proto: 6, container: { from: 80, to: 82 }, host: { from: 8000, to: 8002 } }],
  ['80-82', { proto: 6, container: { from: 80, to: 82 } }],
  ['127.0.0.1:8080:80', { hostIp: '127.0.0.1', host: { from: 8080, to: 8080 } }],
  ['127.0.0.1::80', { hostIp: '127.0.0.1', container: { from: 80, to: 80 } }],
  [
    '0.0.0.0:1:65535/udp',
    { hostIp: '0.0.0.0', host: { from: 1, to: 1 }, container: { from: 65535, to: 65535 } },
  ],
  ['[2001:DB8::1]:8080:80', { hostIp: '2001:db8::1', host: { from: 8080, to: 8080 } }],
  ['[::]::80', { hostIp: '::', container: { from: 80, to: 80 } }],
  ['[192.0.2.1]:8080:80', { hostIp: '192.0.2.1' }],
];

const WRONG: readonly [text: string, says: RegExp][] = [
  ['', /container port is missing/],
  ['8080:', /container port is missing/],
  ['/tcp', /container port is missing/],
  ['0', /container port "0" must be a number from 1 to 65535/],
  ['65536', /"65536" must be/],
  ['http', /"http" must be/],
  ['80 ', /"80 " must be/],
  ['-80', /"-80" must be/],
  ['80-', /"80-" must be/],
  ['1e3', /"1e3" must be/],
  ['82-80', /container ports 82-80 end before they begin/],
  ['99999:80', /host port "99999" must be/],
  ['0-10:80', /host ports 0-10 must be from 1/],
  ['8000-8001:80-82', /2 host ports do not go with 3 container ports/],
  ['8000:80-82', /1 host ports do not go with 3/],
  ['80/icmp', /"icmp" must be tcp, udp or sctp/],
  ['80/tcp/udp', /more than one "\/"/],
  ['localhost:8080:80', /"localhost" is not an address of the host/],
  ['192.0.2.256:8080:80', /"192\.0\.2\.256" is not an address/],
  ['2001:db8::1:8080:80', /must be in brackets/],
  ['[2001:db8::1]:80', /after the address come/],
  ['[::1]:1:2:3', /after the address come/],
  ['[]:1:2', /"\[\]" is not an address/],
  ['[fe80::1%eth0]:1:2', /is not an address/],
  ['8080:80\u0000', /must be/],
];

t.test('Docker’s words', (t) => {
  for (const [text, spec] of RIGHT) t.match(parsePortSpec(text), spec, text);
  t.equal(parsePortSpec('0:80').host, undefined);
  t.end();
});

t.test('what is wrong is named, with what would be right', (t) => {
  for (const [text, says] of WRONG) {
    const error = t.throws(() => parsePortSpec(text), { code: 'request-invalid', message: says }, text);
    const { message } = error as unknown as CnmError;
    t.match(message, `-p ${JSON.stringify(text)} `);
    t.match(message, '; write [HOSTIP:][HOSTPORT[-END]:]PORT[-END]');
  }
  t.end();
});

const port = fc.integer({ min: 1, max: 65535 });
const range = fc.tuple(port, port).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }));
const address = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }).map((value) => ipFromValue(4, value)),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ipFromValue(6, value)),
);
/** One container port with any host ports, or a range with as many, or with none. */
const ports = fc.oneof(
  fc.record({ container: port.map((one) => ({ from: one, to: one })), host: range }),
  fc.record({ container: range }),
  fc.tuple(range, port).map(([container, start]) => {
    const more = Math.min(container.to - container.from, 65535 - start);
    return {
      container: { from: container.from, to: container.from + more },
      host: { from: start, to: start + more },
    };
  }),
);
const spec: fc.Arbitrary<PortSpec> = fc
  .tuple(fc.constantFrom(6, 17, 132), ports, fc.option(address, { nil: undefined }))
  .map(([proto, chosen, hostIp]) => ({ proto, ...chosen, ...(hostIp && { hostIp }) }));

t.test('parse(format(x)) is x', (t) => {
  fc.assert(
    fc.property(spec, (x) => {
      t.strictSame(parsePortSpec(formatPortSpec(x)), x);
    }),
  );
  t.end();
});

t.test('any text is a port to publish or an error of the registry', (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(
        fc.constantFrom('[', ']', ':', '-', '/', '0', '80', '65536', '1.2.3.4', '::1', 'tcp', 'udp', ' '),
        { maxLength: 9 },
      )
      .map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(text, (x) => {
      try {
        const parsed = parsePortSpec(x);
        t.strictSame(parsePortSpec(formatPortSpec(parsed)), parsed);
      } catch (error) {
        if (!(error instanceof CnmError) || error.code !== 'request-invalid') throw error;
      }
    }),
    { numRuns: 2000 },
  );
  t.end();
});

t.test('bindings: one for each container port', (t) => {
  t.strictSame(bindingsOf(parsePortSpec('8000-8010:80')), [
    { proto: 6, port: 80, hostPort: 8000, hostPortEnd: 8010 },
  ]);
  t.strictSame(bindingsOf(parsePortSpec('127.0.0.1:8000-8001:80-81/udp')), [
    { proto: 17, port: 80, hostIp: '127.0.0.1', hostPort: 8000, hostPortEnd: 8000 },
    { proto: 17, port: 81, hostIp: '127.0.0.1', hostPort: 8001, hostPortEnd: 8001 },
  ]);
  t.strictSame(
    bindingsOf(parsePortSpec('80-81')).map(({ port, hostPort }) => [port, hostPort]),
    [
      [80, 0],
      [81, 0],
    ],
  );
  t.equal(bindingsOf(parsePortSpec('1-65535:1-65535')).length, 65535);
  t.end();
});
