/**
 * How long the main threads of processes waited for a processor, as Linux counts it
 * (`/proc/PID/schedstat`: time on a processor, time waiting for one, in nanoseconds).
 *
 * A node that does not get to run cannot send a heartbeat. Where other programs use the machine, that is
 * what long stretches are about, and without the figure they look like faults of the cluster. Nothing is
 * counted elsewhere than on Linux.
 */
import { readFileSync } from "node:fs";

const SAMPLE_MS = 250;
const NANOSECONDS_PER_MS = 1e6;
/** Remembered; then the oldest half is forgotten. */
const WAITS_MAX = 50_000;

type Wait = { readonly pid: number; readonly atMs: number; readonly waitedMs: number };

export class RunDelays {
  #waits: Wait[] = [];
  readonly #lastMs = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;

  /** @param pids of the processes that run now. */
  constructor(pids: () => readonly number[]) {
    this.#timer = setInterval(() => {
      for (const pid of pids()) {
        const waitedMs = readWaitedMs(pid);
        if (waitedMs !== undefined) this.note(pid, performance.now(), waitedMs);
      }
    }, SAMPLE_MS);
  }

  /** `waitedMs` since the process began. */
  note(pid: number, atMs: number, waitedMs: number): void {
    const sinceLastMs = waitedMs - (this.#lastMs.get(pid) ?? 0);
    this.#lastMs.set(pid, waitedMs);
    if (this.#waits.length >= WAITS_MAX) this.#waits.splice(0, WAITS_MAX / 2);
    this.#waits.push({ pid, atMs, waitedMs: sinceLastMs });
  }

  /** Of the process that waited longest between two times of `performance.now()`. */
  within(fromMs: number, untilMs: number): number {
    const sums = new Map<number, number>();
    for (const { pid, atMs, waitedMs } of this.#waits) {
      if (atMs < fromMs || atMs > untilMs + SAMPLE_MS) continue;
      sums.set(pid, (sums.get(pid) ?? 0) + waitedMs);
    }
    return Math.max(0, ...sums.values());
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

export function readWaitedMs(pid: number): number | undefined {
  try {
    const [, waited] = readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ");
    return Number(waited) / NANOSECONDS_PER_MS;
  } catch {
    return undefined;
  }
}
