/** Networks that are made on every host. */

/** What the hosts of the cluster say of a network that is to be on all of them, or is to be so no longer (`withdrawn`). */
export interface PublishedView {
  readonly name: string;
  readonly state: 'published' | 'withdrawn';
  /** The host where that was said. */
  readonly by: string;
  readonly hosts: readonly HostOutcomeView[];
  /** Each host that there is has it, as far as it can without Docker; or does not have it any more. */
  readonly complete: boolean;
}

export interface HostOutcomeView {
  readonly id: string;
  readonly host: string;
  /**
   * `ok` made, `exists` there already, `refused`, `waiting` for its Docker Engine, `no-docker` none there and not to be
   * had without; withdrawn: `removed` or never there, `own` not made by
   * publishing and left, `kept` in use; `unheard`: the host has not answered.
   */
  readonly outcome:
    'ok' | 'exists' | 'refused' | 'waiting' | 'no-docker' | 'removed' | 'own' | 'kept' | 'unheard';
  readonly message?: string;
}
