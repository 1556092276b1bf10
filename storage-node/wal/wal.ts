/**
 * The write-ahead log: group commit into preallocated segments. Formats: docs/formats/wal.md.
 *
 * **Group commit.** `append` encodes at once into the gathering batch. When nothing is being written
 * the batch leaves immediately; else it gathers until the running sync ends. One write and one
 * `fdatasync` per batch, strictly one batch after the other: recovery's judgement (replay.ts) rests
 * on batch N+1 not being written before N is synced.
 *
 * **Errors are final.** After a failed `fdatasync` the kernel may mark the dirty pages clean, so
 * that a second `fdatasync` succeeds although the data never reached the disk (Rebello et al., "Can
 * Applications Recover from fsync Failures?", USENIX ATC 2020). So a failed or short write or sync is
 * never retried: `onFatal` is called once, no callback runs any more, and the process must end. What
 * is on disk decides at the next start.
 *
 * **Seal.** Once nothing was written for `WAL_IDLE_MS`, what has gathered (lazy records, or nothing)
 * is written behind the last batch, unsynced. This frame says "all before me is durable", by which
 * recovery tells damage to the last acknowledged batch from a torn write. It is provisional: the next
 * batch contains it, takes the same sequence, and overwrites it in place; so it neither needs a sync
 * nor can it come between two synced batches. `close` writes a seal and syncs it.
 *
 * **Rotation.** Head (header, checkpoint of all groups) and first batch of a new segment are written
 * and synced under the prepared file's temporary name; then it gets its real name, and the directory
 * is synced; then callbacks run. So a file with a segment's name always begins with intact, durable
 * batches, and a crash at any point before leaves the old segment as the last one.
 */
import { assert } from "#shared/assert.ts";
import { KvError } from "#shared/errors.ts";
import { WAL_BATCH_SIZE_BYTES_MAX, WAL_IDLE_MS } from "#shared/limits.ts";
import { Batch, recordsSizeBytes } from "./batch.ts";
import { WalFigures } from "./figures.ts";
import {
  closeFile,
  datasync,
  openFailure,
  openFile,
  shortWrite,
  syncDirectory,
  unlinkFile,
  writeFully,
} from "./file-promises.ts";
import { FRAME_HEADER_SIZE_BYTES } from "./frame.ts";
import type { GroupTable } from "./group-table.ts";
import {
  type RecoveredLog,
  recoverLog,
  type SegmentFile,
  segmentName,
  type Tail,
} from "./recover.ts";
import { PREPARED_NAME, type PreparedFile, SegmentReserve } from "./reserve.ts";
import {
  encodeHead,
  firstSegmentSizeBytes,
  headSizeBytes,
  publishSegment,
  segmentSizeFor,
} from "./segment.ts";
import type { Wal, WalOptions, WalRecord, WalRecovery } from "./types.ts";

/** One gathers and one is written; a third runs its callbacks. */
const FREE_BATCHES_MAX = 3;

/**
 * Recovers the log of `options.directory`, or starts one.
 *
 * @throws KvError DATA_CORRUPT when acknowledged data is damaged or missing; INVALID_ARGUMENT for
 * another node's log or another format; STORAGE_FULL without space; UNAVAILABLE when the disk fails
 */
export async function openWal(options: WalOptions): Promise<Wal> {
  try {
    const log = await recoverLog(options.fs, options.directory, options.nodeId);
    const wal = new WriteAheadLog(options, log);
    await wal.start();
    return wal;
  } catch (error) {
    throw openFailure(options.directory, error);
  }
}

class WriteAheadLog implements Wal {
  readonly recovery: WalRecovery;
  readonly #options: WalOptions;
  readonly #table: GroupTable;
  readonly #reserve: SegmentReserve;
  readonly #preparedPath: string;

  /** Oldest first, the tail's included. */
  readonly #segments: SegmentFile[];
  /** Undefined only before `start` has made a new log's first segment. */
  #tail: Tail | undefined;
  /** Of the last batch that is durable. */
  #sequence: number;
  #crc: number;
  /** Highest sequence that a frame on disk calls durable. */
  #declaredDurable: number;

