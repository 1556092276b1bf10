/** The figures as text for people. The result file has every slice. */
import type { Machine } from "./machine.ts";
import type { Session } from "./session.ts";
import { type Cell, type Figures, type Ratio, type Summary, summarize } from "./statistics.ts";

const MIB = 1024 * 1024;

/** The load and figures for which the project has set itself goals. */
const GOAL_CONNECTIONS = 64;
const GOAL_VALUE_SIZE_BYTES = 256;
type Goal = {
  readonly work: Cell["work"];
  readonly what: "throughput" | "p99";
  readonly text: string;
  readonly holds: (ratio: number) => boolean;
};
/** Of the all-in-one against a single etcd. */
const GOALS: readonly Goal[] = [
  { work: "put", what: "throughput", text: "≥ 2", holds: (ratio: number) => ratio >= 2 },
  { work: "put", what: "p99", text: "≤ 0.5", holds: (ratio: number) => ratio <= 0.5 },
  { work: "get", what: "throughput", text: "≥ 4", holds: (ratio: number) => ratio >= 4 },
];
/** Of three nodes with a gateway against three members of etcd. */
const CLUSTER_GOALS: readonly Goal[] = [
  { work: "put", what: "throughput", text: "≥ 2", holds: (ratio: number) => ratio >= 2 },
  { work: "put", what: "p99", text: "≤ 1", holds: (ratio: number) => ratio <= 1 },
  { work: "get", what: "throughput", text: "≥ 3", holds: (ratio: number) => ratio >= 3 },
];
/** Of the all-in-one with everything on that guards data against one with nothing of it. */
const SECURE_GOALS: readonly Goal[] = [
  { work: "put", what: "throughput", text: "≥ 0.75", holds: (ratio: number) => ratio >= 0.75 },
];
/** Of the all-in-one with one request in a hundred traced against one with traces off. */
const TRACING_GOALS: readonly Goal[] = [
  { work: "put", what: "throughput", text: "≥ 0.97", holds: (ratio: number) => ratio >= 0.97 },
];
/** Of the same with wrong keys beside the load against itself without. */
const WRONG_KEY_GOALS: readonly Goal[] = [
  { work: "put", what: "p99", text: "≤ 2", holds: (ratio: number) => ratio <= 2 },
  { work: "get", what: "p99", text: "≤ 2", holds: (ratio: number) => ratio <= 2 },
];
const GOAL_START_MS = 2_000;
const GOAL_IDLE_RESIDENT_BYTES = 150 * MIB;
const GOAL_IDLE_CPU_PERCENT = 2;

export function machineText(
  machine: Machine,
  programs: {
    readonly minikv: string;
    /** Undefined when etcd is not loaded. */
    readonly etcd: string | undefined;
    readonly generator: string;
  },
): string {
  const rows: readonly (readonly [string, string])[] = [
    ["processor", `${machine.processor}, ${machine.cores} cores`],
    ["memory", `${(machine.memoryBytes / 1024 ** 3).toFixed(1)} GiB`],
    ["kernel", machine.kernel],
    [
      "data on",
      `${machine.fileSystem}; 4 KiB write + fdatasync ${machine.syncMedianMs.toFixed(3)} ms`,
    ],
    ["node", machine.node],
    ["minikv", programs.minikv],
    ["etcd", programs.etcd ?? "not loaded"],
    ["load", programs.generator],
  ];
  return rows.map(([name, text]) => `${name.padEnd(10)} ${text}\n`).join("");
}

export const tableHead = (peer: "etcd" | "bare" | "calm"): string => `
                     ┌───── minikv ─────────────┐  ┌────── ${peer} ──────────────┐   minikv : ${peer}
work  conns   value      req/s  p50 ms   p99 ms      req/s  p50 ms   p99 ms    req/s (min–max)      p99
`;

/** One line of the table. */
export function rowText(cell: Cell): string {
  const summary = summarize(cell);
  return `${[
    cell.work.padEnd(5),
    String(cell.connections).padStart(5),
    sizeText(cell.valueSizeBytes).padStart(7),
    figuresText(summary.minikv),
    figuresText(summary.peer),
    throughputRatioText(summary.throughputRatio),
    (summary.p99Ratio === undefined ? "–" : summary.p99Ratio.median.toFixed(2)).padStart(7),
  ].join(" ")}\n`;
}

function sizeText(sizeBytes: number): string {
  return sizeBytes >= 1024 && sizeBytes % 1024 === 0 ? `${sizeBytes / 1024} KiB` : `${sizeBytes} B`;
}

const FIGURES_WIDTH = 28;

