/**
 * Installing a snapshot: the rows of a group in the engine are replaced by those of a staged file.
 *
 *     1  the file is read as a whole and verified                  a crash: old rows, old log; as before
 *     2  it is renamed to .install, durably
 *     3  the group's rows are deleted, the file's are written,     a crash: .install and old log;
 *        the engine is flushed                                     the start does step 3 again
 *     4  the log is reset behind the snapshot, durably             a crash: .install and new log;
 *     5  the file is deleted                                       the start deletes the file
 *
 * While 2 to 4 last, nothing is applied to the group, and nothing else of it is written to the log:
 * so at a start the log begins in front of the snapshot exactly if step 4 is not done.
 */
import { assert } from "#shared/assert.ts";
import { KvError } from "#shared/errors.ts";
import type { GroupId } from "#shared/ids.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import { loadMachine } from "#storage-node/machine/load.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { LogStart } from "#storage-node/raft/types.ts";
import { purgeGroup } from "#storage-node/replica/purge-group.ts";
import { nextTurn } from "#storage-node/replica/turn.ts";
import type { RecoveredGroup } from "#storage-node/wal/types.ts";
import {
  deleteStaged,
  listStaged,
  makeStaging,
  moveStaged,
  readStaged,
  type StagedName,
  type Staging,
} from "./staged-file.ts";

/**
 * Steps 1 to 3. Nobody may read or write rows of the group meanwhile.
 *
 * @param goesOn asked between small steps; once false, the rest is left to the next start
 * @returns the machine that stands on the new rows; undefined when it was stopped
 * @throws when anything fails: the group is then unusable until the next start
 */
export async function installStaged(
  staging: Staging,
  name: StagedName & { readonly stage: "snap" },
  engine: Engine,
  goesOn: () => boolean,
): Promise<Machine | undefined> {
  if (!(await verify(staging, name, goesOn))) return undefined;
  await moveStaged(staging, name, "install");
  return await takeOver(staging, { ...name, stage: "install" }, engine, goesOn);
}

const verify = (staging: Staging, name: StagedName, goesOn: () => boolean): Promise<boolean> =>
  readStaged(staging, name, async () => goesOn());

async function takeOver(
  staging: Staging,
  name: StagedName,
  engine: Engine,
  goesOn: () => boolean,
): Promise<Machine | undefined> {
  const { group, start } = name;
  await purgeGroup(engine, group, goesOn);
  if (!goesOn()) return undefined;
  const batch = engine.batch();
  const write = async (rows: readonly Row[]): Promise<boolean> => {
    batch.clear();
    for (const { key, value } of rows) batch.put(key, value);
    await engine.write(batch);
    await nextTurn();
    return goesOn();
  };
  if (!(await readStaged(staging, name, write))) return undefined;
  await engine.flush();
  const machine = await loadMachine(group, engine);
  const { appliedIndex, appliedTerm } = machine;
  const isAtStart = appliedIndex === start.index && appliedTerm === start.term;
  assert(isAtStart, "the rows of a snapshot are those of its index");
  return machine;
}

/** Step 5, for all snapshots of the group up to `start`, at which its log now begins, durably. */
export async function forgetInstalled(
  staging: Staging,
  group: GroupId,
  start: LogStart,
): Promise<void> {
  for (const name of await listStaged(staging)) {
    const isDone = name.stage === "install" && name.start.index <= start.index;
    if (name.group === group && isDone) await deleteStaged(staging, name);
  }
}

export type RecoverOptions = Staging & {
  readonly engine: Engine;
  /** As the log was found. */
  readonly groups: ReadonlyMap<GroupId, RecoveredGroup>;
};

/**
 * At a start, before any group is opened: finishes installations that a crash has interrupted.
 *
 * @returns the groups whose engine is now at a snapshot that their log does not know yet. The Raft core
 * resets the log (`RaftOptions.applied`); once that is durable the file goes (`forgetInstalled`).
 * @throws KvError DATA_CORRUPT when such a file is damaged: the replica is lost
 */
export async function recoverInstallations(
  options: RecoverOptions,
): Promise<ReadonlyMap<GroupId, LogStart>> {
  const { engine, groups } = options;
  await makeStaging(options);
  const pending = new Map<GroupId, StagedName>();
  for (const name of await listStaged(options)) {
    if (name.stage !== "install") continue;
    const known = groups.get(name.group);
    // Of a replica that was destroyed, or the log begins behind it already.
    const isOld = known?.replica !== name.replica || known.start.index >= name.start.index;
    const other = pending.get(name.group);
    const isEarlier = other !== undefined && other.start.index > name.start.index;
    if (isOld || isEarlier) {
      await deleteStaged(options, name);
      continue;
    }
    if (other !== undefined) await deleteStaged(options, other);
    pending.set(name.group, name);
  }
  const installed = new Map<GroupId, LogStart>();
  for (const [group, name] of pending) {
    await verify(options, name, () => true).catch(refuse);
    await takeOver(options, name, engine, () => true);
    installed.set(group, name.start);
  }
  return installed;
}

function refuse(error: unknown): never {
  if (!(error instanceof KvError) || error.code !== "DATA_CORRUPT") throw error;
  throw new KvError(
    "DATA_CORRUPT",
    `${error.message}. It was taking the place of a replica when the node stopped, and the rows of ` +
      "that replica are gone. Let the node rejoin its cluster as a new node with an empty data directory.",
    { cause: error },
  );
}
