/**
 * Rates and latencies of the time between two looks, from counters that only grow. Pure.
 *
 * Time is that of whoever counted (`uptime_ms`): however late a report reaches us, its counters and its
 * time belong together.
 */

/** Counters of one process at one moment. */
export type Counted = { readonly uptime_ms: number };

/** The last two different looks at a process; `before` is missing at first, and after its restart. */
export type Pair<T extends Counted> = { readonly now: T; readonly before: T | undefined };

/** The pair after one more look. A look that brings nothing new leaves it as it is. */
export function nextPair<T extends Counted>(
  pair: Pair<T> | undefined,
  now: T | null | undefined,
): Pair<T> | undefined {
  if (now === null || now === undefined) return undefined;
  if (pair === undefined || now.uptime_ms < pair.now.uptime_ms) return { now, before: undefined };
  if (now.uptime_ms === pair.now.uptime_ms) return pair;
  return { now, before: pair.now };
}

/** No more digits than mean something. */
export const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

/** Per second; null as long as there is nothing to compare with. */
export function ratePerSecond<T extends Counted>(
  { now, before }: Pair<T>,
  countOf: (counted: T) => number,
): number | null {
  if (before === undefined) return null;
  const seconds = (now.uptime_ms - before.uptime_ms) / 1_000;
  return rounded(Math.max(0, countOf(now) - countOf(before)) / seconds);
}

/**
 * Below which a share `quantile` of what happened in between stayed, milliseconds; within a bucket it
 * is taken to be spread evenly. Null when nothing happened; the last bound for what is beyond it.
 */
export function quantileMs<T extends Counted>(
  { now, before }: Pair<T>,
  countsOf: (counted: T) => readonly number[],
  quantile: number,
  boundsMs: readonly number[],
): number | null {
  if (before === undefined) return null;
  const earlier = countsOf(before);
  const counts = countsOf(now).map((count, at) => Math.max(0, count - (earlier[at] ?? 0)));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = total * quantile;
  let below = 0;
  for (const [at, count] of counts.entries()) {
    const upper = boundsMs[at];
    if (upper === undefined) break;
    if (count > 0 && below + count >= rank) {
      const lower = boundsMs[at - 1] ?? 0;
      return rounded(lower + ((upper - lower) * (rank - below)) / count);
    }
    below += count;
  }
  return boundsMs.at(-1) ?? null;
}
