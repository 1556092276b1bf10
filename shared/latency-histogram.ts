/**
 * Durations counted in buckets: what a module on a hot path keeps, and metrics read when somebody asks.
 *
 * Bounds go up in steps of 1, 2.5 and 5, so that common targets (10 ms, 100 ms) are bounds themselves and
 * the share of operations below one is exact. An observation writes two numbers into typed arrays.
 */

/** Inclusive upper bounds; behind the last one there is a bucket without. */
export const LATENCY_BOUNDS_MS: readonly number[] = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000,
];

export class LatencyHistogram {
  /** Observations of each bucket by itself, the last one without a bound. Only grows. */
  readonly buckets = new Float64Array(LATENCY_BOUNDS_MS.length + 1);
  sumMs = 0;

  observe(durationMs: number): void {
    let at = 0;
    while (at < LATENCY_BOUNDS_MS.length && durationMs > LATENCY_BOUNDS_MS[at]!) at++;
    this.buckets[at]!++;
    this.sumMs += durationMs;
  }

  get count(): number {
    let count = 0;
    for (const bucket of this.buckets) count += bucket;
    return count;
  }

  /**
   * The bound that a share `quantile` of all observations does not exceed; the last bound for what is
   * beyond it, 0 without observations.
   */
  quantileMs(quantile: number): number {
    const rank = Math.ceil(this.count * quantile);
    if (rank === 0) return 0;
    let seen = 0;
    for (let at = 0; at < LATENCY_BOUNDS_MS.length; at++) {
      seen += this.buckets[at]!;
      if (seen >= rank) return LATENCY_BOUNDS_MS[at]!;
    }
    return LATENCY_BOUNDS_MS.at(-1)!;
  }
}
