/** `config.json` of the managed plugin: what Docker gives it, each with the reason why. */

/** The folder of the managed plugin whose contents outlive `docker plugin upgrade` and are visible to the host. */
export const DATA = '/data';

interface Setting {
  readonly name: string;
  readonly description: string;
  readonly value: string;
}

const SETTINGS: readonly Setting[] = [
  {
    name: 'DRIVER',
    description: 'The driver that this installation serves: bridge, overlay or macvlan.',
    value: 'bridge',
  },
  {
    name: 'SCOPE',
    description:
      'local: each host makes its networks itself. global: Docker Swarm makes them on its nodes. Empty: global where the driver can (overlay).',
    value: '',
  },
  { name: 'LOG_LEVEL', description: 'trace, debug, info, warn, error, fatal or silent.', value: 'info' },
  {
    name: 'DOCKER_SOCKET',
    description: "Path of Docker's API inside the plugin, below the folder that the mount `run` shows.",
    value: '/run/docker.sock',
  },
  {
    name: 'DEFAULT_ADDRESS_POOLS',
    description:
      'Where the IPAM takes subnets from: base=10.64.0.0/12,size=24;base=fd00:1::/48,size=64. Empty: its own.',
    value: '',
  },
  { name: 'ADDRESS_REST', description: 'Seconds for which a freed address rests.', value: '60' },
  {
    name: 'RESOLV_CONF',
    description:
      'Names the servers that other names are asked of. Below /run it is followed as it changes: /run/systemd/resolve/resolv.conf.',
    value: '/etc/resolv.conf',
  },
  {
    name: 'DNS_LISTEN',
    description:
      'Where the host may ask for the names of all networks: ADDRESS or ADDRESS#PORT, comma-separated.',
    value: '',
  },
  {
    name: 'CLUSTER',
    description:
      'etcd://host:2379[,host…]: the etcd in which hosts share the address space cnm-global. Empty: none.',
    value: '',
  },
  {
    name: 'DEFAULT_SPACE',
    description: 'cnm-local or cnm-global: the address space of networks that say nothing of it.',
    value: 'cnm-local',
  },
  {
    name: 'ADVERTISE',
    description: 'Address at which the other hosts of a cluster reach this one.',
    value: '',
  },
  {
    name: 'OVERLAY_KEYS',
    description:
      'File with the secrets of encrypted overlay networks, below /run or /data; in a cluster they need none. Empty: none.',
    value: '',
  },
  {
    name: 'OVERLAY_REKEY',
    description: 'Seconds for which encrypted overlay networks send with one key.',
    value: '3600',
  },
];

export function pluginConfig(): object {
  return {
    description: 'Container networks with a bridge of their own, and the addresses for them (cnm).',
    documentation: 'README.md of the project; `cnm --help`',
    entrypoint: [
      '/bin/node',
      '/app/main.js',
      ...['--state-dir', `${DATA}/state`, '--run-dir', `${DATA}/run`, '--admin-socket', `${DATA}/cnm.sock`],
    ],
    workdir: '/',
    interface: {
      types: ['docker.networkdriver/1.0', 'docker.ipamdriver/1.0'],
      socket: 'cnm.sock',
    },
    // The bridges and veth pairs are the host's: Docker moves one end into the container's namespace from there.
    network: { type: 'host' },
    // Docker keeps this folder over an upgrade, and what is mounted in it (sandboxes of ours) is seen by the host.
    propagatedMount: DATA,
    mounts: [
      {
        // Docker's API socket, asked for what Docker has forgotten, and the namespaces of its containers, for `cnm … inspect`.
        // The whole of /run, because a bind whose source does not exist keeps a plugin from starting and this one always
        // does; rslave, so that namespaces of later containers show up.
        name: 'run',
        description: "Docker's API socket and the containers' network namespaces",
        source: '/run',
        destination: '/run',
        type: 'bind',
        options: ['rbind', 'ro', 'rslave'],
        settable: ['source'],
      },
    ],
    env: SETTINGS.map((setting) => ({ ...setting, settable: ['value'] })),
    linux: {
      // Beside what every plugin has from Docker, of which CAP_NET_BIND_SERVICE serves to hold published ports below 1024.
      capabilities: [
        // Links, addresses, routes and firewall rules of the host.
        'CAP_NET_ADMIN',
        // setns(2) into a network namespace, the bind mount that keeps one, and making /proc/sys writable in our own
        // mount namespace (Docker mounts it read-only): forwarding and a bridge's IPv6 settings are sysctls.
        'CAP_SYS_ADMIN',
      ],
      allowAllDevices: false,
      devices: [
        {
          // Overlay networks with vtep=userspace. Devices must exist, or the plugin does not start: hence settable.
          name: 'tun',
          description: 'TAP devices for tunnels in user space; /dev/null where there is none',
          path: '/dev/net/tun',
          settable: ['path'],
        },
      ],
    },
  };
}
