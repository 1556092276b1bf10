/** The end of a run of torture, for people and as JSON. */
import type { Longest } from "./checks/machine-pauses.ts";
import { type Lengths, percentile, type Totals } from "./totals.ts";

const VIOLATIONS_SHOWN_MAX = 20;

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

export function reportText(totals: Totals, seed: number): string {
  const { stretches, recoveriesMs } = totals;
  const lines = [
    "",
    `${totals.rounds} rounds on ${totals.clusters} clusters in ${totals.minutes.toFixed(1)} minutes, seed ${seed}`,
    "",
    `faults: ${totals.faultsCount}`,
    ...table(totals.faults, (kind) => lengthsText(totals.faultLengths.get(kind))),
    `joins of a node ${totals.joins}, drains begun ${totals.drainsBegun}, nodes drained and removed ${totals.drains}, drains cancelled ${totals.cancelledDrains}`,
    "",
    `operations: ${totals.operationsCount}`,
    ...table(totals.operations),
    "",
    "errors that clients were told:",
    ...table(totals.errors),
    "",
    `longest stretch of a vshard without an acknowledged write: ${seconds(totals.worstStretch.lengthMs)} (${totals.worstStretch.what})`,
    `  of all probed vshards in all rounds: p50 ${seconds(percentile(stretches, 50))}, p99 ${seconds(percentile(stretches, 99))}`,
    `longest stretch without any acknowledged write: ${seconds(totals.worstOfAll.lengthMs)} (${totals.worstOfAll.what})`,
    `recovery of all vshards after the last fault: p50 ${seconds(percentile(recoveriesMs, 50))}, max ${seconds(Math.max(0, ...recoveriesMs))}`,
    `the machine's own longest pauses: ${pausesText(totals.longestPause)}`,
    `histories judged: ${totals.keysJudged} keys in ${seconds(totals.checkMs)}; state hashes compared: ${totals.hashesCompared}`,
    `watchers were told of ${totals.watchEvents} changes over ${totals.watchConnections} connections, ${totals.watchResyncs} times after a resync`,
    ...(totals.unknownSources === 0
      ? []
      : [`connections of nobody known: ${totals.unknownSources}`]),
    "",
    `violations: ${totals.violations.length}`,
    ...totals.violations.slice(0, VIOLATIONS_SHOWN_MAX),
    "",
  ];
  return lines.join("\n");
}

function table(
  counts: ReadonlyMap<string, number>,
  remark: (name: string) => string = () => "",
): readonly string[] {
  const rows = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, count]) =>
    `  ${name.padEnd(width)}  ${String(count).padEnd(6)}${remark(name)}`.trimEnd(),
  );
}

export function pausesText({ timer, sync, proxy }: Longest): string {
  return `timer ${seconds(timer)} late, sync ${seconds(sync)}, proxy ${seconds(proxy)}`;
}

function lengthsText(lengths: Lengths | undefined): string {
  if (lengths === undefined || lengths.longestMs === lengths.shortestMs) return "";
  return `of ${seconds(lengths.shortestMs)} to ${seconds(lengths.longestMs)}`;
}

export function reportJson(totals: Totals, seed: number): string {
  return JSON.stringify({
    seed,
    minutes: totals.minutes,
    clusters: totals.clusters,
    rounds: totals.rounds,
    faults: Object.fromEntries(totals.faults),
    operations: Object.fromEntries(totals.operations),
    errors: Object.fromEntries(totals.errors),
    longestStretchMs: totals.worstStretch.lengthMs,
    stretchP99Ms: percentile(totals.stretches, 99),
    longestStretchOfAllMs: totals.worstOfAll.lengthMs,
    recoveryMsMax: Math.max(0, ...totals.recoveriesMs),
    longestPauseMs: totals.longestPause,
    joins: totals.joins,
    drainsBegun: totals.drainsBegun,
    drains: totals.drains,
    cancelledDrains: totals.cancelledDrains,
    hashesCompared: totals.hashesCompared,
    watchEvents: totals.watchEvents,
    watchConnections: totals.watchConnections,
    watchResyncs: totals.watchResyncs,
    violations: totals.violations,
  });
}
