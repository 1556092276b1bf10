/**
 * Decides whether this node may take writes, by the space left on its disk.
 *
 * Writes are refused **before** the disk is full: a failed write of the log or the engine would end
 * the process. So `reserveBytes` are kept free for what is already on its way (log batches, memtable
 * flushes, compactions). Between two looks at the disk the guard counts what was let in, times a
 * factor for the copies it makes (log, engine log, tables), and assumes that it has been used.
 *
 * Deletes are what frees space, so they may use the upper half of the reserve.
 */
import { statfs } from "node:fs";
import type { Clock } from "#shared/clock.ts";
import { DISK_CHECK_INTERVAL_MS } from "#shared/limits.ts";

/** A byte let in is written to the Raft log, the engine's log and a table, which is compacted. */
const BYTES_WRITTEN_PER_BYTE_TAKEN = 4;

/** Free bytes of the file system that holds `path`, for an ordinary user. */
export type FreeSpaceProbe = (
  path: string,
  done: (error: unknown, freeBytes: number) => void,
) => void;

export const systemFreeSpace: FreeSpaceProbe = (path, done) => {
  statfs(path, (error, stats) => {
    done(error, error ? 0 : stats.bavail * stats.bsize);
  });
};

export type DiskGuardOptions = {
  readonly path: string;
  readonly reserveBytes: number;
  readonly clock: Clock;
  readonly probe: FreeSpaceProbe;
  readonly onChange: (writable: boolean, freeBytes: number) => void;
};

export class DiskGuard {
  readonly #options: DiskGuardOptions;
  #freeBytes = Number.POSITIVE_INFINITY;
  /** Let in since the running look began, and since the last finished one began. */
  #takenBytes = 0;
  #writable = true;
  #stopped = false;
  #cancelTimer: () => void = () => {};

  constructor(options: DiskGuardOptions) {
    this.#options = options;
  }

  get reserveBytes(): number {
    return this.#options.reserveBytes;
  }

  /** Looks at the disk now and then every DISK_CHECK_INTERVAL_MS, until `stop`. */
  start(): void {
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  get writable(): boolean {
    return this.#writable;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** Whether a write of `sizeBytes` may be taken; counts it if so. */
  take(sizeBytes: number, frees: boolean): boolean {
    if (!this.#writable && !frees) return false;
    const taken = this.#takenBytes + sizeBytes * BYTES_WRITTEN_PER_BYTE_TAKEN;
    const leftBytes = this.#freeBytes - taken;
    const { reserveBytes } = this.#options;
    if (leftBytes < reserveBytes) this.#setWritable(false);
    if (leftBytes < (frees ? reserveBytes / 2 : reserveBytes)) return false;
    this.#takenBytes = taken;
    return true;
  }

  #look(): void {
    const takenBefore = this.#takenBytes;
    this.#options.probe(this.#options.path, (error, freeBytes) => {
      if (this.#stopped) return;
      // A file system that cannot be asked gives no reason to trust it with writes.
      this.#freeBytes = error ? 0 : freeBytes;
      this.#takenBytes -= takenBefore;
      const { reserveBytes } = this.#options;
      // A tenth more than the reserve before writes resume, so that the answer does not flap.
      const needed = this.#writable ? reserveBytes : reserveBytes * 1.1;
      this.#setWritable(this.#freeBytes - this.#takenBytes >= needed);
      this.#cancelTimer = this.#options.clock.after(DISK_CHECK_INTERVAL_MS, () => this.#look());
    });
  }

  #setWritable(writable: boolean): void {
    if (this.#writable === writable) return;
    this.#writable = writable;
    this.#options.onChange(writable, this.#freeBytes);
  }
}
