/**
 * Wall clocks of nodes that jump on command: compiles faulty-clock.c and steers it. Needs Linux with glibc
 * and a C compiler, as the faulty disks do.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { faultyDiskProblem } from "#test/e2e/faults/faulty-disk.ts";

const OPTIONS = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"];

export class Clocks {
  readonly isAvailable = faultyDiskProblem() === undefined;
  readonly #directory = mkdtempSync(join(tmpdir(), "minikv-faulty-clock-"));
  readonly #library = join(this.#directory, "faulty-clock.so");

  /** @throws Error with what the compiler says. */
  constructor() {
    if (!this.isAvailable) return;
    const source = join(import.meta.dirname, "faulty-clock.c");
    const args = [...OPTIONS, "-o", this.#library, source, "-ldl"];
    const compiled = spawnSync("cc", args, { encoding: "utf8" });
    if (compiled.status !== 0) throw new Error(`faulty-clock.c: ${compiled.stderr}`);
  }

  /** For the process of `node`, added to what `env` preloads already. */
  environmentOf(
    node: string,
    env: Readonly<Record<string, string>>,
  ): Readonly<Record<string, string>> {
    if (!this.isAvailable) return env;
    this.set(node, 0);
    const preloaded = env.LD_PRELOAD === undefined ? "" : `${env.LD_PRELOAD}:`;
    return {
      ...env,
      LD_PRELOAD: `${preloaded}${this.#library}`,
      FAULTY_CLOCK_OFFSET: this.#path(node),
    };
  }

  /** How far ahead the node's clock is from now on. */
  set(node: string, offsetMs: number): void {
    const bytes = Buffer.from(new BigInt64Array([BigInt(Math.round(offsetMs * 1e6))]).buffer);
    // Over the old bytes: the processes have mapped this file.
    try {
      readFileSync(this.#path(node));
    } catch {
      writeFileSync(this.#path(node), bytes);
      return;
    }
    const file = openSync(this.#path(node), "r+");
    writeSync(file, bytes, 0, bytes.length, 0);
    closeSync(file);
  }

  close(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #path(node: string): string {
    return join(this.#directory, node);
  }
}
