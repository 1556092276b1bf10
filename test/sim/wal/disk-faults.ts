/**
 * What goes wrong on one disk: drawn per operation, counted by kind.
 *
 * Two classes. An *honest* disk fails, fills up, stops half way, and forgets what was not synced, but
 * a sync that it reports was one. A *dishonest* disk says "synced" of what never reached the medium,
 * or reached it elsewhere, and loses bits of what is at rest.
 */
import type { Random } from "#shared/random.ts";
import type {
  Keep,
  MemoryFileSystem,
  MemoryFileSystemOptions,
  Operation,
  Verdict,
} from "#storage-node/wal/memory-file-system.ts";
import { PREPARED_NAME } from "#storage-node/wal/reserve.ts";

export const HONEST_FAULTS = [
  "EIO",
  "EIO, done all the same",
  "EIO, half done",
  "EIO of a sync, pages marked clean",
  "ENOSPC",
  "full disk",
  "short write",
  "killed",
  "killed, page cache gone",
  "power loss",
  "power loss, sector torn",
] as const;
export const LIES = [
  "lost write",
  "lost sectors",
  "misdirected write",
  "misdirected write, other file",
  "sync that was none",
  "lost names",
  "flipped bit",
] as const;
export type FaultKind = (typeof HONEST_FAULTS)[number] | (typeof LIES)[number];

export type FaultCounts = Map<FaultKind, number>;

export type DiskFaultsOptions = {
  readonly random: Random;
  readonly counts: FaultCounts;
  /** Of each operation. */
  readonly errorChance: number;
  /** Of each write and sync; 0 for an honest disk. */
  readonly lieChance: number;
  /** Asked before each lie; default: yes. */
  readonly mayLie?: () => boolean;
};

export class DiskFaults {
  readonly #options: DiskFaultsOptions;
  /** The disk it acts on, to find places for misdirected writes. */
  fs: MemoryFileSystem | undefined;
  /** Operations until the process or the machine dies. */
  operationsLeft = Number.POSITIVE_INFINITY;
  isFull = false;
  /** Some operation has failed. */
  hadError = false;
  /** One has failed with which the log must not live on. */
  hasFailed = false;
  #isCalm = false;

  constructor(options: DiskFaultsOptions) {
    this.#options = options;
  }

  count(kind: FaultKind): void {
    const { counts } = this.#options;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }

  /** Whether this disk may lie, if it is one that does. */
  get mayLie(): boolean {
    const { lieChance, mayLie } = this.#options;
    return lieChance > 0 && (mayLie?.() ?? true);
  }

  /** From here on all goes well. */
  becomeCalm(): void {
    this.#isCalm = true;
    this.isFull = false;
  }

  get dead(): boolean {
    return this.operationsLeft <= 0;
  }

  fileSystemOptions(defer: (run: () => void) => void): MemoryFileSystemOptions {
    return {
      defer,
      isFull: () => {
        if (this.isFull) this.count("full disk");
        return this.isFull;
      },
      intercept: (operation) => this.#verdict(operation),
    };
  }

  #verdict(operation: Operation): Verdict {
    if (this.operationsLeft-- <= 0) return { kind: "lost" };
    if (this.#isCalm) return undefined;
    const { random, errorChance, lieChance } = this.#options;
    if (random.float() < errorChance) return this.#error(operation);
    if (random.float() < lieChance && this.mayLie) return this.#lie(operation);
    return undefined;
  }

  #error(operation: Operation): Verdict {
    const { random } = this.#options;
    this.hadError = true;
    const { kind, path } = operation;
    // Of these alone the log may think that they tell of a full disk, and wait.
    const isPreparation = path.endsWith(PREPARED_NAME) || kind === "freeBytes";
    if (operation.kind === "write" && random.below(4) === 0) {
      this.count("short write");
      // While the next segment is prepared, that is how a full disk says so.
      if (!isPreparation) this.hasFailed = true;
      return { kind: "short" };
    }
    if (random.below(4) === 0) {
      this.count("ENOSPC");
      if (!isPreparation) this.hasFailed = true;
      return { kind: "fail", code: "ENOSPC" };
    }
    this.hasFailed = true;
    const dice = random.below(3);
    if (operation.kind === "datasync" && dice > 0) {
      this.count("EIO of a sync, pages marked clean");
      return { kind: "fail", code: "EIO", marksClean: this.keep().sector };
    }
    if (operation.kind === "write" && dice === 1) {
      this.count("EIO, half done");
      return { kind: "fail", code: "EIO", effect: "half" };
    }
    if (dice === 2) {
      this.count("EIO, done all the same");
      return { kind: "fail", code: "EIO", effect: "all" };
    }
    this.count("EIO");
    return { kind: "fail", code: "EIO" };
  }

  #lie(operation: Operation): Verdict {
    const { random } = this.#options;
    if (operation.kind === "syncDirectory") {
      this.count("lost names");
      return { kind: "unwritten" };
    }
    if (operation.kind === "datasync") {
      this.count("sync that was none");
      return { kind: "unwritten" };
    }
    if (operation.kind !== "write") return undefined;
    const dice = random.below(3);
    if (dice === 0) {
      this.count("lost write");
      return { kind: "unwritten" };
    }
    if (dice === 1) {
      this.count("lost sectors");
      return { kind: "unwritten", isLost: () => random.below(2) === 0 };
    }
    return this.#misdirect(operation.path);
  }

  #misdirect(path: string): Verdict {
    const { random } = this.#options;
    const paths = this.fs?.mediumPaths ?? [];
    const isElsewhere = random.below(3) === 0;
    const target = isElsewhere ? paths[random.below(paths.length)] : path;
    if (target === undefined || !paths.includes(target)) return undefined;
    const kind = target === path ? "misdirected write" : "misdirected write, other file";
    this.count(kind);
    // Sectors, or blocks, are what addresses are of.
    const unit = random.below(2) === 0 ? 512 : 4096;
    return { kind: "misdirected", path: target, position: unit * random.below(8192 / unit) };
  }

  /** What a power loss leaves of what was not synced: a pattern, or chance, of each life its own. */
  keep(): Keep {
    const { random } = this.#options;
    const pattern = random.below(6);
    const luck = random.float();
    let sectors = 0;
    const border = random.below(12);
    const keepsSector = (): boolean => {
      const number = sectors++;
      if (pattern === 0) return false;
      if (pattern === 1) return true;
      if (pattern === 2) return number < border;
      if (pattern === 3) return number >= border;
      if (pattern === 4) return number % 2 === border % 2;
      return random.float() < luck;
    };
    return {
      sector: (sizeBytes) => {
        if (!keepsSector()) return false;
        if (random.below(16) > 0) return true;
        this.count("power loss, sector torn");
        return random.below(sizeBytes + 1);
      },
      name: () => random.float() < luck,
    };
  }

  /** Flips a bit or a few of one byte of the log at rest. */
  flip(fs: MemoryFileSystem): void {
    const { random } = this.#options;
    const paths = fs.mediumPaths.filter((path) => path.endsWith(".wal"));
    const path = paths[random.below(paths.length)];
    if (path === undefined) return;
    // Mostly where something is: behind the header, which is mostly zeros.
    const offset = random.below(4) === 0 ? random.below(64) : 4096 + random.below(4096);
    fs.flip(path, offset, 1 << random.below(8));
    this.count("flipped bit");
  }
}
