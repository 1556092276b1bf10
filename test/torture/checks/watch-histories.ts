/**
 * Whether watchers were told the truth: each sees every change of its filter at least once, those of a key in their
 * order, and, repeats aside, exactly what the change logs have.
 *
 * The change logs are read by one more watch, from the position at which the round began and when nothing changes any
 * more. They in turn are held against what writers were told: every write that was acknowledged is there, and no put is
 * there that nobody has sent.
 */
import type { KeyOperation } from "#test/linearizability/operation.ts";
import { readValue } from "#test/torture/load/value.ts";
import type { SeenChange } from "#test/torture/watch/watcher.ts";

export type Told = {
  readonly name: string;
  readonly seen: readonly SeenChange[];
  /** Of the changes of the round, those that it has asked for. */
  readonly wants: (change: SeenChange) => boolean;
};

const SHOWN_MAX = 5;

/** Changes by key, each revision once, in the order of their first appearance. */
export function changesByKey(
  seen: readonly SeenChange[],
): ReadonlyMap<string, ReadonlyMap<number, SeenChange>> {
  const byKey = new Map<string, Map<number, SeenChange>>();
  for (const change of seen) {
    let ofKey = byKey.get(change.key);
    if (ofKey === undefined) byKey.set(change.key, (ofKey = new Map()));
    if (!ofKey.has(change.revision)) ofKey.set(change.revision, change);
  }
  return byKey;
}

/** What is missing, surplus, out of order, or told in two ways; empty when all is well. */
export function judgeWatcher(told: Told, log: readonly SeenChange[]): readonly string[] {
  const wanted = changesByKey(log.filter(told.wants));
  const seen = changesByKey(told.seen);
  const faults: string[] = [];
  for (const [key, changes] of wanted) {
    const missing = [...changes.keys()].filter((revision) => !seen.get(key)?.has(revision));
    if (missing.length > 0) faults.push(`${key}: misses revisions ${shown(missing)}`);
  }
  for (const [key, changes] of seen) {
    const revisions = [...changes.keys()];
    const surplus = revisions.filter((revision) => !wanted.get(key)?.has(revision));
    if (surplus.length > 0) faults.push(`${key}: has revisions ${shown(surplus)} of no change`);
    const late = revisions.filter((revision, i) => i > 0 && revision < revisions[i - 1]!);
    if (late.length > 0) faults.push(`${key}: revisions ${shown(late)} came behind later ones`);
  }
  faults.push(...contradictions(told.seen, wanted));
  return faults.map((fault) => `watcher ${told.name}: ${fault}`);
}

/** Events of one revision, repeats included, that differ from the log in what they say. */
function contradictions(
  seen: readonly SeenChange[],
  wanted: ReadonlyMap<string, ReadonlyMap<number, SeenChange>>,
): readonly string[] {
  const faults: string[] = [];
  for (const { key, revision, op } of seen) {
    const change = wanted.get(key)?.get(revision);
    if (change !== undefined && change.op !== op) {
      faults.push(`${key}: revision ${revision} is a ${change.op} and was told as a ${op}`);
    }
  }
  return faults.slice(0, SHOWN_MAX);
}

/** Holds the change logs, and the values that watchers were told, against what writers were told. */
export function judgeLog(
  histories: ReadonlyMap<string, readonly KeyOperation[]>,
  log: readonly SeenChange[],
  told: readonly SeenChange[],
): readonly string[] {
  const changes = changesByKey(log);
  const faults: string[] = [];
  for (const [key, history] of histories) {
    const ofKey = changes.get(key) ?? new Map<number, SeenChange>();
    const stored = new Map<number, string>();
    let deleted = 0;
    for (const { action, outcome } of history) {
      if (outcome.kind === "deleted") deleted++;
      if (action.kind !== "put" || outcome.kind !== "stored") continue;
      stored.set(outcome.revision, action.value);
      if (ofKey.get(outcome.revision)?.op !== "put") {
        faults.push(`${key}: the put of revision ${outcome.revision} is not in the change log`);
      }
    }
    const removals = [...ofKey.values()].filter(({ op }) => op !== "put").length;
    if (removals < deleted) {
      faults.push(`${key}: ${deleted} deletes were acknowledged, the change log has ${removals}`);
    }
    faults.push(...wrongValues(key, history, stored, told));
  }
  return faults.map((fault) => `change log: ${fault}`);
}

function wrongValues(
  key: string,
  history: readonly KeyOperation[],
  stored: ReadonlyMap<number, string>,
  told: readonly SeenChange[],
): readonly string[] {
  const sent = new Set(
    history.flatMap(({ action }) => (action.kind === "put" ? action.value : [])),
  );
  const faults: string[] = [];
  for (const change of told) {
    if (change.key !== key || change.value === undefined) continue;
    const value = readValue(change.value);
    const expected = stored.get(change.revision);
    if (expected === undefined ? sent.has(value) : expected === value) continue;
    faults.push(`${key}: revision ${change.revision} was told with the value ${value}`);
  }
  return faults.slice(0, SHOWN_MAX);
}

const shown = (revisions: readonly number[]): string =>
  revisions.slice(0, SHOWN_MAX).join(", ") +
  (revisions.length > SHOWN_MAX ? ` and ${revisions.length - SHOWN_MAX} more` : "");
