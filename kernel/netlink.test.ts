/** The transport against a kernel of our own making; the real one is asked in tests/kernel. */
import t from 'tap';
import { KernelError } from './kernel.ts';
import { openNetlinkSocket } from './netlink.ts';
import type { NetlinkRequest, NetlinkSocket } from './netlink.ts';
import type { Syscalls } from './syscall.ts';

interface Datagram {
  readonly data: Buffer;
  readonly sender?: number;
}
interface Sent {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
}

const REQUEST: NetlinkRequest = { type: 16, flags: 0, data: Buffer.alloc(16) };
const UNUSED = (): never => {
  throw new Error('not used here');
};

/** `answer` is given what was sent and says what the socket then has to read. */
function socketTo(answer: (sent: readonly Sent[]) => readonly (Datagram | 'ENOBUFS')[]): NetlinkSocket {
  let queue: (Datagram | 'ENOBUFS')[] = [];
  const sys: Syscalls = {
    socket: () => -1,
    bind: () => undefined,
    setsockopt: () => undefined,
    listen: UNUSED,
    dropAll: UNUSED,
    filter: UNUSED,
    setOption: UNUSED,
    send: (_, data) => {
      queue = [...answer(headers(Buffer.from(data)))];
    },
    receive: (_, into, from) => {
      const next = queue.shift();
      if (next === 'ENOBUFS') throw new KernelError('recvfrom', 'ENOBUFS');
      if (next === undefined) return undefined;
      into.set(next.data.subarray(0, into.length));
      Buffer.from(from.buffer, from.byteOffset).writeUInt32LE(next.sender ?? 0, 4);
      return next.data.length;
    },
    sendAside: UNUSED,
    sendToAside: UNUSED,
    sendTo: UNUSED,
    free: UNUSED,
    read: UNUSED,
    write: UNUSED,
    poll: UNUSED,
    ioctl: UNUSED,
    memory: UNUSED,
    receiveMany: UNUSED,
    sendMany: UNUSED,
    setns: UNUSED,
    unshare: UNUSED,
    mount: UNUSED,
    umount: UNUSED,
  };
  return openNetlinkSocket(sys, 0);
}

function headers(data: Buffer): readonly Sent[] {
  const found: Sent[] = [];
  for (let at = 0; at < data.length; at += data.readUInt32LE(at)) {
    found.push({
      type: data.readUInt16LE(at + 4),
      flags: data.readUInt16LE(at + 6),
      seq: data.readUInt32LE(at + 8),
    });
  }
  return found;
}

function message(type: number, seq: number, payload: Buffer, flags = 0): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + payload.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(seq, 8);
  return Buffer.concat([header, payload]);
}

/** NLMSG_ERROR with the request's header; `text` as NLMSGERR_ATTR_MSG, with the flags of NETLINK_CAP_ACK and NETLINK_EXT_ACK. */
function error(seq: number, errno: number, text?: string): Datagram {
  const head = Buffer.alloc(20);
  head.writeInt32LE(-errno, 0);
  if (text === undefined) return { data: message(2, seq, head, 0x100) };
  const attribute = Buffer.alloc(4 + text.length + 1);
  attribute.writeUInt16LE(attribute.length, 0);
  attribute.writeUInt16LE(1, 2);
  attribute.write(text, 4);
  const padding = Buffer.alloc(-attribute.length & 3);
  return { data: message(2, seq, Buffer.concat([head, attribute, padding]), 0x300) };
}

const seqOf = (sent: readonly Sent[], index: number): number => sent.at(index)?.seq ?? -1;
const done = (seq: number, errno = 0): Datagram => {
  const payload = Buffer.alloc(4);
  payload.writeInt32LE(-errno, 0);
  return { data: message(3, seq, payload) };
};
const part = (seq: number, text: string, flags = 0x2): Datagram => ({
  data: message(16, seq, Buffer.from(text.padEnd(4)), flags),
});
const text = ({ data }: { data: Buffer }): string => data.toString().trim();

function failureOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof KernelError) return error.errno;
    throw error;
  }
  return 'none';
}

