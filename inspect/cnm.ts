#!/usr/bin/env node
/** The `cnm` command. Loads only the subject that is asked for, so that it answers before one notices. */
import { Command, CommanderError } from 'commander';
import { ownVersion } from './cli/own-version.ts';
import { type Terminal, terminal } from './cli/terminal.ts';

/** Exit statuses, as docs/operations.md lists them. */
const ERROR = 1;
const USAGE = 2;

interface Subject {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<(command: Command, terminal: Terminal) => void>;
}

const SUBJECTS: readonly Subject[] = [
  {
    name: 'network',
    summary: 'list, inspect, create and remove networks, publish them on all hosts of a cluster',
    load: async () => (await import('./cli/network.ts')).networkCommands,
  },
  {
    name: 'endpoint',
    summary: 'list and inspect endpoints, publish their ports',
    load: async () => (await import('./cli/endpoint.ts')).endpointCommands,
  },
  {
    name: 'sandbox',
    summary: 'list, inspect, create, fill, enter and remove sandboxes',
    load: async () => (await import('./cli/sandbox.ts')).sandboxCommands,
  },
  {
    name: 'port',
    summary: 'list published ports, as docker port does',
    load: async () => (await import('./cli/port.ts')).portCommand,
  },
  {
    name: 'ipam',
    summary: 'list pools and addresses, say who holds one, find and release leaks',
    load: async () => (await import('./cli/ipam.ts')).ipamCommands,
  },
  {
    name: 'firewall',
    summary: 'say what the firewall does for a network, and what published ports have let in',
    load: async () => (await import('./cli/firewall.ts')).firewallCommands,
  },
  {
    name: 'overlay',
    summary: 'test the ways between the hosts of an overlay network, rotate keys',
    load: async () => (await import('./cli/overlay.ts')).overlayCommands,
  },
  {
    name: 'dns',
    summary: 'list names, ask for one and be told why, follow every query',
    load: async () => (await import('./cli/dns.ts')).dnsCommands,
  },
  {
    name: 'doctor',
    summary: 'say what differs between what should be and what the kernel has',
    load: async () => (await import('./cli/doctor.ts')).doctorCommand,
  },
  {
    name: 'version',
    summary: 'the versions of command and daemon',
    load: async () => (await import('./cli/version.ts')).versionCommand,
  },
];

async function main(args: readonly string[]): Promise<number> {
  const own = terminal(process);
  const program = new Command('cnm')
    .description('Container networks, endpoints and sandboxes of the CNM suite')
    .version(`cnm ${ownVersion()}`, '--version', 'the version of this command')
    .enablePositionalOptions()
    .exitOverride();
  const asked = args.find((argument) => SUBJECTS.some(({ name }) => name === argument));
  for (const { name, summary, load } of SUBJECTS) {
    const command = program.command(name).description(summary);
    if (name === asked) (await load())(command, own);
  }
  try {
    await program.parseAsync(asked === 'network' ? goBooleans(args) : args, { from: 'user' });
    return own.status;
  } catch (error) {
    return failure(error, own);
  }
}

/** Docker's flags are Go's: `--ipv6` alone is true and never takes the next word, as an optional value here would. */
function goBooleans(args: readonly string[]): readonly string[] {
  return args.map((argument) => (/^--ipv[46]$/.test(argument) ? `${argument}=true` : argument));
}

function failure(error: unknown, own: Terminal): number {
  if (error instanceof CommanderError) {
    // Commander has printed what is wrong. Help that was asked for is no error; help for want of a command is.
    return error.exitCode === 0 ? 0 : USAGE;
  }
  own.complain(error);
  return ERROR;
}

process.exitCode = await main(process.argv.slice(2));
