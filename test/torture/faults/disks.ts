/**
 * Disks of nodes that fail on command: the shim of the end-to-end tests (`test/e2e/faults/`), one for each
 * node, and a small file system for one of them, to be filled up.
 */
import { join } from "node:path";
import {
  EIO,
  ENOSPC,
  FaultyDisk,
  faultyDiskProblem,
  type Rule,
} from "#test/e2e/faults/faulty-disk.ts";
import { SmallDisk, smallDiskProblem } from "#test/e2e/faults/small-disk.ts";

const MiB = 1024 * 1024;
const SMALL_DISK_BYTES = 768 * MiB;
const BALLAST = "other-program";

export class Disks {
  readonly #faulty = new Map<string, FaultyDisk>();
  readonly #hasShim = faultyDiskProblem() === undefined;
  readonly #smallNode: string | undefined;
  readonly #small: SmallDisk | undefined;

  /** @param smallNode has its data on a small file system, where one can be mounted. */
  constructor(smallNode: string | undefined) {
    if (smallNode === undefined || smallDiskProblem() !== undefined) return;
    this.#smallNode = smallNode;
    const small = new SmallDisk(SMALL_DISK_BYTES);
    this.#small = small;
    process.once("exit", this.#unmount);
  }

  get hasShim(): boolean {
    return this.#hasShim;
  }

  dataDirectoryOf(node: string): string | undefined {
    return node === this.#smallNode ? join(this.#small!.path, "data") : undefined;
  }

  environmentOf(node: string): Readonly<Record<string, string>> {
    if (!this.#hasShim) return {};
    const disk = new FaultyDisk();
    this.#faulty.set(node, disk);
    return disk.env;
  }

  isSmall(node: string): boolean {
    return node === this.#smallNode;
  }

  fill(): void {
    this.#small!.takeUp(BALLAST);
  }

  free(): void {
    this.#small!.giveBack(BALLAST);
  }

  set(node: string, rule: Rule): void {
    this.#faulty.get(node)!.set(rule);
  }

  heal(node: string): void {
    this.#faulty.get(node)?.heal();
  }

  hasStruck(node: string): boolean {
    return this.#faulty.get(node)?.hasStruck ?? false;
  }

  close(): void {
    for (const disk of this.#faulty.values()) disk.remove();
    process.off("exit", this.#unmount);
    this.#unmount();
  }

  #isUnmounted = false;
  readonly #unmount = (): void => {
    if (this.#small === undefined || this.#isUnmounted) return;
    this.#isUnmounted = true;
    this.#small.unmount();
  };
}

/** What the shim does for a fault, `skip` operations from now. */
export const DISK_RULES = {
  slowDisk: (delayMs: number): Rule => ({
    call: "sync",
    of: "wal",
    action: "delay",
    argument: delayMs,
  }),
  hungDisk: (call: Rule["call"]): Rule => ({ call, of: "wal", action: "hang" }),
  fullDisk: (skip: number): Rule => ({
    call: "write",
    of: "wal",
    action: "fail",
    argument: ENOSPC,
    skip,
  }),
  brokenDisk: (skip: number): Rule => ({
    call: "sync",
    of: "wal",
    action: "fail",
    argument: EIO,
    skip,
  }),
  tornWrite: (skip: number): Rule => ({ call: "write", of: "wal", action: "torn", skip }),
  powerLoss: (skip: number, seed: number): Rule => ({
    call: "sync",
    of: "wal",
    action: "power",
    argument: seed,
    skip,
  }),
} as const;
