/**
 * Prepares the next segment file in the background: zeros over its whole size, synced.
 *
 * Writing into blocks that already exist makes `fdatasync` cheap (no file size, no block map to
 * journal), and means that a full disk is met here, where it is harmless, and not under a batch.
 *
 * The engine writes to the same disk, and a write of its that finds no space ends the process. So a
 * file is begun only when it leaves WAL_SPACE_KEPT_BYTES free: filling the disk up to find out would
 * take the last space away twice a second. When space runs out all the same, the file is removed and
 * tried again later; any other error is fatal.
 *
 * The file has a name of its own, `prepared.tmp`, until the log has written and synced its head and
 * renames it. Recovery does not read it, and the next preparation empties it: so its name needs no
 * sync of the directory.
 */
import { dirname } from "node:path";
import type { Clock } from "#shared/clock.ts";
import {
  WAL_PREPARE_CHUNK_BYTES,
  WAL_SPACE_KEPT_BYTES,
  WAL_SPACE_RETRY_MS,
} from "#shared/limits.ts";
import {
  closeFile,
  datasync,
  freeBytes,
  isOutOfSpace,
  openFile,
  outOfSpace,
  unlinkFile,
  writeFully,
} from "./file-promises.ts";
import type { WalFile, WalFileSystem } from "./file-system.ts";

export const PREPARED_NAME = "prepared.tmp";

/** Chunks between two syncs: keeps the kernel from collecting a long queue before the log's own. */
const CHUNKS_PER_SYNC = 8;

export type PreparedFile = { readonly file: WalFile; readonly sizeBytes: number };

type Waiter = {
  readonly sizeBytes: number;
  readonly resolve: (prepared: PreparedFile | undefined) => void;
};

export type ReserveOptions = {
  readonly fs: WalFileSystem;
  /** Path of the prepared file. */
  readonly path: string;
  readonly clock: Clock;
  /** An error other than lack of space. */
  readonly onError: (error: unknown) => void;
};

export class SegmentReserve {
  readonly #options: ReserveOptions;
  readonly #zeros = new Uint8Array(WAL_PREPARE_CHUNK_BYTES);
  #file: WalFile | undefined;
  /** Zeroed and synced bytes of `#file`. */
  #readyBytes = 0;
  #targetBytes = 0;
  #waiter: Waiter | undefined;
  #running: Promise<void> | undefined;
  #cancelRetry: (() => void) | undefined;
  #closed = false;
  #spaceLow = false;

  constructor(options: ReserveOptions) {
    this.#options = options;
  }

  /** Size of a prepared file that `take` would answer at once; 0 for none. */
  get readyBytes(): number {
    return this.#readyBytes >= this.#targetBytes ? this.#readyBytes : 0;
  }

  /** The last attempt failed for lack of space, and none has succeeded since. */
  get spaceLow(): boolean {
    return this.#spaceLow;
  }

  /** Prepares a file of `sizeBytes` if there is none as large. */
  prepare(sizeBytes: number): void {
    this.#targetBytes = Math.max(this.#targetBytes, sizeBytes);
    this.#run();
  }

  /**
   * Hands over a prepared file of at least `sizeBytes`, named `PREPARED_NAME`, as soon as there is
   * one: on a full disk that may take until space is freed. Undefined once closed. One at a time.
   */
  take(sizeBytes: number): Promise<PreparedFile | undefined> {
    return new Promise((resolve) => {
      this.#waiter = { sizeBytes, resolve };
      this.#serveWaiter();
      if (this.#waiter !== undefined) this.prepare(sizeBytes);
    });
  }

  /** Stops preparing; a `take` under way still gets its file if there is space. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry?.();
    while (this.#running !== undefined) await this.#running;
    this.#giveUp();
    const file = this.#file;
    this.#file = undefined;
    this.#readyBytes = 0;
    if (file !== undefined) await closeFile(file);
  }

  #stop(error: unknown): void {
    this.#closed = true;
    this.#options.onError(error);
    this.#giveUp();
  }

  #giveUp(): void {
    this.#waiter?.resolve(undefined);
    this.#waiter = undefined;
  }

  #serveWaiter(): void {
    const waiter = this.#waiter;
    if (waiter === undefined || this.#running || this.#file === undefined) return;
    if (this.#readyBytes < waiter.sizeBytes) return;
    const prepared = { file: this.#file, sizeBytes: this.#readyBytes };
    this.#file = undefined;
    this.#readyBytes = 0;
    this.#targetBytes = 0;
    this.#waiter = undefined;
    waiter.resolve(prepared);
  }

  #run(): void {
    if (this.#running !== undefined || this.#readyBytes >= this.#targetBytes) return;
    if (this.#closed && this.#waiter === undefined) return;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    this.#running = this.#grow()
      .then(
        () => {
          this.#spaceLow = false;
        },
        (error: unknown) => this.#onFailure(error),
      )
      .then(() => {
        this.#running = undefined;
        this.#serveWaiter();
        // The target may have grown after the last chunk was written.
        if (this.#cancelRetry === undefined) this.#run();
      });
  }

  async #grow(): Promise<void> {
    const { fs, path } = this.#options;
    await this.#requireSpace();
    this.#file ??= await openFile(fs, path, "create");
    let position = this.#readyBytes;
    for (let chunk = 1; position < this.#targetBytes; chunk++) {
      if (this.#closed && this.#waiter === undefined) return;
      const length = Math.min(this.#zeros.length, this.#targetBytes - position);
      await writeFully(this.#file, this.#zeros.subarray(0, length), position);
      position += length;
      if (chunk % CHUNKS_PER_SYNC === 0) await datasync(this.#file);
    }
    await datasync(this.#file);
    this.#readyBytes = position;
  }

  async #requireSpace(): Promise<void> {
    const { fs, path } = this.#options;
    const free = await freeBytes(fs, dirname(path));
    const needed = this.#targetBytes - this.#readyBytes + WAL_SPACE_KEPT_BYTES;
    if (free < needed) throw outOfSpace(`${free} bytes are free, and ${needed} are needed`);
  }

  async #onFailure(error: unknown): Promise<void> {
    const { fs, path, clock } = this.#options;
    if (!isOutOfSpace(error)) {
      this.#stop(error);
      return;
    }
    this.#spaceLow = true;
    const file = this.#file;
    this.#file = undefined;
    this.#readyBytes = 0;
    try {
      if (file !== undefined) {
        await closeFile(file);
        await unlinkFile(fs, path);
      }
    } catch (cleanupError) {
      this.#stop(cleanupError);
      return;
    }
    if (this.#closed) this.#giveUp();
    else this.#cancelRetry = clock.after(WAL_SPACE_RETRY_MS, () => this.#run());
  }
}
