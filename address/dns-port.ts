/**
 * Where the resolver listens on gateway addresses (dns/doors.ts), and where the firewall leads what containers send to port 53 there
 * (kernel/chains.ts): so that neither a server of the host's on 0.0.0.0:53 nor a container that publishes port 53 meets with it. It cannot itself
 * be published on all addresses, so it is one that nobody asks for: above the kernel's ephemeral ports (32768 to 60999) and registered to nobody.
 */
export const GATEWAY_DNS_PORT = 61053;
