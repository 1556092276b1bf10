/**
 * Brings the replicas of a node back from its log and engine, and makes new ones.
 *
 * Every replica is checked before it may take part: what the engine has applied must lie between the
 * start and the end of the log, and its last entry must be the one that the log holds. An engine behind
 * the log's start has lost applied state that the log no longer has; one ahead of its end means that the
 * log lost acknowledged entries. Both are refused, unless the start has just finished installing a
 * snapshot, behind which the log is yet to be reset.
 */
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  type LogIndex,
  META_GROUP,
  type ReplicaId,
  type Term,
  VSHARD_COUNT,
} from "#shared/ids.ts";
import {
  APPEND_MESSAGE_BYTES_MAX,
  ELECTION_TICKS_MAX,
  ELECTION_TICKS_MIN,
  HEARTBEAT_TICKS,
  INFLIGHT_BYTES_MAX,
  INFLIGHT_MESSAGES_MAX,
  UNCOMMITTED_BYTES_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { loadMachine } from "#storage-node/machine/load.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type { Configuration, LogStart } from "#storage-node/raft/types.ts";
import type { RecoveredGroup, Wal, WalRecord } from "#storage-node/wal/types.ts";
import { type NodeBudget, newBudget } from "./budget.ts";
import { loadConfiguration } from "./configuration-row.ts";
import { purgeGroup } from "./purge-group.ts";
import { Replica } from "./replica.ts";
import type { EntryObserver } from "./timeline.ts";

/** What all replicas of a node are made with. */
export type ReplicaParts = {
  readonly wal: Wal;
  readonly engine: Engine;
  readonly random: Random;
  /** Of all cores of the node; see `RaftOptions.readRounds`. */
  readonly readRounds: { current: number };
  readonly budget: NodeBudget;
  /** Of the entries of all replicas; whoever wants to be told adds itself before the node serves. */
  readonly observers: EntryObserver[];
};

export function replicaParts(parts: Pick<ReplicaParts, "wal" | "engine" | "random">): ReplicaParts {
  return { ...parts, readRounds: { current: 0 }, budget: newBudget(), observers: [] };
}

const EMPTY_LOG = {
  hardState: { term: 0 as Term, vote: 0 as ReplicaId, commit: 0 as LogIndex },
  start: { index: 0 as LogIndex, term: 0 as Term },
  entries: [],
};

/** A replica that is to be made: with an empty log, and the configuration that it starts from. */
export type NewReplica = {
  readonly group: GroupId;
  readonly replica: ReplicaId;
  readonly configuration: Configuration;
};

/** Opens every replica that the log knows. */
export async function openGroups(
  parts: ReplicaParts,
  installed: ReadonlyMap<GroupId, LogStart> = new Map(),
): Promise<readonly Replica[]> {
  const replicas: Replica[] = [];
  for (const [group, recovered] of parts.wal.recovery.groups) {
    replicas.push(await openGroup(parts, group, recovered, installed.get(group)));
  }
  return replicas;
}

/**
 * Makes new replicas. What an earlier replica of a group has left in the engine is deleted first, durably;
 * then one batch of the log makes all of them, so that there are all or none of them after a crash.
 */
export async function createGroups(
  parts: ReplicaParts,
  specs: readonly NewReplica[],
): Promise<readonly Replica[]> {
  const { wal, engine } = parts;
  if (!(await isEmpty(engine))) {
    for (const { group } of specs) await purgeGroup(engine, group);
  }
  // Rows of a group that the log knows are taken for its own. So those of an earlier replica must be gone
  // for good before the record below, also those that were deleted before this call: a power loss would
  // bring them back, all or some of them.
  await engine.flush();
  const records = specs.map(
    ({ group, replica, configuration }): WalRecord => ({
      kind: "snapshotMeta",
      group,
      replica,
      start: EMPTY_LOG.start,
      configuration,
    }),
  );
  await new Promise<void>((resolve) => wal.append(records, resolve));
  const replicas: Replica[] = [];
  for (const { group, replica, configuration } of specs) {
    const fresh = { ...EMPTY_LOG, replica, configuration };
    replicas.push(await openGroup(parts, group, fresh, undefined));
  }
  return replicas;
}

/**
 * Deletes the rows of groups that the log does not know: a crash came between the two steps of
 * destroying their replicas (hosting.ts).
 */
export async function purgeLeftovers({ wal, engine }: ReplicaParts): Promise<void> {
  if (await isEmpty(engine)) return;
  for (let number = 0; number <= VSHARD_COUNT; number++) {
    const group = number < VSHARD_COUNT ? (number as GroupId) : META_GROUP;
    if (!wal.recovery.groups.has(group)) await purgeGroup(engine, group);
  }
}

async function isEmpty(engine: Engine): Promise<boolean> {
  const iterator = engine.iterate({ keysOnly: true });
  try {
    return (await iterator.next(1)).length === 0;
  } finally {
    await iterator.close();
  }
}

async function openGroup(
  parts: ReplicaParts,
  group: GroupId,
  recovered: RecoveredGroup,
  installed: LogStart | undefined,
): Promise<Replica> {
  const { engine, budget, observers } = parts;
  const machine = await loadMachine(group, engine);
  const applied = { index: machine.appliedIndex, term: machine.appliedTerm };
  checkAgainstLog(group, machine, recovered, installed);
  // As of what the engine has applied; there is none as long as no change was applied.
  const configuration = (await loadConfiguration(group, engine)) ?? recovered.configuration;
  const raft = createRaft(parts, { group, applied, recovered, configuration });
  return new Replica({ group, machine, budget, raft, observers });
}

/**
 * @param installed the snapshot whose installation this start has finished, of which the log knows nothing
 * @throws KvError DATA_CORRUPT
 */
export function checkAgainstLog(
  group: GroupId,
  machine: Pick<Machine, "appliedIndex" | "appliedTerm">,
  recovered: Pick<RecoveredGroup, "start" | "entries">,
  installed?: LogStart,
): void {
  const { start, entries } = recovered;
  const { appliedIndex, appliedTerm } = machine;
  if (installed?.index === appliedIndex && installed.term === appliedTerm) return;
  const lastIndex = start.index + entries.length;
  let problem = `the log holds entries ${start.index + 1} to ${lastIndex}`;
  if (appliedIndex >= start.index && appliedIndex <= lastIndex) {
    const term =
      appliedIndex === start.index ? start.term : entries[appliedIndex - start.index - 1]!.term;
    if (term === appliedTerm) return;
    problem = `the log holds an entry of term ${term} there, not of term ${appliedTerm}`;
  }
  throw new KvError(
    "DATA_CORRUPT",
    `vshard ${group}: the engine has applied entry ${appliedIndex}, but ${problem}. Engine and log ` +
      "do not belong together or one was damaged; restore the whole data directory from a backup.",
  );
}

function createRaft(
  { random, readRounds }: ReplicaParts,
  of: {
    readonly group: GroupId;
    readonly applied: LogStart;
    readonly recovered: RecoveredGroup;
    readonly configuration: Configuration;
  },
): Raft {
  const { group, applied, recovered, configuration } = of;
  return new Raft({
    group,
    id: recovered.replica,
    configuration,
    hardState: recovered.hardState,
    start: recovered.start,
    entries: recovered.entries,
    applied,
    random,
    readRounds,
    electionTicks: { min: ELECTION_TICKS_MIN, max: ELECTION_TICKS_MAX },
    heartbeatTicks: HEARTBEAT_TICKS,
    saveMessages: true,
    inflightMessagesMax: INFLIGHT_MESSAGES_MAX,
    inflightBytesMax: INFLIGHT_BYTES_MAX,
    appendBytesMax: APPEND_MESSAGE_BYTES_MAX,
    uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
  });
}