  #gathering = new Batch();
  /** Full batches, waiting in front of `#gathering`. */
  readonly #queue: Batch[] = [];
  readonly #free: Batch[] = [];
  #writing: Batch | undefined;
  #writingCrc = 0;
  /** A seal is being written. */
  #sealing = false;
  /** Bytes of `#gathering` that the seal on disk holds. */
  #sealedBytes = FRAME_HEADER_SIZE_BYTES;

  #cancelIdleTimer: (() => void) | undefined;
  readonly figures: WalFigures;
  #failed = false;
  #closed = false;
  #closing: Promise<void> | undefined;
  #onDrained: (() => void) | undefined;
  #removing: Promise<number> | undefined;

  constructor(options: WalOptions, log: RecoveredLog) {
    this.recovery = log.recovery;
    this.#options = options;
    this.#table = log.table;
    this.#segments = [...log.segments];
    this.figures = new WalFigures(this.#segments);
    this.#tail = log.tail;
    this.#sequence = log.sequence;
    this.#crc = log.crc;
    this.#declaredDurable = log.sealed ? log.sequence : log.sequence - 1;
    this.#preparedPath = `${options.directory}/${PREPARED_NAME}`;
    this.#reserve = new SegmentReserve({
      fs: options.fs,
      path: this.#preparedPath,
      clock: options.clock,
      onError: (error) => this.#fail(error),
    });
  }

  /** Makes the first segment of a new log, and begins to prepare the next one. */
  async start(): Promise<void> {
    const { fs, segmentSizeBytes } = this.#options;
    if (this.#tail === undefined) {
      const sizeBytes = firstSegmentSizeBytes(segmentSizeBytes);
      const file = await openFile(fs, this.#preparedPath, "create");
      try {
        await writeFully(file, new Uint8Array(sizeBytes), 0);
        await datasync(file);
        await this.#beginSegment({ file, sizeBytes }, undefined);
      } catch (error) {
        await closeFile(file);
        throw error;
      }
    }
    this.#reserve.prepare(segmentSizeBytes);
    this.#armIdleTimer();
  }

  get busy(): boolean {
    return this.#writing !== undefined || this.#sealing;
  }

  get spaceLow(): boolean {
    return this.#reserve.spaceLow;
  }

  get reservedBytes(): number {
    const tail = this.#tail;
    if (tail === undefined || this.#failed) return 0;
    let bytes = tail.segment.sizeBytes - tail.position - FRAME_HEADER_SIZE_BYTES;
    if (this.#reserve.readyBytes > 0) {
      const prepared = this.#reserve.readyBytes - headSizeBytes(this.#table);
      bytes += Math.max(0, prepared - FRAME_HEADER_SIZE_BYTES);
    }
    bytes -= this.#gathering.sizeBytes + (this.#writing?.sizeBytes ?? 0);
    for (const batch of this.#queue) bytes -= batch.sizeBytes;
    return Math.max(0, bytes);
  }

  get sizeBytes(): number {
    let bytes = this.#reserve.readyBytes;
    for (const segment of this.#segments) bytes += segment.sizeBytes;
    return bytes;
  }

  append(records: readonly WalRecord[], onDurable: () => void): void {
    assert(!this.#closed, "nothing is appended to a closed log");
    if (this.#failed) return;
    if (records.length === 0) {
      this.#afterAllBefore(onDurable);
      return;
    }
    this.#gather(records);
    this.#gathering.wanted = true;
    this.#gathering.callbacks.push(onDurable);
    this.#startNext();
  }

  appendLazily(records: readonly Extract<WalRecord, { kind: "hardState" }>[]): void {
    assert(!this.#closed, "nothing is appended to a closed log");
    if (this.#failed || records.length === 0) return;
    this.#gather(records);
    this.#armIdleTimer();
  }

  #gather(records: readonly WalRecord[]): void {
    this.#table.admit(records);
    const sizeBytes = recordsSizeBytes(records);
    const batch = this.#gathering;
    if (!batch.isEmpty && batch.sizeBytes + sizeBytes > WAL_BATCH_SIZE_BYTES_MAX) {
      this.#queue.push(batch);
      this.#gathering = this.#free.pop() ?? new Batch();
    }
    this.#gathering.add(records, sizeBytes);
  }

  #afterAllBefore(onDurable: () => void): void {
    if (this.#gathering.wanted) this.#gathering.callbacks.push(onDurable);
    else if (this.#queue.length > 0) this.#queue.at(-1)!.callbacks.push(onDurable);
    else if (this.#writing !== undefined) this.#writing.callbacks.push(onDurable);
    else queueMicrotask(onDurable);
  }

  #startNext(): void {
    if (this.busy || this.#failed) return;
    let batch = this.#queue.shift();
    if (batch === undefined && this.#gathering.wanted) {
      batch = this.#gathering;
      this.#gathering = this.#free.pop() ?? new Batch();
    }
    if (batch === undefined) {
      this.#onDrained?.();
      return;
    }
    this.#writing = batch;
    this.figures.begin(batch, this.#options.clock.monotonicMs());
    if (this.#fits(batch)) this.#write(batch);
    else this.#rotate(batch);
  }

  /** There is room for the batch, and for a seal behind it. */
  #fits(batch: Batch): boolean {
    const tail = this.#tail!;
    const end = tail.position + batch.sizeBytes + FRAME_HEADER_SIZE_BYTES;
    return end <= tail.segment.sizeBytes;
  }

  #write(batch: Batch): void {
    const { file, position } = this.#tail!;
    const frame = this.#sealBatch(batch);
    file.write(frame, position, (writeError, count) => {
      const failure = writeError ?? shortWrite(count, frame.length);
      if (failure) this.#fail(failure);
      else file.datasync((error) => (error ? this.#fail(error) : this.#onDurable(batch)));
    });
  }

  #sealBatch(batch: Batch): Uint8Array {
    const { frame, crc } = batch.seal(this.#tail!.salt, {
      sequence: this.#sequence + 1,
      previousCrc: this.#crc,
      durable: this.#sequence,
    });
    this.#writingCrc = crc;
    return frame;
  }

  /**
   * What waits is sent to the disk before the callbacks run, so that both work at once. When nothing
   * waits, the log stays busy meanwhile: all that the callbacks append goes into one batch.
   */
  #onDurable(batch: Batch): void {
    if (this.#failed) return;
    this.figures.durable(batch, this.#options.clock.monotonicMs());
    const tail = this.#tail!;
    tail.position += batch.sizeBytes;
    this.#declaredDurable = this.#sequence;
    this.#sequence++;
    this.#crc = this.#writingCrc;
    this.#sealedBytes = FRAME_HEADER_SIZE_BYTES;
    for (const records of batch.records) this.#table.commit(records, tail.segment.number);
    const othersWait = this.#queue.length > 0 || this.#gathering.wanted;
    if (othersWait) {
      this.#writing = undefined;
      this.#startNext();
    }
    for (const callback of batch.callbacks) callback();
    if (!othersWait) {
      this.#writing = undefined;
      this.#startNext();
    }
    batch.reset();
    if (this.#free.length < FREE_BATCHES_MAX) this.#free.push(batch);
    this.#armIdleTimer();
  }

  #rotate(batch: Batch): void {
    this.#reserve
      .take(segmentSizeFor(this.#table, batch.sizeBytes))
      .then((prepared) => {
        if (this.#failed) return undefined;
        if (prepared === undefined) return this.#abandon();
        return this.#beginSegment(prepared, batch);
      })
      .catch((error: unknown) => this.#fail(error));
  }

  /** Makes `prepared` the tail, with `batch` behind its checkpoint. */
  async #beginSegment(prepared: PreparedFile, batch: Batch | undefined): Promise<void> {
    const { fs, directory, nodeId, random } = this.#options;
    const before = this.#tail;
    const number = (this.#segments.at(-1)?.number ?? 0) + 1;
    const firstSequence = this.#sequence + 1;
    const salt = random.below(2 ** 32);
    const { sizeBytes } = prepared;
    const previousCrc = this.#crc;
    const fields = { nodeId, number, firstSequence, sizeBytes, previousCrc, salt };
    const head = encodeHead(fields, this.#table);
    const path = `${directory}/${segmentName(firstSequence)}`;
    const segment: SegmentFile = { path, number, sizeBytes };
    this.#tail = { file: prepared.file, segment, salt, position: head.bytes.length };
    this.#sequence = firstSequence;
    this.#crc = head.crc;
    const parts = batch === undefined ? [head.bytes] : [head.bytes, this.#sealBatch(batch)];
    await publishSegment(fs, prepared, parts, { directory, from: this.#preparedPath, to: path });
    this.#segments.push(segment);
    if (before !== undefined) await closeFile(before.file);
    if (this.#closing === undefined) this.#reserve.prepare(this.#options.segmentSizeBytes);
    if (batch !== undefined) this.#onDurable(batch);
  }

  /** Armed once, not per batch: when it fires it looks whether batches were written meanwhile. */
  #armIdleTimer(): void {
    if (this.#cancelIdleTimer !== undefined || this.#closing !== undefined || this.#failed) return;
    const written = this.figures.begun;
    this.#cancelIdleTimer = this.#options.clock.after(WAL_IDLE_MS, () => {
      this.#cancelIdleTimer = undefined;
      if (this.busy || this.figures.begun !== written) this.#armIdleTimer();
      else this.#seal();
    });
  }

  #seal(): void {
    const gathered = this.#gathering;
    const isNews = gathered.sizeBytes > this.#sealedBytes || this.#declaredDurable < this.#sequence;
    if (!isNews || this.#failed || this.#closing !== undefined) return;
    if (!this.#fits(gathered) && !gathered.isEmpty) {
      gathered.wanted = true;
      this.#startNext();
      return;
    }
    this.#writeSeal();
  }

  #writeSeal(): void {
    const { file, position, segment } = this.#tail!;
    if (position + this.#gathering.sizeBytes > segment.sizeBytes) return;
    const frame = this.#sealBatch(this.#gathering);
    this.#sealing = true;
    file.write(frame, position, (error, count) => {
      const failure = error ?? shortWrite(count, frame.length);
      if (failure) {
        this.#fail(failure);
        return;
      }
      this.#sealing = false;
      this.#sealedBytes = frame.length;
      this.#declaredDurable = this.#sequence;
      this.#startNext();
    });
  }

  removeObsoleteSegments(): Promise<number> {
    this.#removing ??= this.#removeObsoleteSegments()
      .catch((error: unknown) => {
        this.#fail(error);
        return 0;
      })
      .finally(() => {
        this.#removing = undefined;
      });
    return this.#removing;
  }

  /**
   * Oldest first, and each removal durable before the next: a crash must not leave a hole, which
   * recovery would take for a lost segment.
   */
  async #removeObsoleteSegments(): Promise<number> {
    const { fs, directory } = this.#options;
    let removed = 0;
    while (this.#segments.length > 1 && !this.#failed && !this.#closed) {
      const oldest = this.#segments[0]!;
      const newest = this.#segments.at(-1)!;
      if (this.#table.oldestSegment(newest.number) <= oldest.number) break;
      await unlinkFile(fs, oldest.path);
      await syncDirectory(fs, directory);
      this.#segments.shift();
      removed++;
    }
    return removed;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    this.#cancelIdleTimer?.();
    // Lazy records are worth a sync now: nothing comes after them.
    if (!this.#gathering.isEmpty) this.#gathering.wanted = true;
    // Caught here: it may come while batches are still being written.
    const reserveClosed = this.#reserve.close().catch((error: unknown) => this.#fail(error));
    await this.#drained();
    await reserveClosed;
    this.#closed = true;
    await this.#removing;
    const file = this.#tail!.file;
    if (!this.#failed && this.#declaredDurable < this.#sequence) {
      this.#writeSeal();
      await this.#drained();
    }
    if (!this.#failed) await datasync(file).catch((error: unknown) => this.#fail(error));
    await closeFile(file);
  }

  /** Nothing is being written, and nothing waits; or the log has failed. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
      if (this.#failed) resolve();
      else this.#startNext();
    });
  }

  /** Closing, and the disk has no room for the batch: it is dropped like in a crash. */
  #abandon(): void {
    this.#writing = undefined;
    this.#queue.length = 0;
    this.#gathering.reset();
    this.#onDrained?.();
  }

  #fail(cause: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#cancelIdleTimer?.();
    const where = `the write-ahead log in ${this.#options.directory} failed: ${String(cause)}`;
    const detail = `${where}. This process must end; what is durable is decided at the next start.`;
    this.#options.onFatal(new KvError("UNAVAILABLE", detail, { cause }));
    this.#onDrained?.();
  }
}
