/**
 * A storage node's data directory: who owns it, and what lives where.
 *
 *     <dir>/LOCK           held by the running process
 *     <dir>/identity.json  which node of which cluster this is (docs/formats/data-directory.md)
 *     <dir>/join-token     names the directory before it has an identity
 *     <dir>/cluster-map    the newest map that this node has acted by
 *     <dir>/founding       with what its cluster began, if it was there
 *     <dir>/wal/           the write-ahead log
 *     <dir>/engine/        the storage engine
 *     <dir>/snapshots/     snapshots on their way in
 *
 * Two processes on one directory would overwrite each other's log, so it is locked before anything
 * is read, in a way that ends with the process (shared/runtime/file-lock.ts).
 *
 * The identity keeps a directory from being started as another node, or in another cluster: a vote
 * given by one must never be forgotten by the other. A directory without one waits for a cluster to
 * give it an id (`adopt`); the map with which it begins is on disk before its identity is.
 */
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";
import { type ClusterMap, isClusterNamed } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { makeDirectory, pathTrouble } from "#shared/runtime/directories.ts";
import { type FileLock, lockFile } from "#shared/runtime/file-lock.ts";
import {
  readFoundingFile,
  readJoinToken,
  readMapFile,
  writeFoundingFile,
  writeMapFile,
} from "./cluster-files.ts";
import type { Founding } from "./meta/founding.ts";
import { replaceFile } from "./replace-file.ts";

/** Of the directory's layout. Log and engine have format versions of their own. */
export const DATA_DIRECTORY_FORMAT = 2;

export const LOCK_NAME = "LOCK";
const IDENTITY_NAME = "identity.json";
const IDENTITY_TEMPORARY_NAME = "identity.json.tmp";
const WAL_NAME = "wal";
const ENGINE_NAME = "engine";
const SNAPSHOTS_NAME = "snapshots";
const TOKEN_NAME = "join-token";
const MAP_NAME = "cluster-map";
const FOUNDING_NAME = "founding";
/** What a directory without identity may hold: traces of a first start that did not get far. */
const FIRST_START_NAMES: readonly string[] = [
  LOCK_NAME,
  IDENTITY_TEMPORARY_NAME,
  TOKEN_NAME,
  `${TOKEN_NAME}.tmp`,
  MAP_NAME,
  `${MAP_NAME}.tmp`,
  FOUNDING_NAME,
  `${FOUNDING_NAME}.tmp`,
];
/** Made by `mkfs`, and no sign of use. */
const FILE_SYSTEM_NAMES: readonly string[] = ["lost+found"];

export type Identity = {
  readonly format: number;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Name of the storage engine: only it can read its files. */
  readonly engine: string;
  /** Log and engine were made. If they are missing now, the node has lost its memory. */
  readonly initialized: boolean;
  /** RFC 3339, UTC. For people only. */
  readonly createdAt: string;
};

/** What a node gets when it founds a cluster with others, or joins one. */
export type Membership = {
  readonly nodeId: NodeId;
  readonly map: ClusterMap;
  readonly founding: Founding | undefined;
};

export type DataDirectoryOptions = {
  readonly path: string;
  /** Must be the directory's. Undefined: any. */
  readonly clusterId?: string | undefined;
  /** Must be the directory's. Undefined: any. */
  readonly nodeId?: NodeId | undefined;
  readonly engine: string;
  readonly clock: Clock;
  readonly random: Random;
};

/** Every writing method may reject with KvError UNAVAILABLE or STORAGE_FULL. */
export interface DataDirectory {
  /** Absolute. */
  readonly path: string;
  /** Undefined until the directory belongs to a node. */
  readonly identity: Identity | undefined;
  /** Names the directory to a cluster that it wants to join. 16 bytes, drawn when it was made. */
  readonly joinToken: Uint8Array;
  /** As last saved; undefined before the first. */
  readonly map: ClusterMap | undefined;
  /** Undefined when the node joined a cluster that existed. */
  readonly founding: Founding | undefined;
  readonly walPath: string;
  readonly enginePath: string;
  readonly snapshotsPath: string;
  /** Makes the directory that of a node, whose first map it is. Only without an identity. */
  adopt(membership: Membership): Promise<Identity>;
  saveMap(map: ClusterMap): Promise<void>;
  /** Log and engine are made, and everything that the first map asks for is in them. */
  markInitialized(): Promise<void>;
  /** Releases the lock. Close log and engine first. Idempotent. */
  close(): Promise<void>;
}

