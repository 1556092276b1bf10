/**
 * How long the machine itself stood still: a timer that came late, a small synced write that took long.
 *
 * Stretches without an acknowledged write are told next to it. A machine that other programs keep busy,
 * or whose disk pauses, holds every process up, and that is not the cluster's doing.
 */
import { closeSync, fsync, type NoParamCallback, openSync, writeSync } from "node:fs";
import { join } from "node:path";

const TIMER_MS = 50;
/** Between two synced writes. */
const SYNC_PAUSE_MS = 250;
/** What is shorter is no pause. */
const PAUSE_MS_LEAST = 100;
/** Remembered; then the oldest half is forgotten. */
const PAUSES_MAX = 10_000;

type Kind = "timer" | "sync" | "proxy";

type Pause = { readonly kind: Kind; readonly fromMs: number; readonly untilMs: number };

/** `proxy`: the thread that carries the cluster's traffic did not get to run. */
export type Longest = Readonly<Record<Kind, number>>;

export const NO_PAUSE: Longest = { timer: 0, sync: 0, proxy: 0 };

export class MachinePauses {
  #pauses: Pause[] = [];
  readonly #file: number;
  readonly #timer: NodeJS.Timeout;
  #syncTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param directory on the disk that is looked at. */
  constructor(directory: string) {
    this.#file = openSync(join(directory, "machine-pauses"), "w");
    let lastMs = performance.now();
    this.#timer = setInterval(() => {
      const nowMs = performance.now();
      this.note("timer", lastMs + TIMER_MS, nowMs);
      lastMs = nowMs;
    }, TIMER_MS);
    this.#sync();
  }

  /** The longest of each kind that was going on between two times of `performance.now()`. */
  within(fromMs: number, untilMs: number): Longest {
    const longest = { ...NO_PAUSE };
    for (const pause of this.#pauses) {
      if (pause.fromMs > untilMs || pause.untilMs < fromMs) continue;
      longest[pause.kind] = Math.max(longest[pause.kind], pause.untilMs - pause.fromMs);
    }
    return longest;
  }

  note(kind: Kind, fromMs: number, untilMs: number): void {
    if (untilMs - fromMs < PAUSE_MS_LEAST) return;
    if (this.#pauses.length >= PAUSES_MAX) this.#pauses.splice(0, PAUSES_MAX / 2);
    this.#pauses.push({ kind, fromMs, untilMs });
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    if (this.#syncTimer === undefined) return;
    clearTimeout(this.#syncTimer);
    closeSync(this.#file);
  }

  #sync(): void {
    this.#syncTimer = undefined;
    const begunMs = performance.now();
    writeSync(this.#file, `${begunMs}\n`, 0);
    const onSynced: NoParamCallback = () => {
      this.note("sync", begunMs, performance.now());
      if (this.#isClosed) closeSync(this.#file);
      else this.#syncTimer = setTimeout(() => this.#sync(), SYNC_PAUSE_MS);
    };
    fsync(this.#file, onSynced);
  }
}
