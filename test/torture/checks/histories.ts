/** Judges all histories of a run, and keeps those that are wrong. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkKey, explain, findSharedRevisions } from "#test/linearizability/check.ts";
import type { KeyOperation } from "#test/linearizability/operation.ts";
import { vshardOfKey } from "#test/torture/load/prober.ts";

export type HistoriesVerdict = {
  readonly violations: readonly string[];
  readonly operations: number;
  /** The effort of the search. */
  readonly expansions: number;
  readonly tookMs: number;
};

/** @param directory where the history of a key that is wrong is written, one operation a line. */
export function judge(
  histories: ReadonlyMap<string, readonly KeyOperation[]>,
  directory: string,
): HistoriesVerdict {
  const begunMs = performance.now();
  const violations: string[] = [...findSharedRevisions(histories, vshardOfKey)];
  let operations = 0;
  let expansions = 0;
  for (const [key, history] of histories) {
    operations += history.length;
    const verdict = checkKey(history);
    if (verdict.kind === "linearizable") {
      expansions += verdict.expansions;
      continue;
    }
    const path = keep(key, history, directory);
    violations.push(`${key} (vshard ${vshardOfKey(key)}, ${path}): ${explain(history, verdict)}`);
  }
  return { violations, operations, expansions, tookMs: performance.now() - begunMs };
}

function keep(key: string, history: readonly KeyOperation[], directory: string): string {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${key.replaceAll("/", "_")}.ndjson`);
  writeFileSync(path, history.map((operation) => `${JSON.stringify(operation)}\n`).join(""));
  return path;
}
