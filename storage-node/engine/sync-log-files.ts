/**
 * Brings the log files of an LSM engine to the disk from libuv's threads.
 *
 * RocksDB and LevelDB hand every unsynced write to the operating system before `write` returns, in
 * files `<number>.log` of their directory; syncing an inode through another descriptor is as good as
 * through theirs. A log file that vanishes between listing and opening has been deleted because its
 * rows are in table files, which both libraries sync before they delete the log.
 */
import { open, readdir } from "node:fs/promises";
import path from "node:path";

/** Resolves when all that was written to log files before the call survives a power loss. */
export async function syncLogFiles(directory: string): Promise<void> {
  const names = await readdir(directory);
  await Promise.all(
    names
      .filter((name) => name.endsWith(".log"))
      .map((name) => syncFile(path.join(directory, name))),
  );
  // The names of new files. Windows has no such call and needs none.
  if (process.platform === "win32") return;
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFile(file: string): Promise<void> {
  // Opened for writing because Windows flushes no handle that is open for reading only.
  const handle = await open(file, "r+").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (handle === undefined) return;
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}
