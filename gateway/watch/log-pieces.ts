/**
 * Pieces of the change log for watches that catch up. When a gateway ends, thousands come here with much the same
 * tokens: those that stand at the same place share one read, and a piece that has been read serves for a while whoever
 * stands somewhere within it. What a log says of a revision never changes.
 */
import type { Clock } from "#shared/clock.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import {
  FEED_READ_TIMEOUT_MS,
  WATCH_CATCH_UP_BYTES,
  WATCH_PIECES_KEPT_MAX,
  WATCH_PIECES_KEPT_MS,
} from "#shared/limits.ts";
import type { ChangeLog, LogPiece } from "./change-source.ts";

type Held = {
  readonly vshard: VshardId;
  readonly afterRevision: Revision;
  readonly piece: Promise<LogPiece>;
  /** Revision of its last change; `afterRevision` while it is being read. */
  endRevision: number;
};

export class LogPieces {
  readonly #log: ChangeLog;
  readonly #clock: Clock;
  /** Those that are being read, and those that have been, oldest first. */
  readonly #reading = new Set<Held>();
  #kept: Held[] = [];
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  constructor(log: ChangeLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** As `ChangeLog.read`; the piece may begin before `afterRevision`. @throws KvError */
  read(vshard: VshardId, afterRevision: Revision): Promise<LogPiece> {
    for (const held of this.#reading) {
      if (held.vshard === vshard && held.afterRevision === afterRevision) return held.piece;
    }
    for (const held of this.#kept) {
      const has = held.afterRevision <= afterRevision && afterRevision < held.endRevision;
      if (held.vshard === vshard && has) return held.piece;
    }
    const deadlineMs = this.#clock.nowMs() + FEED_READ_TIMEOUT_MS;
    const piece = this.#log.read(vshard, afterRevision, WATCH_CATCH_UP_BYTES, { deadlineMs });
    const held: Held = { vshard, afterRevision, piece, endRevision: afterRevision };
    this.#reading.add(held);
    piece.then(
      (found) => this.#keep(held, found),
      () => this.#reading.delete(held),
    );
    return piece;
  }

  close(): void {
    this.#closed = true;
    this.#kept = [];
    this.#cancelTimer?.();
  }

  #keep(held: Held, piece: LogPiece): void {
    this.#reading.delete(held);
    if (this.#closed || piece.kind !== "changes") return;
    held.endRevision = piece.batch.previousRevision + piece.batch.changes.length;
    // Of an empty one there may be more a moment later.
    if (held.endRevision <= held.afterRevision) return;
    this.#kept.push(held);
    if (this.#kept.length > WATCH_PIECES_KEPT_MAX) this.#kept.shift();
    this.#cancelTimer ??= this.#clock.after(WATCH_PIECES_KEPT_MS, () => {
      this.#cancelTimer = undefined;
      this.#kept = [];
    });
  }
}
