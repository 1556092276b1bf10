/**
 * A replica was destroyed, and the group comes back to the node as another replica. Then the power goes:
 * of the engine only what was flushed is left. Nothing of the first replica may be taken for the second.
 */
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  type Revision,
  replicaIdOf,
  Space,
  type Term,
} from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { dataRowKey, journalRowKey } from "#storage-node/engine/layout.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { encodeJournalRow } from "#storage-node/machine/journal.ts";
import { NO_MEMBERS, simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import type { WalRecord } from "#storage-node/wal/types.ts";
import { openWal } from "#storage-node/wal/wal.ts";
import {
  createGroups,
  openGroups,
  purgeLeftovers,
  type ReplicaParts,
  replicaParts,
} from "./open-groups.ts";
import { purgeGroup } from "./purge-group.ts";

const GROUP = 5 as GroupId;
const NODE = 1 as NodeId;
const FIRST = replicaIdOf(NODE, 0);
const SECOND = replicaIdOf(NODE, 1);

/** What outlives the process. */
type Disks = { readonly fs: MemoryFileSystem; readonly engineDisk: MemoryDisk };

async function open({ fs, engineDisk }: Disks): Promise<ReplicaParts> {
  const random = new SeededRandom(1);
  const engine = openMemory(engineDisk);
  const wal = await openWal({
    directory: "/data/wal",
    nodeId: NODE,
    segmentSizeBytes: 16 * 1024,
    fs,
    clock: new ManualClock(),
    random,
    onFatal: (error) => {
      throw error;
    },
  });
  const parts = replicaParts({ wal, engine, random });
  await purgeLeftovers(parts);
  return parts;
}

const append = ({ wal }: ReplicaParts, record: WalRecord): Promise<void> =>
  new Promise((resolve) => wal.append([record], resolve));

/** Rows as of entry 3, flushed. */
async function fill({ engine }: ReplicaParts): Promise<void> {
  const batch = engine.batch();
  const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("key") };
  batch.put(dataRowKey(GROUP, address), utf8("value"));
  const position = { revision: 3 as Revision, index: 3 as LogIndex };
  const row = { term: 1 as Term, logTimeMs: 9, dedupeUntilMs: 9, changes: [], results: [] };
  batch.put(journalRowKey(GROUP, position), encodeJournalRow(row));
  await engine.write(batch);
  await engine.flush();
}

const specOf = (replica: ReplicaId, configuration = NO_MEMBERS) => ({
  ...{ group: GROUP, replica, configuration },
});

function powerLoss({ fs, engineDisk }: Disks): Disks {
  return { fs: fs.crash({ sector: () => false, name: () => false }), engineDisk };
}

/** A node that had a replica with rows, which is destroyed; its rows are deleted, and not flushed. */
async function destroyed(disks: Disks): Promise<ReplicaParts> {
  const parts = await open(disks);
  await createGroups(parts, [specOf(FIRST, simpleConfiguration([FIRST]))]);
  await fill(parts);
  await append(parts, { kind: "removeGroup", group: GROUP });
  await purgeGroup(parts.engine, GROUP);
  return parts;
}

const newDisks = (): Disks => ({ fs: new MemoryFileSystem(), engineDisk: new MemoryDisk() });

describe("a replica that takes the place of a destroyed one", () => {
  it("is empty after a power loss too", async () => {
    const disks = newDisks();
    await createGroups(await destroyed(disks), [specOf(SECOND)]);
    const [replica] = await openGroups(await open(powerLoss(disks)));
    expect(replica?.raft.id).toBe(SECOND);
    expect(replica?.applied.index).toBe(0);
  });

  it("is empty when the rows were deleted by a start in between", async () => {
    let disks = newDisks();
    await destroyed(disks);
    // The deletion is lost, the next start repeats it, and that is not flushed either.
    disks = powerLoss(disks);
    await createGroups(await open(disks), [specOf(SECOND)]);
    const parts = await open(powerLoss(disks));
    const [replica] = await openGroups(parts);
    expect(replica?.applied.index).toBe(0);
    expect(await parts.engine.iterate({}).next(10)).toEqual([]);
  });
});