/**
 * Locks the directory, and reads its identity.
 *
 * @throws KvError UNAVAILABLE when another process holds it, or it cannot be used;
 * INVALID_ARGUMENT when it is not this node's, or not a data directory; DATA_CORRUPT when its
 * identity or map cannot be read
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
    const joinToken = await readJoinToken(join(path, TOKEN_NAME), options.random);
    return new OpenDirectory({
      path,
      lock,
      options,
      identity: found,
      joinToken,
      // Without an identity it is of an attempt to become somebody's that did not get through.
      map: found === undefined ? undefined : await readMapFile(join(path, MAP_NAME)),
      founding: found === undefined ? undefined : await readFoundingFile(join(path, FOUNDING_NAME)),
    });
  } catch (error) {
    lock.release();
    throw error;
  }
}

type OpenParts = {
  readonly path: string;
  readonly lock: FileLock;
  readonly options: DataDirectoryOptions;
  readonly identity: Identity | undefined;
  readonly joinToken: Uint8Array;
  readonly map: ClusterMap | undefined;
  readonly founding: Founding | undefined;
};

class OpenDirectory implements DataDirectory {
  readonly #parts: OpenParts;
  readonly path: string;
  readonly joinToken: Uint8Array;
  identity: Identity | undefined;
  map: ClusterMap | undefined;
  founding: Founding | undefined;

  constructor(parts: OpenParts) {
    this.#parts = parts;
    this.path = parts.path;
    this.joinToken = parts.joinToken;
    this.identity = parts.identity;
    this.map = parts.map;
    this.founding = parts.founding;
  }

  get walPath(): string {
    return join(this.path, WAL_NAME);
  }
  get enginePath(): string {
    return join(this.path, ENGINE_NAME);
  }
  get snapshotsPath(): string {
    return join(this.path, SNAPSHOTS_NAME);
  }

  async adopt({ nodeId, map, founding }: Membership): Promise<Identity> {
    assert(this.identity === undefined, "a data directory has one identity for ever");
    const { engine, clock } = this.#parts.options;
    await this.saveMap(map);
    if (founding !== undefined) await writeFoundingFile(join(this.path, FOUNDING_NAME), founding);
    this.founding = founding;
    return await this.#writeIdentity({
      format: DATA_DIRECTORY_FORMAT,
      clusterId: map.clusterId,
      nodeId,
      engine,
      initialized: false,
      createdAt: new Date(clock.nowMs()).toISOString(),
    });
  }

  async saveMap(map: ClusterMap): Promise<void> {
    await writeMapFile(join(this.path, MAP_NAME), map);
    this.map = map;
  }

  async markInitialized(): Promise<void> {
    const { identity } = this;
    assert(identity !== undefined, "only a node's directory is initialized");
    if (!identity.initialized) await this.#writeIdentity({ ...identity, initialized: true });
  }

  async close(): Promise<void> {
    this.#parts.lock.release();
  }

  async #writeIdentity(identity: Identity): Promise<Identity> {
    const text = `${JSON.stringify(identity, undefined, 2)}\n`;
    await replaceFile(join(this.path, IDENTITY_NAME), new TextEncoder().encode(text));
    this.identity = identity;
    return identity;
  }
}

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    makeDirectory(path, 0o700);
    return await readdir(path);
  } catch (error) {
    const detail = `cannot use the data directory ${path}: ${pathTrouble(error, path)}`;
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

function acquireLock(path: string): FileLock {
  let lock: FileLock | undefined;
  try {
    lock = lockFile(join(path, LOCK_NAME));
  } catch (error) {
    const detail = `cannot lock the data directory ${path}: ${pathTrouble(error, path)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  }
  if (lock !== undefined) return lock;
  throw new KvError(
    "UNAVAILABLE",
    `another process is using the data directory ${path}. Stop it first, or give this one a ` +
      "directory of its own.",
  );
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
  const { format, clusterId, nodeId, engine, createdAt, initialized } = fields;
  if (typeof format !== "number" || typeof nodeId !== "number") {
    throw new RangeError("format and nodeId must be numbers");
  }
  if (typeof initialized !== "boolean") throw new RangeError("initialized must be true or false");
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
    initialized,
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
  if (wanted.nodeId !== undefined && found.nodeId !== wanted.nodeId) {
    refuse(
      `belongs to node ${found.nodeId}, and this is node ${wanted.nodeId}. Start it with node id ` +
        `${found.nodeId}, or name another directory.`,
    );
  }
  if (wanted.clusterId !== undefined && !isClusterNamed(found.clusterId, wanted.clusterId)) {
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
