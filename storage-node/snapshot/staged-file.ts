/**
 * Snapshots beside the engine: files that hold the frames of a transfer as they came.
 *
 *     <group>-<replica>-<index>-<term>.part      being received
 *     <group>-<replica>-<index>-<term>.snap      complete, verified, synced; the core decides
 *     <group>-<replica>-<index>-<term>.install   being taken over by the engine
 *
 * The last name is a promise: from the moment it is durable until the log begins behind the snapshot,
 * the engine's rows of the group count for nothing, and every start takes the snapshot over again.
 */
import { dirname } from "node:path";
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  type ReplicaId,
  toGroupId,
  toLogIndex,
  toReplicaId,
  toTerm,
} from "#shared/ids.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import type { LogStart } from "#storage-node/raft/types.ts";
import {
  closeFile,
  fileSize,
  listDirectory,
  makeDirectory,
  openFile,
  readFully,
  renameFile,
  syncDirectory,
  unlinkFile,
} from "#storage-node/wal/file-promises.ts";
import type { WalFile, WalFileSystem } from "#storage-node/wal/file-system.ts";
import { decodeFrame, FRAME_HEAD_SIZE_BYTES, type Frame, frameSizeBytes } from "./frames.ts";
import { SnapshotCheck } from "./snapshot-check.ts";

export type Stage = "part" | "snap" | "install";

export type StagedName = {
  readonly group: GroupId;
  readonly replica: ReplicaId;
  readonly start: LogStart;
  readonly stage: Stage;
};

/** Where the files are, and how they are reached. */
export type Staging = {
  readonly fs: WalFileSystem;
  /** Holds nothing else. */
  readonly directory: string;
};

const NAME = /^(\d{1,5})-(\d{1,16})-(\d{1,16})-(\d{1,16})\.(part|snap|install)$/;

export function stagedPath({ directory }: Staging, name: StagedName): string {
  const { group, replica, start, stage } = name;
  return `${directory}/${group}-${replica}-${start.index}-${start.term}.${stage}`;
}

/** Makes the directory if it is missing, durably: what a name in it promises must not go with it. */
export async function makeStaging({ fs, directory }: Staging): Promise<void> {
  await makeDirectory(fs, directory);
  await syncDirectory(fs, dirname(directory));
}

/** All that is there, in order of their names. */
export async function listStaged({ fs, directory }: Staging): Promise<readonly StagedName[]> {
  const names = await listDirectory(fs, directory);
  return [...names].sort().flatMap((name) => {
    const parts = NAME.exec(name);
    if (parts === null) return [];
    try {
      return [
        {
          group: toGroupId(Number(parts[1])),
          replica: toReplicaId(Number(parts[2])),
          start: { index: toLogIndex(Number(parts[3])), term: toTerm(Number(parts[4])) },
          stage: parts[5] as Stage,
        },
      ];
    } catch {
      // Of numbers that nothing has.
      return [];
    }
  });
}

/** Gives the file the name of another stage, durably. */
export async function moveStaged(staging: Staging, name: StagedName, stage: Stage): Promise<void> {
  const { fs, directory } = staging;
  await renameFile(fs, stagedPath(staging, name), stagedPath(staging, { ...name, stage }));
  await syncDirectory(fs, directory);
}

/** Not durably: one that comes back after a power loss is found not to be needed again. */
export async function deleteStaged(staging: Staging, name: StagedName): Promise<void> {
  await unlinkFile(staging.fs, stagedPath(staging, name)).catch((error: unknown) => {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  });
}

/** Reads a file frame by frame. */
class FrameReader {
  readonly #file: WalFile;
  readonly #sizeBytes: number;
  position = 0;

  constructor(file: WalFile, sizeBytes: number) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
  }

  /** @throws RangeError where no intact frame begins */
  async next(): Promise<Frame> {
    const head = new Uint8Array(FRAME_HEAD_SIZE_BYTES);
    await this.#read(head);
    const bytes = Buffer.allocUnsafeSlow(frameSizeBytes(head));
    await this.#read(bytes);
    const frame = decodeFrame(bytes);
    this.position += bytes.length;
    return frame;
  }

  async #read(bytes: Uint8Array): Promise<void> {
    if (this.position + bytes.length > this.#sizeBytes) throw new RangeError("the file ends");
    await readFully(this.#file, bytes, this.position);
  }
}

/** What a file holds of a transfer that was interrupted. */
export type Partial = {
  /** Has passed all chunks in the file. */
  readonly check: SnapshotCheck;
  /** Behind the last intact frame. */
  readonly position: number;
};

/** Undefined when not even the opening is intact. */
export async function readPartial(file: WalFile): Promise<Partial | undefined> {
  const reader = new FrameReader(file, await fileSize(file));
  let check: SnapshotCheck | undefined;
  let position = 0;
  try {
    const opening = await reader.next();
    if (opening.kind !== "open") return undefined;
    check = new SnapshotCheck(opening);
    position = reader.position;
    for (;;) {
      const frame = await reader.next();
      if (frame.kind !== "rows") break;
      check.rows(frame);
      position = reader.position;
    }
  } catch (error) {
    // A frame that was cut off, or written in part before a power loss. The frames before it stand.
    if (!(error instanceof RangeError)) throw error;
  }
  return check === undefined ? undefined : { check, position };
}

/**
 * Reads a complete file, and hands its rows to `take` chunk by chunk.
 *
 * @param take answers false to stop
 * @returns false when it was stopped
 * @throws KvError DATA_CORRUPT unless the file is as it was sent
 */
export async function readStaged(
  staging: Staging,
  name: StagedName,
  take: (rows: readonly Row[]) => Promise<boolean>,
): Promise<boolean> {
  const path = stagedPath(staging, name);
  const file = await openFile(staging.fs, path, "existing");
  try {
    return await readAll(file, name, take);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new KvError("DATA_CORRUPT", `${path} is damaged: ${error.message}`, { cause: error });
  } finally {
    await closeFile(file);
  }
}

async function readAll(
  file: WalFile,
  name: StagedName,
  take: (rows: readonly Row[]) => Promise<boolean>,
): Promise<boolean> {
  const reader = new FrameReader(file, await fileSize(file));
  const opening = await reader.next();
  if (opening.kind !== "open") throw new RangeError("it has no opening");
  if (!isOf(opening, name)) throw new RangeError("it is another snapshot's");
  const check = new SnapshotCheck(opening);
  for (;;) {
    const frame = await reader.next();
    if (frame.kind === "end") {
      check.end(frame);
      return true;
    }
    if (frame.kind !== "rows") throw new RangeError(`it holds a frame of kind ${frame.kind}`);
    const rows: Row[] = [];
    check.rows(frame, (row) => rows.push(row));
    if (!(await take(rows))) return false;
  }
}

function isOf(opening: Frame & { readonly kind: "open" }, { group, replica, start }: StagedName) {
  const { snapshotIndex, snapshotTerm } = opening;
  return (
    opening.group === group &&
    opening.to === replica &&
    snapshotIndex === start.index &&
    snapshotTerm === start.term
  );
}
