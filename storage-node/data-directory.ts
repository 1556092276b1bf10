/**
 * A storage node's data directory: who owns it, and what lives where.
 *
 *     <dir>/LOCK           held by the running process
 *     <dir>/identity.json  which node of which cluster this is (docs/formats/data-directory.md)
 *     <dir>/wal/           the write-ahead log
 *     <dir>/engine/        the storage engine
 *     <dir>/snapshots/     snapshots on their way into the engine (docs/formats/snapshot.md)
 *
 * Two processes on one directory would overwrite each other's log, so it is locked before anything
 * is read. The lock must vanish with its process, even one that was killed; a file that merely exists
 * would not. Node has no `flock`, but its built-in SQLite locks files with `fcntl(2)` (`LockFileEx` on
 * Windows), which the kernel releases with the process. So LOCK is an SQLite database with an open
 * exclusive transaction, and nothing in it. (`fcntl` locks end when the process closes *any*
 * descriptor of the file: nobody else may open LOCK. They are per process, but SQLite refuses a second
 * connection of the same process too. On NFS they need a lock manager: use a local disk.)
 *
 * The identity keeps a directory from being started as another node, or in another cluster: a vote
 * given by one must never be forgotten by the other.
 */
import { mkdir, open, readdir, readFile, rename } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";

/** Of the directory's layout. Log and engine have format versions of their own. */
export const DATA_DIRECTORY_FORMAT = 1;

const LOCK_NAME = "LOCK";
const IDENTITY_NAME = "identity.json";
const IDENTITY_TEMPORARY_NAME = "identity.json.tmp";
const WAL_NAME = "wal";
const ENGINE_NAME = "engine";
const SNAPSHOTS_NAME = "snapshots";
/** `SQLITE_BUSY`: somebody else holds the lock. */
const SQLITE_BUSY = 5;
/** What a directory without identity may hold: traces of a first start that did not get far. */
const FIRST_START_NAMES: readonly string[] = [LOCK_NAME, IDENTITY_TEMPORARY_NAME];
/** Made by `mkfs`, and no sign of use. */
const FILE_SYSTEM_NAMES: readonly string[] = ["lost+found"];

export type Identity = {
  readonly format: number;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Name of the storage engine: only it can read its files. */
  readonly engine: string;
  /** RFC 3339, UTC. For people only. */
  readonly createdAt: string;
};

export type DataDirectoryOptions = {
  readonly path: string;
  /** Must be the directory's. Undefined: any; a fresh directory then draws a random one. */
  readonly clusterId?: string | undefined;
  readonly nodeId: NodeId;
  readonly engine: string;
  readonly clock: Clock;
  readonly random: Random;
};

export type DataDirectory = {
  /** Absolute. */
  readonly path: string;
  readonly identity: Identity;
  /** The directory was empty, and is now this node's. */
  readonly created: boolean;
  readonly walPath: string;
  readonly enginePath: string;
  readonly snapshotsPath: string;
  /** Releases the lock. Close log and engine first. Idempotent. */
  close(): Promise<void>;
};

/**
 * Locks the directory, and reads or writes its identity.
 *
 * @throws KvError UNAVAILABLE when another process holds it, or it cannot be used;
 * INVALID_ARGUMENT when it is not this node's, or not a data directory; DATA_CORRUPT when its
 * identity cannot be read
 */
export async function openDataDirectory(options: DataDirectoryOptions): Promise<DataDirectory> {
  const path = resolve(options.path);
  const names = await namesIn(path);
  const isOwned = names.includes(IDENTITY_NAME);
  if (!isOwned) requireEmpty(path, names);
  const lock = acquireLock(path);
  try {
    // Read again: another process may have come and gone before the lock was held.
    const found = await readIdentity(path);
    if (found !== undefined) requireSame(path, found, options);
    const identity = found ?? (await createIdentity(path, options));
    return {
      path,
      identity,
      created: found === undefined,
      walPath: join(path, WAL_NAME),
      enginePath: join(path, ENGINE_NAME),
      snapshotsPath: join(path, SNAPSHOTS_NAME),
      close: async () => {
        if (lock.isOpen) lock.close();
      },
    };
  } catch (error) {
    lock.close();
    throw error;
  }
}

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    return await readdir(path);
  } catch (error) {
    const detail = `cannot use the data directory ${path}: ${String(error)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  }
}

/** Somebody else's files are never built upon. */
function requireEmpty(path: string, names: readonly string[]): void {
  const known = [...FIRST_START_NAMES, ...FILE_SYSTEM_NAMES];
  const foreign = names.find((name) => !known.includes(name));
  if (foreign === undefined) return;
  throw new KvError(
    "INVALID_ARGUMENT",
    `${path} is not a minikv data directory: it has no ${IDENTITY_NAME}, but holds "${foreign}". ` +
      "Name an empty directory, or one that does not exist yet.",
  );
}

function acquireLock(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(path, LOCK_NAME), { timeout: 0 });
    // No journal file beside LOCK: nothing is ever written into it.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return database;
  } catch (error) {
    database?.close();
    const isBusy = error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY;
    const detail = isBusy
      ? `another process is using the data directory ${path}. Stop it first, or give this one a ` +
        "directory of its own."
      : `cannot lock the data directory ${path}: ${String(error)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  }
}

