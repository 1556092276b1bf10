/**
 * Small file systems in memory, to be filled to the last byte. Mounting takes root on Linux; where it
 * is not permitted the tests that need it are skipped, and `smallDiskProblem` says why.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MiB = 1024 * 1024;

/** Why no small disk can be had here; undefined when one can. Tries it. */
export function smallDiskProblem(): string | undefined {
  try {
    new SmallDisk(MiB).unmount();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

export class SmallDisk {
  readonly path = mkdtempSync(join(tmpdir(), "minikv-small-disk-"));

  /** Mounts it. @throws Error when that is not permitted. */
  constructor(sizeBytes: number) {
    try {
      run("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", this.path]);
    } catch (error) {
      rmdirSync(this.path);
      throw error;
    }
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  /** Another program's file that takes `sizeBytes`, or all that is left when there is less. */
  takeUp(name: string, sizeBytes = Number.MAX_SAFE_INTEGER): void {
    const file = openSync(join(this.path, name), "w");
    const zeros = Buffer.alloc(MiB);
    try {
      let written = 0;
      while (written < sizeBytes) {
        written += writeSync(file, zeros, 0, Math.min(zeros.length, sizeBytes - written));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      closeSync(file);
    }
  }

  /** The opposite of `takeUp`. */
  giveBack(name: string): void {
    const path = join(this.path, name);
    // A file that is cut frees its space even while somebody reads it.
    const file = openSync(path, "r+");
    ftruncateSync(file, 0);
    closeSync(file);
    rmSync(path);
  }

  /** Detached even when a process that is just ending still holds a file. */
  unmount(): void {
    run("umount", ["--lazy", this.path]);
    rmdirSync(this.path);
  }
}

function run(command: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr.trim()}`);
}
