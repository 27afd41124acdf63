/** Loads modules, and with them what they import, so that Node compiles them. Of a test file no test is run. See vm-compile.sh. */
import { registerHooks } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const INERT = 'const inert = new Proxy(() => inert, { get: () => inert }); export default inert;';

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === 'tap'
      ? { url: `data:text/javascript,${encodeURIComponent(INERT)}`, shortCircuit: true }
      : next(specifier, context),
});

for (const path of process.argv.slice(2)) await import(pathToFileURL(resolve(path)).href);
