/**
 * A packet socket (packet(7)) on a link of the daemon's namespace, for datagrams of somebody who has no address there yet, or whose
 * link is elsewhere: it hears what comes in on the link for one UDP port, whatever MAC and address it is for, before a macvlan link on
 * it takes it away (`ETH_P_ALL` comes before rx_handler in __netif_receive_skb_core()). It does not make the link promiscuous.
 */
import { close } from 'node:fs';
import type { FramedDatagram, LinkTap } from './kernel.ts';
import { KernelError } from './kernel.ts';
import { openPacketSocket, SOCKADDR_LL_LENGTH, VLAN_TAG_PRESENT } from './packet-socket.ts';
import type { Instruction, Syscalls } from './syscall.ts';
import { readUdpFrame, udpFrame } from './udp-frame.ts';

const FRAME_MAX = 65_536;

/** @throws KernelError ENODEV when there is no such link, ENETDOWN when it is down, EPERM without CAP_NET_RAW. */
export function openLinkTap(sys: Syscalls, link: string, port: number): LinkTap {
  const { fd, to } = openPacketSocket(sys, link, udpToPort(port), false);
  return tapOf(sys, fd, to);
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
