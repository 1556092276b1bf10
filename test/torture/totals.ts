/** What a run of torture has come to: faults, operations, unavailability, violations. */
import { type Longest, NO_PAUSE } from "./checks/machine-pauses.ts";
import { count } from "./load/workload.ts";

/** `what`: where and when it was, and what was being done to the cluster. */
export type Stretch = { readonly what: string; readonly lengthMs: number };

export type Lengths = { readonly shortestMs: number; readonly longestMs: number };

const NO_STRETCH: Stretch = { what: "", lengthMs: 0 };

export class Totals {
  readonly faults = new Map<string, number>();
  /** By kind, as far as faults of a kind last differently long. */
  readonly faultLengths = new Map<string, Lengths>();
  /** By `kind outcome`. */
  readonly operations = new Map<string, number>();
  /** By error code. */
  readonly errors = new Map<string, number>();
  readonly violations: string[] = [];
  /** The longest stretch without an acknowledged write, of each probed vshard in each round. */
  readonly stretches: number[] = [];
  worstStretch: Stretch = NO_STRETCH;
  /** Without any acknowledged write at all, wherever. */
  worstOfAll: Stretch = NO_STRETCH;
  /** From the end of the faults until every vshard had taken a write, for each round. */
  readonly recoveriesMs: number[] = [];
  /** Of the machine itself. */
  longestPause: Longest = NO_PAUSE;
  rounds = 0;
  clusters = 0;
  keysJudged = 0;
  hashesCompared = 0;
  /** That watchers were told of, repeats included. */
  watchEvents = 0;
  watchConnections = 0;
  watchResyncs = 0;
  unknownSources = 0;
  checkMs = 0;
  joins = 0;
  drainsBegun = 0;
  drains = 0;
  cancelledDrains = 0;
  readonly #begunMs = performance.now();

  get minutes(): number {
    return (performance.now() - this.#begunMs) / 60_000;
  }

  get operationsCount(): number {
    return sum(this.operations);
  }

  get faultsCount(): number {
    return sum(this.faults);
  }

  add(target: Map<string, number>, counts: ReadonlyMap<string, number>): void {
    for (const [name, by] of counts) count(target, name, by);
  }

  addPauses({ timer, sync, proxy }: Longest): void {
    const longest = this.longestPause;
    this.longestPause = {
      timer: Math.max(longest.timer, timer),
      sync: Math.max(longest.sync, sync),
      proxy: Math.max(longest.proxy, proxy),
    };
  }

  /** Shown with the kinds that have struck, also when it never does. */
  mayStrike(kind: string): void {
    count(this.faults, kind, 0);
  }

  struck(kind: string, lengthMs: number): void {
    count(this.faults, kind);
    const { shortestMs, longestMs } = this.faultLengths.get(kind) ?? {
      shortestMs: lengthMs,
      longestMs: lengthMs,
    };
    this.faultLengths.set(kind, {
      shortestMs: Math.min(shortestMs, lengthMs),
      longestMs: Math.max(longestMs, lengthMs),
    });
  }

  violated(what: string): void {
    this.violations.push(what);
  }
}

const sum = (counts: ReadonlyMap<string, number>): number => {
  let total = 0;
  for (const count of counts.values()) total += count;
  return total;
};

/** Of unsorted numbers; 0 of none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.ceil((percent / 100) * sorted.length) - 1;
  return sorted[Math.max(0, rank)] ?? 0;
}
