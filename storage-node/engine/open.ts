/**
 * Opens an engine by its kind.
 *
 * The directory records the kind in a file, because the libraries do not look for each other's
 * files: opened with the wrong one, a directory could pass for damaged or, worse, for new.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { KvError } from "#shared/errors.ts";
import type { Engine } from "./engine.ts";
import { toEngineError } from "./engine-error.ts";
import { openMemory } from "./memory.ts";
import { openRocksDb } from "./rocksdb.ts";

export const ENGINE_KINDS = ["rocksdb", "classic-level", "memory"] as const;
export type EngineKind = (typeof ENGINE_KINDS)[number];

export type OpenEngineOptions = {
  readonly kind: EngineKind;
  /** Made if it does not exist. Not used by `memory`. */
  readonly directory: string;
  /** Bytes of the block cache; ENGINE_CACHE_SIZE_BYTES_DEFAULT if absent. Not used by `memory`. */
  readonly cacheSizeBytes?: number;
};

const KIND_FILE = "ENGINE";

/**
 * @throws KvError UNAVAILABLE when the directory is in use, is of another kind or cannot be read or
 *   written, DATA_CORRUPT when its files are damaged, STORAGE_FULL
 */
export async function openEngine(options: OpenEngineOptions): Promise<Engine> {
  if (options.kind === "memory") return openMemory();
  try {
    await claimDirectory(options.directory, options.kind);
  } catch (error) {
    throw toEngineError(error, `open the engine in ${options.directory}`);
  }
  if (options.kind === "rocksdb") return await openRocksDb(options);
  // Loaded where it is chosen: its packages are 36 modules.
  const { openClassicLevel } = await import("./classic-level.ts");
  return await openClassicLevel(options);
}

/** Leaves the kind in the directory, or finds the same kind there. */
async function claimDirectory(directory: string, kind: EngineKind): Promise<void> {
  await mkdir(directory, { recursive: true });
  const file = path.join(directory, KIND_FILE);
  // The library refuses a second process by its own lock; here two openers only write the same.
  const found = await readKind(file);
  if (found === kind) return;
  if (found !== undefined) {
    throw new KvError(
      "UNAVAILABLE",
      `the engine directory ${directory} was made by the engine "${found}", not "${kind}"`,
    );
  }
  await writeFile(file, `${kind}\n`, { flush: true });
}

async function readKind(file: string): Promise<string | undefined> {
  try {
    // Empty after a crash in the middle of the first opening: as good as absent.
    return (await readFile(file, "utf8")).trim() || undefined;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
