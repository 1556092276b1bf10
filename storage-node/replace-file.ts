/** Replaces a small file as a whole: after a crash there is the old one or the new one. */
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { KvError } from "#shared/errors.ts";

/**
 * Temporary file, sync, rename, sync of the directory (and, since it may be new itself, of the one
 * above it).
 *
 * @throws KvError STORAGE_FULL or UNAVAILABLE
 */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  try {
    const temporary = `${path}.tmp`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    await syncDirectory(dirname(dirname(path)));
  } catch (error) {
    const isFull = error instanceof Error && "code" in error && error.code === "ENOSPC";
    const detail = `cannot write ${path}: ${String(error)}`;
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
