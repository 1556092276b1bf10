/**
 * What lies where in the directory of a cluster:
 *
 *     <dir>/LOCK           held by the running supervisor
 *     <dir>/dev.json       the cluster's members and ports, over restarts (state.ts)
 *     <dir>/cluster.json   the running processes, for people and programs (cluster-file.ts)
 *     <dir>/control.sock   takes commands while the supervisor runs (control-server.ts)
 *     <dir>/node-1/ …      data directories of the storage nodes
 *     <dir>/logs/          what each process prints
 */
import { readdirSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { KvError } from "#shared/errors.ts";
import { makeDirectory, pathTrouble } from "#shared/runtime/directories.ts";
import { type FileLock, lockFile } from "#shared/runtime/file-lock.ts";

export type Layout = {
  /** Absolute. */
  readonly directory: string;
  readonly statePath: string;
  readonly clusterFilePath: string;
  readonly controlPath: string;
  dataDir(node: string): string;
  logPath(member: string): string;
};

const LOCK_NAME = "LOCK";
const STATE_NAME = "dev.json";
const NAME_OF_OURS = /^(LOCK|dev\.json(\.tmp)?|cluster\.json(\.tmp)?|control\.sock|logs|node-\d+)$/;
/** Made by `mkfs`, and no sign of use. */
const FILE_SYSTEM_NAME = "lost+found";

/** Of `sockaddr_un`, without the zero at its end: the smallest of all systems. */
const SOCKET_PATH_SIZE_BYTES_MAX = 103;

export function layoutOf(dir: string): Layout {
  const directory = resolve(dir);
  return {
    directory,
    statePath: join(directory, STATE_NAME),
    clusterFilePath: join(directory, "cluster.json"),
    controlPath: join(directory, "control.sock"),
    dataDir: (node) => join(directory, node),
    logPath: (member) => join(directory, "logs", `${member}.log`),
  };
}

/**
 * Makes the directory where there is none, and locks it.
 *
 * @throws KvError UNAVAILABLE when another supervisor holds it or it cannot be used, INVALID_ARGUMENT
 * when it holds somebody else's files
 */
export function openClusterDirectory({ directory }: Layout): FileLock {
  let lock: FileLock | undefined;
  try {
    makeDirectory(join(directory, "logs"), 0o700);
    requireOurs(directory);
    lock = lockFile(join(directory, LOCK_NAME));
  } catch (error) {
    if (error instanceof KvError) throw error;
    const detail = `cannot use the directory ${directory}: ${pathTrouble(error, directory)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  }
  if (lock !== undefined) return lock;
  throw new KvError(
    "UNAVAILABLE",
    `a cluster is running in ${directory} already. Look at it with "minikv dev status --dir ${shellWord(directory)}", ` +
      "stop it first, or give this one another --dir.",
  );
}

/** A word of a command, as a shell takes it. */
export const shellWord = (text: string): string =>
  /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** Somebody else's files are never built upon. */
function requireOurs(directory: string): void {
  const names = readdirSync(directory);
  if (names.includes(STATE_NAME)) return;
  const foreign = names.find((name) => !NAME_OF_OURS.test(name) && name !== FILE_SYSTEM_NAME);
  if (foreign === undefined) return;
  throw new KvError(
    "INVALID_ARGUMENT",
    `${directory} is no directory of a cluster: it has no ${STATE_NAME}, but holds "${foreign}". ` +
      "Name an empty directory, or one that does not exist yet.",
  );
}

/**
 * The path by which a socket is bound and reached: systems take only some hundred bytes, and the
 * relative path is often the shorter one.
 *
 * @throws KvError INVALID_ARGUMENT when both are too long
 */
export function socketPath(path: string, workingDirectory = process.cwd()): string {
  const candidates = [path, relative(workingDirectory, path)];
  const size = (candidate: string): number => Buffer.byteLength(candidate);
  const shortest = candidates.reduce((best, next) => (size(next) < size(best) ? next : best));
  if (size(shortest) <= SOCKET_PATH_SIZE_BYTES_MAX) return shortest;
  throw new KvError(
    "INVALID_ARGUMENT",
    `${path} is too long for a socket: ${size(shortest)} bytes, and systems take ` +
      `${SOCKET_PATH_SIZE_BYTES_MAX}. Choose a shorter --dir, or work in a directory nearer to it.`,
  );
}
