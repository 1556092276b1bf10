/**
 * The rows of a group in a view of the engine, as chunks that can be asked for again.
 *
 * Chunk n is always the same, whichever was asked for before: it begins at a key that is remembered,
 * and ends with the row that makes it large enough. So an interrupted transfer goes on anywhere. The
 * hash runs once over all chunks, in their order, as they are made for the first time.
 */
import { createHash } from "node:crypto";
import { assert } from "#shared/assert.ts";
import type { GroupId } from "#shared/ids.ts";
import { SNAPSHOT_CHUNK_BYTES_SOFT_MAX } from "#shared/limits.ts";
import type { EngineIterator, EngineSnapshot, Row } from "#storage-node/engine/engine.ts";
import { RowKind, rowHead, rowsOf } from "#storage-node/engine/layout.ts";
import { encodeRows, rowBytesOf, rowSizeBytes } from "./frames.ts";

/** As they sort. */
const KINDS: readonly RowKind[] = Object.values(RowKind).sort((a, b) => a - b);
const ROWS_PER_READ = 256;

export class OutgoingRows {
  readonly #view: EngineSnapshot;
  readonly #group: GroupId;
  readonly #chunkBytes: number;
  readonly #hash = createHash("sha256");
  /** First key of each chunk made so far. */
  readonly #starts: Uint8Array[] = [];
  #rowCount = 0;
  #totals:
    | { readonly chunks: number; readonly rows: number; readonly hash: Uint8Array }
    | undefined;

  // Where the cursor stands: in front of chunk `#next`.
  #next = 0;
  #kind = 0;
  #iterator: EngineIterator | undefined;
  #read: readonly Row[] = [];
  #position = 0;

  /** Takes over the view. */
  constructor(view: EngineSnapshot, group: GroupId, chunkBytes = SNAPSHOT_CHUNK_BYTES_SOFT_MAX) {
    this.#view = view;
    this.#group = group;
    this.#chunkBytes = chunkBytes;
  }

  /** Chunks made so far. */
  get made(): number {
    return this.#starts.length;
  }

  /** Once a chunk was answered with undefined. */
  get totals(): { readonly chunks: number; readonly rows: number; readonly hash: Uint8Array } {
    assert(this.#totals !== undefined, "totals are known at the end");
    return this.#totals;
  }

  /**
   * One chunk, encoded; undefined behind the last. At most the one behind those made so far. One call
   * at a time.
   */
  async chunk(sequence: number): Promise<Uint8Array | undefined> {
    assert(sequence <= this.#starts.length, "chunks are made in order");
    if (this.#totals !== undefined && sequence === this.#totals.chunks) return undefined;
    if (sequence !== this.#next) await this.#goTo(sequence);
    const rows: Row[] = [];
    let sizeBytes = 0;
    while (sizeBytes < this.#chunkBytes) {
      const row = await this.#nextRow();
      if (row === undefined) break;
      rows.push(row);
      sizeBytes += rowSizeBytes(row);
    }
    const isNew = sequence === this.#starts.length;
    if (rows.length === 0) {
      assert(isNew, "a chunk has rows");
      const hash = this.#hash.digest();
      this.#totals = { chunks: this.#starts.length, rows: this.#rowCount, hash };
      return undefined;
    }
    const chunk = encodeRows(sequence, rows, sizeBytes);
    this.#next = sequence + 1;
    if (isNew) {
      // A copy: the key may be a view of a large buffer.
      this.#starts.push(new Uint8Array(rows[0]!.key));
      this.#rowCount += rows.length;
      this.#hash.update(rowBytesOf(chunk));
    }
    return chunk;
  }

  async #goTo(sequence: number): Promise<void> {
    const start = this.#starts[sequence];
    if (start === undefined) {
      // Where a new chunk begins is known by its predecessor only.
      await this.chunk(sequence - 1);
      return;
    }
    await this.#closeIterator();
    this.#kind = KINDS.indexOf(rowHead(start).kind as RowKind);
    const { end } = rowsOf(KINDS[this.#kind]!, this.#group);
    this.#iterator = this.#view.iterate({ start, end });
    this.#next = sequence;
  }

  async #nextRow(): Promise<Row | undefined> {
    while (this.#position >= this.#read.length) {
      const kind = KINDS[this.#kind];
      if (kind === undefined) return undefined;
      this.#iterator ??= this.#view.iterate(rowsOf(kind, this.#group));
      this.#read = await this.#iterator.next(ROWS_PER_READ);
      this.#position = 0;
      if (this.#read.length > 0) break;
      await this.#closeIterator();
      this.#kind++;
    }
    return this.#read[this.#position++];
  }

  async #closeIterator(): Promise<void> {
    const iterator = this.#iterator;
    this.#iterator = undefined;
    this.#read = [];
    this.#position = 0;
    await iterator?.close();
  }

  /** Gives up the view. Idempotent. Not while a chunk is being made. */
  async close(): Promise<void> {
    await this.#closeIterator();
    await this.#view.close();
  }
}
