/**
 * Brings the Raft groups of a node back from its log and engine, or creates them on a new node.
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
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type { LogStart } from "#storage-node/raft/types.ts";
import type { RecoveredGroup, Wal, WalRecord } from "#storage-node/wal/types.ts";
import { Replica } from "./replica.ts";

/** Each node's replica of a group has the node's number until replicas can move. */
const FIRST_REPLICA = 1 as ReplicaId;

const ALONE = simpleConfiguration([FIRST_REPLICA]);

const FRESH: RecoveredGroup = {
  replica: FIRST_REPLICA,
  hardState: { term: 0 as Term, vote: 0 as ReplicaId, commit: 0 as LogIndex },
  start: { index: 0 as LogIndex, term: 0 as Term },
  configuration: ALONE,
  entries: [],
};

/** Opens all vshard groups, single-voter, indexed by vshard. */
export async function openGroups(parts: {
  readonly wal: Wal;
  readonly engine: Engine;
  readonly random: Random;
  /** See `recoverInstallations`. */
  readonly installed?: ReadonlyMap<GroupId, LogStart>;
}): Promise<Replica[]> {
  const { wal, engine, random, installed } = parts;
  await recordNewGroups(wal);
  const replicas: Replica[] = [];
  const budget = { pendingBytes: 0 };
  for (let number = 0; number < VSHARD_COUNT; number++) {
    const group = number as GroupId;
    const recovered = wal.recovery.groups.get(group) ?? FRESH;
    const machine = await loadMachine(group, engine);
    checkAgainstLog(group, machine, recovered, installed?.get(group));
    replicas.push(
      new Replica({
        group,
        machine,
        budget,
        raft: createRaft(group, machine, recovered, random),
      }),
    );
  }
  return replicas;
}

/** A group's configuration is durable before the group does anything. */
async function recordNewGroups(wal: Wal): Promise<void> {
  const records: WalRecord[] = [];
  for (let number = 0; number < VSHARD_COUNT; number++) {
    const group = number as GroupId;
    if (wal.recovery.groups.has(group)) continue;
    const { replica, start, configuration } = FRESH;
    records.push({ kind: "snapshotMeta", group, replica, start, configuration });
  }
  if (records.length > 0) {
    await new Promise<void>((resolve) => wal.append(records, resolve));
  }
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
  group: GroupId,
  machine: Machine,
  recovered: RecoveredGroup,
  random: Random,
): Raft {
  return new Raft({
    group,
    id: recovered.replica,
    configuration: recovered.configuration,
    hardState: recovered.hardState,
    start: recovered.start,
    entries: recovered.entries,
    applied: { index: machine.appliedIndex, term: machine.appliedTerm },
    random,
    electionTicks: { min: ELECTION_TICKS_MIN, max: ELECTION_TICKS_MAX },
    heartbeatTicks: HEARTBEAT_TICKS,
    inflightMessagesMax: INFLIGHT_MESSAGES_MAX,
    inflightBytesMax: INFLIGHT_BYTES_MAX,
    appendBytesMax: APPEND_MESSAGE_BYTES_MAX,
    uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
  });
}
