/**
 * Disks that fail on command, for real processes: compiles faulty-disk.c and steers it.
 *
 * Needs Linux with glibc and a C compiler; where there is none the tests that need it are skipped,
 * and `faultyDiskProblem` says why.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Environment } from "#test/processes/minikv.ts";

export type Rule = {
  readonly call: "write" | "sync";
  /** The rule is for the log, or for the engine's own log. */
  readonly of: "wal" | "engine";
  readonly action: "fail" | "short" | "torn" | "power" | "delay" | "hang";
  /** As faulty-disk.c says: an errno, a seed, milliseconds. */
  readonly argument?: number;
  /** Matching calls that pass before the rule strikes. */
  readonly skip?: number;
};

/** Of `errno(3)` on Linux. */
export const EIO = 5;
export const ENOSPC = 28;

const COMPILER = "cc";
const OPTIONS = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"];

/** Why there can be no faulty disk here; undefined when there can. */
export function faultyDiskProblem(): string | undefined {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  if (report.header?.glibcVersionRuntime === undefined) return "this is no Linux with glibc";
  const found = spawnSync(COMPILER, ["--version"], { stdio: "ignore" });
  return found.status === 0 ? undefined : `there is no C compiler (${COMPILER})`;
}

export class FaultyDisk {
  readonly #directory = mkdtempSync(join(tmpdir(), "minikv-faulty-disk-"));
  readonly #library = join(this.#directory, "faulty-disk.so");
  readonly #control = join(this.#directory, "control");

  /** @throws Error with what the compiler says. */
  constructor() {
    const source = join(import.meta.dirname, "faulty-disk.c");
    const args = [...OPTIONS, "-o", this.#library, source, "-ldl", "-lpthread"];
    const compiled = spawnSync(COMPILER, args, { encoding: "utf8" });
    if (compiled.status !== 0) throw new Error(`faulty-disk.c: ${compiled.stderr}`);
  }

  /** For the processes that shall have this disk. */
  get env(): Environment {
    return { LD_PRELOAD: this.#library, FAULTY_DISK_CONTROL: this.#control };
  }

  /** From now on, until another rule or `heal`. */
  set(rule: Rule): void {
    const { call, of, action, argument = 0, skip = 0 } = rule;
    rmSync(`${this.#control}.struck`, { force: true });
    // By rename, so that the processes see all of the rule or nothing of it.
    writeFileSync(`${this.#control}.new`, `${call} /${of}/ ${action} ${argument} ${skip}\n`);
    renameSync(`${this.#control}.new`, this.#control);
  }

  heal(): void {
    rmSync(this.#control, { force: true });
  }

  /** Whether the last rule has been applied to a call (rules that only delay do not count). */
  get hasStruck(): boolean {
    return existsSync(`${this.#control}.struck`);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
