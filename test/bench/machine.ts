/** The machine and the programs, as far as figures depend on them. */
import { execFileSync } from "node:child_process";
import {
  accessSync,
  closeSync,
  constants,
  fdatasyncSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { arch, availableParallelism, cpus, platform, release, totalmem } from "node:os";
import { delimiter, join } from "node:path";
import { readFileSystem } from "./proc.ts";
import { median } from "./statistics.ts";

const SYNC_SAMPLES = 64;
const SYNC_SIZE_BYTES = 4096;

export type Machine = {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** Type and device of the file system of the data directories. */
  readonly fileSystem: string;
  /** Median of a 4 KiB write with fdatasync there: the floor of a durable write. */
  readonly syncMedianMs: number;
  readonly node: string;
  /** The commit of this checkout, with `+` when files differ from it; undefined outside git. */
  readonly commit: string | undefined;
};

export function describeMachine(directory: string, root: string): Machine {
  const fileSystem = readFileSystem(directory);
  return {
    processor: cpus()[0]?.model.trim() ?? arch(),
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: `${platform()} ${release()} ${arch()}`,
    fileSystem: fileSystem === undefined ? "unknown" : `${fileSystem.type} on ${fileSystem.device}`,
    syncMedianMs: measureSyncMs(directory),
    node: process.version,
    commit: currentCommit(root),
  };
}

/** Synced writes into a file of its final size, as logs are written. */
function measureSyncMs(directory: string): number {
  const path = join(directory, "sync-probe");
  const block = Buffer.alloc(SYNC_SIZE_BYTES, 1);
  const file = openSync(path, "w");
  try {
    for (let at = 0; at < SYNC_SAMPLES; at++)
      writeSync(file, block, 0, block.length, at * block.length);
    fdatasyncSync(file);
    const samples = Array.from({ length: SYNC_SAMPLES }, (_, at) => {
      const startMs = performance.now();
      writeSync(file, block, 0, block.length, at * block.length);
      fdatasyncSync(file);
      return performance.now() - startMs;
    });
    return median(samples);
  } finally {
    closeSync(file);
    rmSync(path);
  }
}

function currentCommit(root: string): string | undefined {
  const git = (...args: readonly string[]): string =>
    execFileSync("git", ["-C", root, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    }).trim();
  try {
    const dirty = git("status", "--porcelain", "--untracked-files=no") !== "";
    return git("rev-parse", "--short", "HEAD") + (dirty ? "+" : "");
  } catch {
    return undefined;
  }
}

/** The path of a program on PATH; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here; the next directory may have it.
    }
  }
  return undefined;
}
