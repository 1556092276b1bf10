/**
 * A lock on a file that vanishes with its process, even one that was killed; a file that merely exists
 * would not.
 *
 * Node has no `flock`, but its built-in SQLite locks files with `fcntl(2)` (`LockFileEx` on Windows),
 * which the kernel releases with the process. So the file is an SQLite database with an open exclusive
 * transaction, and nothing in it. (`fcntl` locks end when the process closes *any* descriptor of the
 * file: nobody else may open it. They are per process, but SQLite refuses a second connection of the
 * same process too. On NFS they need a lock manager: use a local disk.) Why not otherwise:
 * docs/decisions/0003-data-directory-lock.md.
 */
import { DatabaseSync } from "node:sqlite";

/** `SQLITE_BUSY`: somebody else holds the lock. */
const SQLITE_BUSY = 5;

export type FileLock = {
  /** Idempotent. The file stays. */
  release(): void;
};

/**
 * Takes the lock without waiting; makes the file when there is none.
 *
 * @returns undefined when somebody else holds it
 * @throws Error when the file cannot be used
 */
export function lockFile(path: string): FileLock | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 0 });
    // No journal file beside it: nothing is ever written into it.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    const held = database;
    return {
      release: () => {
        if (held.isOpen) held.close();
      },
    };
  } catch (error) {
    database?.close();
    const isBusy = error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY;
    if (isBusy) return undefined;
    throw error;
  }
}
