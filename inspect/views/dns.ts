/** Names. */
import type { DoorView } from '../../dns/doors.ts';
import type { NameView, UpstreamView } from '../../dns/service.ts';

/** GET /v1/dns. Servers and upstreams only where no network was asked for. */
export interface DnsView {
  readonly names: readonly NameView[];
  /** Where the resolver is to be asked. */
  readonly servers: readonly DoorView[];
  readonly upstreams: readonly UpstreamView[];
}

/** Body of POST /v1/dns/query. */
export interface DnsQueryRequest {
  readonly name: string;
  readonly type: string;
  /** Sandbox or container; absent: the host. */
  readonly from?: string | undefined;
}
