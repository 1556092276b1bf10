/** Words for people: what runs did, which faults met which states, and how to repeat a failure. */
import { EVENT_NAMES, type EventName, FAULT_NAMES, STATE_NAMES } from "./kinds.ts";
import type { RunFailure, RunSpec } from "./run.ts";
import { COUNT_NAMES, type Statistics } from "./statistics.ts";

const grouped = (value: number): string => value.toLocaleString("en");

/** A table of counts, faults against states, without the columns that no fault ever hit. */
export function coverageTable({ faults }: Statistics): string {
  const width = Math.max(...FAULT_NAMES.map((name) => name.length));
  const cellOf = (count: number): string => (count === 0 ? "–" : grouped(count));
  const cellWidth = Math.max(...faults.flat().map((count) => cellOf(count).length)) + 1;
  const columns = [...STATE_NAMES, "all"];
  const lines = columns.map((name, i) => {
    const marks = columns.map((_, at) => (at <= i ? "│" : " ")).slice(0, i);
    return `${" ".repeat(width)} ${[...marks, "┌"].map((mark) => mark.padStart(cellWidth)).join("")} ${name}`;
  });
  const rows = FAULT_NAMES.map((name, fault) => {
    const cells = columns.map((_, i) => cellOf(faults[fault]![i]!).padStart(cellWidth));
    return `${name.padEnd(width)} ${cells.join("")}`;
  });
  return [...lines, ...rows].join("\n");
}

export function summary(statistics: Statistics, seconds: number, seedsRun: number): string {
  const events = statistics.eventCount;
  const rate = grouped(Math.round(events / seconds));
  const kinds = EVENT_NAMES.map((name, i) => `${name} ${grouped(statistics.events[i]!)}`);
  const counts = COUNT_NAMES.map((name) => `  ${name}: ${grouped(statistics.counts[name])}`);
  return [
    `${grouped(seedsRun)} seeds, ${grouped(events)} events in ${seconds.toFixed(1)} s, ${rate} events/s`,
    `events: ${kinds.join(", ")}`,
    ...counts,
    "faults, by the state of the replica they hit:",
    coverageTable(statistics),
  ].join("\n");
}

/** Arguments of the command line that repeat exactly this run. */
export function replayCommand({ seed, profile, events, without, only }: RunSpec): string {
  const parts = ["npm run sim --", `--seed ${seed}`, `--profile ${profile}`];
  if (events !== undefined) parts.push(`--events ${events}`);
  if (without !== undefined && without.size > 0) parts.push(`--without ${[...without].join(",")}`);
  if (only !== undefined) parts.push(`--only ${showNumbers([...only])}`);
  return parts.join(" ");
}

export function failureLine({ violation, event }: RunFailure): string {
  return `event ${event} breaks "${violation.rule}": ${violation.message}`;
}

/** `1-3,7`. */
export function showNumbers(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; i++) {
    const first = numbers[i]!;
    while (numbers[i + 1] === numbers[i]! + 1) i++;
    parts.push(first === numbers[i] ? `${first}` : `${first}-${numbers[i]}`);
  }
  return parts.join(",");
}

/** @throws RangeError when it is no list as `showNumbers` makes it. */
export function readNumbers(text: string): ReadonlySet<number> {
  const numbers = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (match === null)
      throw new RangeError(`${JSON.stringify(part)} is no event or range of them`);
    const last = Number(match[2] ?? match[1]);
    for (let i = Number(match[1]); i <= last; i++) numbers.add(i);
  }
  return numbers;
}

/** @throws RangeError when a name is unknown. */
export function readEventNames(text: string): readonly EventName[] {
  return text.split(",").map((name) => {
    const known = EVENT_NAMES.find((each) => each === name);
    if (known === undefined) {
      throw new RangeError(`${JSON.stringify(name)} is no event: ${EVENT_NAMES.join(", ")}`);
    }
    return known;
  });
}