t.test('only the last request is acknowledged; errors come with their place and the kernel’s words', (t) => {
  const seen: Sent[] = [];
  const socket = socketTo((sent) => {
    seen.push(...sent);
    return [error(seqOf(sent, 1), 17, 'name is taken'), error(seqOf(sent, 2), 19), error(seqOf(sent, 3), 0)];
  });
  const { failures } = socket.transact([REQUEST, REQUEST, REQUEST, REQUEST]);
  t.same(failures, [
    { index: 1, errno: 'EEXIST', detail: 'name is taken' },
    { index: 2, errno: 'ENODEV', detail: '' },
  ]);
  t.same(
    seen.map(({ flags }) => flags),
    [1, 1, 1, 5],
  );
  t.equal(new Set(seen.map(({ seq }) => seq)).size, 4);
  t.end();
});

t.test('answers of other senders and other exchanges are passed over', (t) => {
  const socket = socketTo((sent) => [
    { ...error(seqOf(sent, 0), 1), sender: 4711 },
    error(seqOf(sent, 0) + 1000, 1),
    { data: message(16, seqOf(sent, 0), Buffer.from('link')) },
    error(seqOf(sent, 0), 0),
  ]);
  const { failures, replies } = socket.transact([REQUEST]);
  t.same(failures, []);
  t.equal(replies.get(0)?.data.toString(), 'link');
  t.end();
});

t.test('the caller may say which request to wait for, as nfnetlink batches need', (t) => {
  const socket = socketTo((sent) => [error(seqOf(sent, 1), 0)]);
  t.same(socket.transact([REQUEST, { ...REQUEST, flags: 4 }, REQUEST]).failures, []);
  t.end();
});

t.test('no acknowledgement, and lost ones, are errors', (t) => {
  t.equal(
    failureOf(() => socketTo(() => []).transact([REQUEST])),
    'EPROTO',
  );
  t.equal(
    failureOf(() => socketTo(() => ['ENOBUFS']).transact([REQUEST])),
    'ENOBUFS',
  );
  // A batch that nfnetlink rejects as a whole is answered at its first message only.
  const rejected = socketTo((sent) => [error(seqOf(sent, 0), 1)]);
  t.same(rejected.transact([REQUEST, REQUEST]).failures, [{ index: 0, errno: 'EPERM', detail: '' }]);
  t.same(socketTo(() => []).transact([]).failures, []);
  t.end();
});

t.test('a dump that changed in between is read again', (t) => {
  let attempts = 0;
  const socket = socketTo((sent) => {
    attempts += 1;
    const seq = seqOf(sent, 0);
    t.equal(sent[0]?.flags, 0x301);
    return attempts < 3
      ? [part(seq, 'old'), part(seq, 'new', 0x12), done(seq)]
      : [part(seq, 'a'), part(seq, 'b'), done(seq)];
  });
  t.same(socket.dump(REQUEST, text), ['a', 'b']);
  t.equal(attempts, 3);
  t.end();
});

t.test('a dump that never settles, fails, or has no end', (t) => {
  const restless = socketTo((sent) => [part(seqOf(sent, 0), 'a', 0x12), done(seqOf(sent, 0))]);
  t.equal(
    failureOf(() => restless.dump(REQUEST, text)),
    'EINTR',
  );
  const refused = socketTo((sent) => [error(seqOf(sent, 0), 22, 'no')]);
  t.equal(
    failureOf(() => refused.dump(REQUEST, text)),
    'EINVAL',
  );
  const failed = socketTo((sent) => [part(seqOf(sent, 0), 'a'), done(seqOf(sent, 0), 12)]);
  t.equal(
    failureOf(() => failed.dump(REQUEST, text)),
    'ENOMEM',
  );
  const endless = socketTo((sent) => [part(seqOf(sent, 0), 'a')]);
  t.equal(
    failureOf(() => endless.dump(REQUEST, text)),
    'EPROTO',
  );
  t.end();
});

t.test('a datagram that does not fit is an error, never half an answer', (t) => {
  const socket = socketTo((sent) => [{ data: message(16, seqOf(sent, 0), Buffer.alloc(70_000)) }]);
  t.equal(
    failureOf(() => socket.transact([REQUEST])),
    'EMSGSIZE',
  );
  t.end();
});
