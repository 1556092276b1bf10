/** What a load generator is given and what it gives back, whichever it is. */
import type { Target } from "./client.ts";
import type { Dataset } from "./dataset.ts";
import type { Work } from "./options.ts";

export type LoadOrder = {
  readonly target: Target;
  readonly dataset: Dataset;
  readonly work: Work;
  readonly connections: number;
  readonly durationS: number;
  readonly seed: number;
};

/** Requests that had no success, by what became of them. */
export type LoadErrors = {
  /** Answers other than 2xx (wrk: 400 and above). */
  readonly status: number;
  /** Connections refused or broken. */
  readonly socket: number;
  readonly timeout: number;
};

export type LoadResult = {
  readonly requests: number;
  readonly durationMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  readonly errors: LoadErrors;
};

export interface LoadGenerator {
  /** Name and version. */
  readonly description: string;
  /**
   * Loads the target and resolves when done.
   * @throws when the generator itself fails or does not end in time
   */
  run(order: LoadOrder, signal: AbortSignal): Promise<LoadResult>;
}

/** Silence after which a generator counts a request as failed. */
export const LOAD_TIMEOUT_S = 10;

/** How many of the requests write, from 0 to 1. */
export const WRITE_SHARE = {
  ...{ put: 1, get: 0, mixed: 0.5 },
  ...{ batch: 1, scan: 0 },
} as const satisfies Record<Work, number>;

/** Keys that one request of a batch or a scan is about. */
export const KEYS_PER_REQUEST = 100;

/** The keys of a batch: different ones, as etcd demands, from all over the dataset. */
export function batchKeys(start: number, keyCount: number): readonly number[] {
  const count = Math.min(KEYS_PER_REQUEST, keyCount);
  const step = Math.floor(keyCount / count);
  return Array.from({ length: count }, (_, i) => (start + i * step) % keyCount);
}

export function errorCount(errors: LoadErrors): number {
  return errors.status + errors.socket + errors.timeout;
}

/** A slice counts only when something was answered and nothing failed. */
export function isValid(result: LoadResult): boolean {
  return result.requests > 0 && errorCount(result.errors) === 0;
}

export function requestsPerSecond(result: LoadResult): number {
  return result.requests / (result.durationMs / 1000);
}
