/** The one registry of errors that a user can see. `docs/errors.md` explains each; a test holds the two equal. */

export const ERROR_CODES = {
  /** A request that cannot be decoded: the message names the field and what would be right. */
  'request-invalid': 400,
  /** An option of a network or endpoint with a value that cannot be used. */
  'option-invalid': 400,
  /** A subnet, gateway or address that cannot be used. */
  'address-invalid': 400,
  'network-unknown': 404,
  'endpoint-unknown': 404,
  'sandbox-unknown': 404,
  'pool-unknown': 404,
  'driver-unknown': 404,
  /** The same id or name exists with other contents. */
  'network-conflict': 409,
  'endpoint-conflict': 409,
  'sandbox-conflict': 409,
  /** Still in use: endpoints on a network, a joined endpoint, addresses in a pool. */
  'network-busy': 409,
  'endpoint-busy': 409,
  'sandbox-busy': 409,
  'pool-overlap': 409,
  'address-taken': 409,
  /** A port of the host that somebody holds: the message names address, port and who. */
  'port-taken': 409,
  'pool-exhausted': 409,
  /** No DHCP server gave an address in time; nothing was made. */
  'lease-unanswered': 504,
  /** The kernel refused: carries operation, errno and the kernel's own words. */
  kernel: 500,
  /** The state could not be made durable; nothing was changed. */
  store: 500,
  internal: 500,
  /** The daemon is stopping, or not ready yet. */
  unavailable: 503,
  /** The store that the hosts of the cluster share does not answer; nothing was given. */
  'cluster-unreachable': 503,
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An error for a person to read: `message` is a whole sentence that names the value and what would be right. */
export class CnmError extends Error {
  override readonly name = 'CnmError';
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
  /** HTTP status that the admin API answers with. */
  get status(): number {
    return ERROR_CODES[this.code];
  }
}

/** Of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
