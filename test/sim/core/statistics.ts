/** What happened in a run, in numbers that add up over runs. */
import { EVENT_NAMES, FAULT_NAMES, STATE_NAMES } from "./kinds.ts";

/** Everything counted apart from events and faults. */
export const COUNT_NAMES = [
  "elections",
  "entries committed",
  "proposals accepted",
  "proposals answered",
  "proposals overwritten",
  "reads asked",
  "reads served",
  "reads dropped",
  "changes accepted",
  "changes refused",
  "configurations committed",
  "joint configurations committed",
  "members joined",
  "hand-overs started",
  "snapshots offered",
  "snapshots received",
  "snapshots installed",
  "logs reset at a start",
  "batches lost",
  "batches torn",
  "compactions",
  "pauses",
  "replicas gone",
  "runs healed",
  "healing rounds",
] as const;
export type CountName = (typeof COUNT_NAMES)[number];

export class Statistics {
  readonly events: number[] = new Array<number>(EVENT_NAMES.length).fill(0);
  /** Of each fault, how often it hit a replica in each state; then how often it happened at all. */
  readonly faults: number[][] = FAULT_NAMES.map(() =>
    new Array<number>(STATE_NAMES.length + 1).fill(0),
  );
  readonly counts: Record<CountName, number> = Object.fromEntries(
    COUNT_NAMES.map((name) => [name, 0]),
  ) as Record<CountName, number>;

  get eventCount(): number {
    return this.events.reduce((sum, count) => sum + count, 0);
  }

  add(other: StatisticsData): void {
    other.events.forEach((count, i) => {
      this.events[i]! += count;
    });
    other.faults.forEach((row, fault) => {
      row.forEach((count, i) => {
        this.faults[fault]![i]! += count;
      });
    });
    for (const name of COUNT_NAMES) this.counts[name] += other.counts[name];
  }
}

/** What travels between threads. */
export type StatisticsData = Pick<Statistics, "events" | "faults" | "counts">;
