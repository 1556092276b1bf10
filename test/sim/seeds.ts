/** Which seeds a simulation runs: always the same first ones, and some that nobody has tried. */

/** `SIM_SEED=n` runs that one alone. */
export function seedsToRun(counts: {
  readonly fixed: number;
  readonly fresh: number;
  /** Seeds that once failed. */
  readonly known?: readonly number[];
}): number[] {
  const only = process.env.SIM_SEED;
  if (only !== undefined) return [Number(only)];
  const fixed = Array.from({ length: counts.fixed }, (_, i) => i + 1);
  const fresh = Array.from({ length: counts.fresh }, () => Math.floor(Math.random() * 2 ** 32));
  return [...(counts.known ?? []), ...fixed, ...fresh];
}
