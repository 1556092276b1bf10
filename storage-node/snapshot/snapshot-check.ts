/**
 * Checks a snapshot chunk by chunk, in the order of its chunks, while it is received and whenever it is
 * read back. Whoever takes over what passed has every row that was sent, and nothing else: rows of the
 * right group, each once, and as many and with the same hash as the sender found.
 */
import { createHash } from "node:crypto";
import { compareBytes, equalBytes } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { LogIndex, Term } from "#shared/ids.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import {
  journalRowPosition,
  ROW_HEAD_SIZE_BYTES,
  RowKind,
  rowHead,
} from "#storage-node/engine/layout.ts";
import { decodeJournalRow } from "#storage-node/machine/journal.ts";
import { encodeConfiguration } from "#storage-node/raft/configuration.ts";
import { decodeRows, type Frame, type Opening } from "./frames.ts";

const KINDS: ReadonlySet<number> = new Set(Object.values(RowKind));

export class SnapshotCheck {
  readonly opening: Opening;
  readonly #hash = createHash("sha256");
  #nextSequence = 0;
  #rows = 0;
  #lastKey: Uint8Array | undefined;
  /** Of the last journal row so far: what is applied. */
  #index = 0 as LogIndex;
  #term = 0 as Term;

  constructor(opening: Opening) {
    this.opening = opening;
  }

  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** @param visit is handed each row once it has passed @throws KvError DATA_CORRUPT */
  rows(frame: Frame & { readonly kind: "rows" }, visit?: (row: Row) => void): void {
    if (frame.sequence !== this.#nextSequence) {
      throw this.#corrupt(`chunk ${frame.sequence} comes in place of ${this.#nextSequence}`);
    }
    try {
      decodeRows(frame.bytes, (row) => {
        this.#row(row);
        visit?.(row);
      });
    } catch (error) {
      if (error instanceof RangeError) throw this.#corrupt(error.message, error);
      throw error;
    }
    // The caller may use the buffer again.
    if (this.#lastKey !== undefined) this.#lastKey = new Uint8Array(this.#lastKey);
    this.#hash.update(frame.bytes);
    this.#nextSequence++;
  }

  #row(row: Row): void {
    const { key, value } = row;
    if (key.length < ROW_HEAD_SIZE_BYTES) throw this.#corrupt("a row has no kind or group");
    const { kind, group } = rowHead(key);
    if (!KINDS.has(kind)) throw this.#corrupt(`a row has the unknown kind ${kind}`);
    if (group !== this.opening.group) throw this.#corrupt(`a row is of group ${group}`);
    if (this.#lastKey !== undefined && compareBytes(key, this.#lastKey) <= 0) {
      throw this.#corrupt("rows are out of order");
    }
    this.#lastKey = key;
    this.#rows++;
    if (kind === RowKind.Journal) {
      this.#index = journalRowPosition(key).index;
      this.#term = decodeJournalRow(key, value).term;
    } else if (kind === RowKind.Configuration) {
      const expected = encodeConfiguration(this.opening.configuration);
      if (!equalBytes(value, expected)) throw this.#corrupt("its rows name other members");
    }
  }

  /** Behind the last chunk. Once. @throws KvError DATA_CORRUPT */
  end(frame: Frame & { readonly kind: "end" }): void {
    const { snapshotIndex, snapshotTerm } = this.opening;
    if (frame.chunks !== this.#nextSequence || frame.rows !== this.#rows) {
      const found = `${this.#nextSequence} chunks with ${this.#rows} rows`;
      throw this.#corrupt(`${found} came of ${frame.chunks} with ${frame.rows}`);
    }
    if (!equalBytes(this.#hash.digest(), frame.hash)) throw this.#corrupt("its hash does not fit");
    if (this.#index !== snapshotIndex || this.#term !== snapshotTerm) {
      throw this.#corrupt(`its rows are those of entry ${this.#index}@${this.#term}`);
    }
  }

  #corrupt(what: string, cause?: unknown): KvError {
    const { group, snapshotIndex, snapshotTerm } = this.opening;
    const name = `the snapshot of group ${group} at ${snapshotIndex}@${snapshotTerm}`;
    return new KvError("DATA_CORRUPT", `${name} is not as it was sent: ${what}`, { cause });
  }
}
