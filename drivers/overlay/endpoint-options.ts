/** Driver options of one endpoint (`--network name=n,driver-opt=k=v`): the overlay has none of its own yet. */
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec } from '../../cnm/model.ts';
import { quote } from '../../cnm/option-values.ts';

/** Docker's own, whatever the driver. */
const DOCKERS_OWN = ['com.docker.network.endpoint.sysctls'];

/** @throws CnmError `option-invalid`, by name. */
export function endpointOptions({ options }: EndpointSpec): void {
  const unknown = Object.keys(options).find((name) => !DOCKERS_OWN.includes(name));
  if (unknown === undefined) return;
  throw new CnmError('option-invalid', `cnm-overlay does not know the endpoint's option ${quote(unknown)}`);
}