async function readIdentity(path: string): Promise<Identity | undefined> {
  let text: string;
  try {
    text = await readFile(join(path, IDENTITY_NAME), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    const detail = `cannot read ${join(path, IDENTITY_NAME)}: ${String(error)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  }
  try {
    return parseIdentity(JSON.parse(text));
  } catch (error) {
    throw new KvError(
      "DATA_CORRUPT",
      `${join(path, IDENTITY_NAME)} is damaged: ${String(error)}. Restore the file from a backup, ` +
        "or let this node rejoin its cluster as a new node with an empty data directory.",
      { cause: error },
    );
  }
}

/** @throws RangeError when a field is missing or has another type */
function parseIdentity(value: unknown): Identity {
  if (typeof value !== "object" || value === null) throw new RangeError("it is no object");
  const fields = value as Readonly<Record<string, unknown>>;
  const { format, clusterId, nodeId, engine, createdAt } = fields;
  if (typeof format !== "number" || typeof nodeId !== "number") {
    throw new RangeError("format and nodeId must be numbers");
  }
  for (const text of [clusterId, engine, createdAt]) {
    if (typeof text !== "string") {
      throw new RangeError("clusterId, engine and createdAt must be strings");
    }
  }
  return {
    format,
    clusterId: clusterId as string,
    nodeId: toNodeId(nodeId),
    engine: engine as string,
    createdAt: createdAt as string,
  };
}

function requireSame(path: string, found: Identity, wanted: DataDirectoryOptions): void {
  const refuse = (detail: string): never => {
    throw new KvError("INVALID_ARGUMENT", `data directory ${path} ${detail}`);
  };
  if (found.format > DATA_DIRECTORY_FORMAT) {
    refuse(
      `has format ${found.format}, and this program knows only up to ${DATA_DIRECTORY_FORMAT}. ` +
        "Start the version of minikv that wrote it, or a newer one.",
    );
  }
  if (found.nodeId !== wanted.nodeId) {
    refuse(
      `belongs to node ${found.nodeId}, and this is node ${wanted.nodeId}. Start it with node id ` +
        `${found.nodeId}, or name another directory.`,
    );
  }
  if (wanted.clusterId !== undefined && found.clusterId !== wanted.clusterId) {
    refuse(
      `belongs to cluster ${found.clusterId}, and this node is configured for cluster ` +
        `${wanted.clusterId}. Correct the cluster id, or name another directory.`,
    );
  }
  if (found.engine !== wanted.engine) {
    refuse(
      `was made with the storage engine "${found.engine}", and "${wanted.engine}" is configured. ` +
        `Configure "${found.engine}", or name an empty directory.`,
    );
  }
}

/** Temporary file, sync, rename, sync of the directory: there is all of it or nothing. */
async function createIdentity(path: string, options: DataDirectoryOptions): Promise<Identity> {
  const identity: Identity = {
    format: DATA_DIRECTORY_FORMAT,
    clusterId: options.clusterId ?? options.random.fill(new Uint8Array(16)).toHex(),
    nodeId: options.nodeId,
    engine: options.engine,
    createdAt: new Date(options.clock.nowMs()).toISOString(),
  };
  try {
    const temporary = join(path, IDENTITY_TEMPORARY_NAME);
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(identity, undefined, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(path, IDENTITY_NAME));
    await syncDirectory(path);
    await syncDirectory(dirname(path));
    return identity;
  } catch (error) {
    const isFull = error instanceof Error && "code" in error && error.code === "ENOSPC";
    const detail = `cannot write ${join(path, IDENTITY_NAME)}: ${String(error)}`;
    throw new KvError(isFull ? "STORAGE_FULL" : "UNAVAILABLE", detail, { cause: error });
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot sync a directory; NTFS journals names by itself.
  if (process.platform === "win32") return;
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
