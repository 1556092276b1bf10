/**
 * Gives back what only the start of a program has needed.
 *
 * Loading and compiling modules leaves garbage of some 20 MiB in each thread, and a young generation that has
 * grown to hold it. V8 would give neither back as long as the program idles, since nothing forces it to collect.
 */
import { performance } from "node:perf_hooks";
import type { Clock } from "#shared/clock.ts";

/** V8's own, which the flag `--expose-gc` shows. */
type CollectGarbage = (options: {
  readonly type: "major";
  readonly execution: "sync";
  /** Also shrinks the young generation, and returns free pages to the system. */
  readonly flavor: "last-resort";
}) => void;

const LOOK_MS = 1_000;
/** Of a look, in which the thread did something. */
const BUSY_PART_MAX = 0.1;
/** A program that was busy for so long has other garbage than that of its start. */
const LOOKS_MAX = 60;

export type CompactHeapParts = {
  readonly clock: Clock;
  /** By default V8's own, if the flag was given. */
  readonly gc?: CollectGarbage | undefined;
  /** The part of the time since it was last asked in which the thread did something. */
  readonly busyPart?: () => number;
};

/**
 * Collects all garbage of this thread once, and returns the memory to the system: in the first second of the
 * program's first minute in which the thread has next to nothing to do. It takes about 0.1 s, in which the thread does
 * nothing else. Does nothing where the flag was not given.
 */
export function compactHeapWhenIdle(parts: CompactHeapParts): void {
  const { clock, busyPart = busyPartOfThread() } = parts;
  const gc = "gc" in parts ? parts.gc : (globalThis as { gc?: CollectGarbage }).gc;
  if (gc === undefined) return;
  let looksLeft = LOOKS_MAX;
  const look = (): void => {
    looksLeft--;
    if (busyPart() <= BUSY_PART_MAX) {
      // V8 forgets the shapes of objects of which none is left, and what was compiled for them. Of Node's ticks none is
      // left as long as nothing waits, and each of the many that a request costs would be built by the runtime from
      // then on, for good: some 5 % of a gateway's time. So one waits.
      process.nextTick(() => {});
      gc({ type: "major", execution: "sync", flavor: "last-resort" });
    } else if (looksLeft > 0) clock.after(LOOK_MS, look);
  };
  clock.after(LOOK_MS, look);
}

function busyPartOfThread(): () => number {
  let before = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    return utilization;
  };
}
