import { pino } from 'pino';
import t from 'tap';
import type { Log } from '../cnm/log.ts';
import { textLine } from './log-format.ts';

/** What pino writes for one record, at a fixed time. */
function logged(write: (log: Log) => void): string {
  const lines: string[] = [];
  const log = pino(
    { level: 'trace', base: null, timestamp: () => ',"time":"2026-01-02T03:04:05.678Z"' },
    { write: (line: string) => void lines.push(textLine(line)) },
  );
  write(log);
  return lines.join('');
}

t.test('a record is one line: time, level, sentence, fields', (t) => {
  t.equal(
    logged((log) => {
      log.info({ network: 'abc', ms: 1.5, reply: { Err: 'no' }, name: 'a b' }, 'network created');
    }),
    '2026-01-02T03:04:05.678Z INFO  network created network=abc ms=1.5 reply={"Err":"no"} name="a b"\n',
  );
  t.end();
});

t.test('the commands of a plan stand below', (t) => {
  const text = logged((log) => {
    log.debug({ network: 'abc', plan: ['ip link add x', 'ip link set x up'] }, 'the plan');
  });
  t.match(text, /DEBUG the plan network=abc\n +ip link add x\n +ip link set x up\n$/);
  t.end();
});

t.test('an error shows its stack', (t) => {
  const text = logged((log) => {
    log.error({ err: new RangeError('too far') }, 'failed');
  });
  t.match(text, /ERROR failed\n +RangeError: too far\n +at /);
  t.end();
});

t.test("a caller's text cannot make a second record", (t) => {
  const evil = 'x\n2026-01-02T03:04:05.678Z INFO all is well';
  const text = logged((log) => {
    log.warn({ name: evil, list: [evil], reply: { evil } }, `refused: ${evil}`);
  });
  t.equal(text.match(/^2026/gm)?.length, 1, text);
  t.end();
});
