/** Datagrams of somebody who has no address on a link yet, or whose link is elsewhere, by a packet socket. */
import type { LinkTap } from './kernel.ts';
import { openFrameSocket } from './frame-socket.ts';
import { VLAN_TAG_PRESENT } from './packet-socket.ts';
import type { Instruction, Syscalls } from './syscall.ts';
import { readUdpFrame, udpFrame } from './udp-frame.ts';

/** @throws KernelError ENODEV when there is no such link, EPERM without CAP_NET_RAW. */
export function openLinkTap(sys: Syscalls, link: string, port: number): LinkTap {
  const socket = openFrameSocket(sys, link, udpToPort(port));
  return {
    ...socket,
    send: (datagram) => socket.send(udpFrame(datagram)),
    receive() {
      for (;;) {
        const frame = socket.receive();
        if (frame === undefined) return undefined;
        const datagram = readUdpFrame(frame);
        if (datagram !== undefined) return datagram;
      }
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
