/**
 * A packet socket (packet(7)) on a link of the daemon's namespace, for datagrams of somebody who has no address there yet, or whose
 * link is elsewhere: it hears what comes in on the link for one UDP port, whatever MAC and address it is for, before a macvlan link on
 * it takes it away (`ETH_P_ALL` comes before rx_handler in __netif_receive_skb_core()). It does not make the link promiscuous.
 */
import { close, closeSync } from 'node:fs';
import type { FramedDatagram, LinkTap } from './kernel.ts';
import { KernelError } from './kernel.ts';
import type { Instruction, Syscalls } from './syscall.ts';
import { readUdpFrame, udpFrame } from './udp-frame.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_PACKET = 263;
/** Without it the kernel makes a copy of each frame that goes out (dev_queue_xmit_nit()). */
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const SOCKADDR_LL_LENGTH = 20;
const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then a union of 24 bytes. */
const IFREQ = { size: 40, name: 16 } as const;
const FRAME_MAX = 65_536;

/** @throws KernelError ENODEV when there is no such link, ENETDOWN when it is down, EPERM without CAP_NET_RAW. */
export function openLinkTap(sys: Syscalls, link: string, port: number): LinkTap {
  // Protocol 0: nothing is heard before the filter is there.
  const fd = sys.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  try {
    const index = indexOf(sys, fd, link);
    sys.filter(fd, udpToPort(port));
    sys.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    sys.bind(fd, linkAddress(index));
    return tapOf(sys, fd, linkAddress(index));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function tapOf(sys: Syscalls, fd: number, to: Buffer): LinkTap {
  const into = Buffer.alloc(FRAME_MAX);
  const from = Buffer.alloc(SOCKADDR_LL_LENGTH);
  const orNothing = <T>(act: () => T): T | undefined => {
    try {
      return act();
    } catch (error) {
      // The link is down or gone: nothing comes and nothing goes. Whoever waits for an answer waits in vain, as with a cable that is out.
      if (error instanceof KernelError) return undefined;
      throw error;
    }
  };
  return {
    send: (datagram) => orNothing(() => sys.sendTo(fd, udpFrame(datagram), to)) ?? false,
    receive() {
      for (;;) {
        const length = orNothing(() => sys.receive(fd, into, from));
        if (length === undefined) return undefined;
        const datagram: FramedDatagram | undefined = readUdpFrame(
          into.subarray(0, Math.min(length, FRAME_MAX)),
        );
        if (datagram !== undefined) return datagram;
      }
    },
    // On another thread: the kernel lets all processors pass before it closes one (packet_release(), synchronize_net()).
    close() {
      close(fd);
    },
  };
}

function indexOf(sys: Syscalls, fd: number, link: string): number {
  const request = Buffer.alloc(IFREQ.size);
  request.write(link, 0, IFREQ.name - 1);
  sys.ioctl(fd, SIOCGIFINDEX, request);
  return request.readInt32LE(IFREQ.name);
}

/** struct sockaddr_ll, for all protocols. */
function linkAddress(index: number): Buffer {
  const address = Buffer.alloc(SOCKADDR_LL_LENGTH);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_ALL, 2);
  address.writeInt32LE(index, 4);
  return address;
}

/** Of the kernel's own fields of a frame (SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT): a VLAN's frames pass its parent, too. */
const VLAN_TAG_PRESENT = 0xfffff000 + 48;

/** As `tcpdump -dd 'not vlan and ip and udp dst port PORT and not fragment'` has it, but for the check of the VLAN tag. */
export function udpToPort(port: number): readonly Instruction[] {
  return [
    [0x30, 0, 0, VLAN_TAG_PRESENT],
    [0x15, 0, 9, 0],
    [0x28, 0, 0, 12],
    [0x15, 0, 7, 0x0800],
    [0x30, 0, 0, 23],
    [0x15, 0, 5, 17],
    [0x28, 0, 0, 20],
    [0x45, 3, 0, 0x1fff],
    [0xb1, 0, 0, 14],
    [0x48, 0, 0, 16],
    [0x15, 1, 0, port],
    [0x06, 0, 0, 0],
    [0x06, 0, 0, 0xffffffff],
  ];
}
