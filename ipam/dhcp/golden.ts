/**
 * Two frames of an exchange between this client and dnsmasq 2.90, as tcpdump had them. What they say is read from `tshark -V` (Wireshark
 * 4.0), which finds all checksums right, but that of UDP in the second: dnsmasq's kernel leaves it to a NIC that is not there.
 */
const zeros = (bytes: number): string => '00'.repeat(bytes);
const frame = (head: string, options: string, padding = 0): Buffer =>
  Buffer.from(head + zeros(202) + options + zeros(padding), 'hex');

/** Transaction ID 0x71e1b057, Broadcast flag, Client MAC fe:44:9a:95:2f:cf, (53) Discover, (61) IAID e08e400e DUID link-layer, (57) 1500, (55) 9 items. */
export const DISCOVER = frame(
  'fffffffffffffe449a952fcf08004500014800000000401179a600000000ffffffff00440043' +
    '0134abf30101060071e1b0570000800000000000000000000000000000000000fe449a952fcf',
  '638253633501013d0fffe08e400e00030001fe449a952fcf390205dc3709017903060f1a333a3bff',
  24,
);

/** Your IP address 10.20.0.102, (54) 10.20.0.9, (51) 120 s, (58) 3 s, (59) 6 s, (1) 255.255.255.0, (3) 10.20.0.9, (121) 10.99.0.0/16-10.20.0.77 default-10.20.0.9, (26) 1400, (6) 10.20.0.53. */
export const ACK = frame(
  'ffffffffffffaa5beb4e594e080045c00152c1b700004011ad070a140009ffffffff00430044' +
    '013e0b6c0201060071e1b05700028000000000000a1400660a14000900000000fe449a952fcf',
  '6382536335010536040a1400093304000000783a04000000033b04000000060104ffffff001c040a' +
    '1400ff03040a140009790c100a630a14004d000a1400091a02057806040a140035ff',
);

/** Of Ethernet, IPv4 and UDP. */
export const HEADERS = 14 + 20 + 8;