function figuresText(figures: Figures | undefined): string {
  if (figures === undefined) return "–".padStart(FIGURES_WIDTH);
  if (figures.kind === "invalid") {
    const why = figures.errors > 0 ? `${figures.errors} errors` : "no answers";
    return `INVALID: ${why}`.padStart(FIGURES_WIDTH);
  }
  return [
    figures.perSecond.toFixed(0).padStart(10),
    figures.p50Ms.toFixed(2).padStart(8),
    figures.p99Ms.toFixed(2).padStart(8),
  ].join(" ");
}

function throughputRatioText(ratio: Ratio | undefined): string {
  const text =
    ratio === undefined
      ? "–"
      : `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`;
  return text.padStart(18);
}

/** Start, idle cost, memory under load, and how the goals stand. */
export function closingText(session: Session, options: GoalOptions): string {
  const lines = [...serverLines(session), ...goalLines(session, options)];
  return lines.map((line) => `${line}\n`).join("");
}

function serverLines(session: Session): string[] {
  const lines: string[] = [];
  for (const { server, valueSizeBytes, startMs, residentPeakBytes } of session.runs) {
    if (startMs === undefined) continue;
    const peak =
      residentPeakBytes === undefined ? "" : `, memory at most ${mebibytes(residentPeakBytes)}`;
    lines.push(
      `${server}, ${sizeText(valueSizeBytes)} values: first answer after ${startMs.toFixed(0)} ms${peak}`,
    );
  }
  for (const { server, seconds, residentBytes, cpuPercent } of session.idle) {
    lines.push(
      `${server}, idle for ${seconds.toFixed(0)} s: memory ${mebibytes(residentBytes)}, ` +
        `processor ${cpuPercent.toFixed(1)} % of one core`,
    );
  }
  return lines;
}

const mebibytes = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;

type GoalOptions = {
  readonly nodes: number;
  readonly secure: boolean;
  readonly tracing: boolean;
  readonly wrongKeysPerSecond: number;
};

function goalLines(session: Session, options: GoalOptions): string[] {
  const { nodes, secure, tracing, wrongKeysPerSecond } = options;
  const lines: string[] = [];
  const add = (text: string, met: boolean): void => {
    lines.push(`${met ? "met    " : "MISSED "} ${text}`);
  };
  const guessed = wrongKeysPerSecond > 0;
  const secureGoals = guessed ? WRONG_KEY_GOALS : SECURE_GOALS;
  const plainGoals = nodes === 1 ? GOALS : CLUSTER_GOALS;
  const goals = tracing ? TRACING_GOALS : secure ? secureGoals : plainGoals;
  const bare = secure || tracing;
  const peer = guessed ? "that without wrong keys" : bare ? "the bare one" : "etcd";
  for (const { work, what, text, holds } of goals) {
    const ratio = goalRatio(summaryFor(session, work), what);
    if (ratio === undefined) continue;
    const load = `${work}, ${GOAL_CONNECTIONS} connections, ${GOAL_VALUE_SIZE_BYTES} B`;
    add(`${load}: ${what} ${ratio.toFixed(2)} × ${peer} (goal ${text})`, holds(ratio));
  }
  // The others are of one process as it is by default.
  if (nodes > 1 || bare) return lines.length === 0 ? [] : ["", "goals:", ...lines];
  const start = session.runs.find(({ server }) => server === "minikv")?.startMs;
  if (start !== undefined) {
    add(
      `first answer after ${start.toFixed(0)} ms (goal ≤ ${GOAL_START_MS})`,
      start <= GOAL_START_MS,
    );
  }
  const idle = session.idle.find(({ server }) => server === "minikv");
  if (idle !== undefined) {
    const { residentBytes, cpuPercent } = idle;
    add(
      `idle memory ${mebibytes(residentBytes)} (goal ≤ ${mebibytes(GOAL_IDLE_RESIDENT_BYTES)})`,
      residentBytes <= GOAL_IDLE_RESIDENT_BYTES,
    );
    add(
      `idle processor ${cpuPercent.toFixed(1)} % (goal ≤ ${GOAL_IDLE_CPU_PERCENT})`,
      cpuPercent <= GOAL_IDLE_CPU_PERCENT,
    );
  }
  return lines.length === 0 ? [] : ["", "goals:", ...lines];
}

function summaryFor(session: Session, work: Cell["work"]): Summary | undefined {
  const cell = session.cells.find(
    (candidate) =>
      candidate.work === work &&
      candidate.connections === GOAL_CONNECTIONS &&
      candidate.valueSizeBytes === GOAL_VALUE_SIZE_BYTES,
  );
  return cell === undefined ? undefined : summarize(cell);
}

function goalRatio(summary: Summary | undefined, what: Goal["what"]): number | undefined {
  return (what === "p99" ? summary?.p99Ratio : summary?.throughputRatio)?.median;
}
