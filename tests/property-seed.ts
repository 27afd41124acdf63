/** Loaded before each test file: with FC_SEED set, its property tests try the cases of that seed. One that fails prints the seed it had. */
const { FC_SEED } = process.env;
if (FC_SEED !== undefined) {
  const { default: fc } = await import('fast-check');
  fc.configureGlobal({ seed: Number(FC_SEED) });
}
