/**
 * Loaded before a daemon whose host's clock is wrong (`node --import`): with CNM_LAB_CLOCK set, the time of day as the program reads it is so
 * many seconds ahead, or behind. The monotonic clock is as it was, as on a host whose clock has been set.
 */
const { CNM_LAB_CLOCK } = process.env;
if (CNM_LAB_CLOCK !== undefined) {
  const Real = Date;
  const by = Number(CNM_LAB_CLOCK) * 1000;
  globalThis.Date = new Proxy(Real, {
    construct: (target, words) =>
      Reflect.construct(target, words.length === 0 ? [target.now() + by] : words) as Date,
    get: (target, name) =>
      name === 'now' ? () => target.now() + by : (Reflect.get(target, name) as unknown),
  });
}
