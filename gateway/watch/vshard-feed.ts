/**
 * The changes of one vshard, each once and in order, made of a log that is asked and of news that come by
 * themselves.
 *
 * There is one position. News that begin there pass and move it; what lies before it is dropped; news that begin
 * behind it are put aside while the log is read for what is missing, one piece at a time. Nothing else moves
 * the position, so that nothing is left out however news get lost, repeated or mixed up. News that nobody can put
 * aside are dropped as well: the log has them.
 *
 * A receiver that asks for a pause gets nothing until it asks again, and then first what the log has.
 */
import type { ChangeBatch, ChangeRecord } from "#proto/codec/change-messages.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import {
  FEED_BACKOFF_MS_MAX,
  FEED_BACKOFF_MS_MIN,
  FEED_HEAD_GRACE_MS,
  FEED_READ_BYTES,
  FEED_READ_TIMEOUT_MS,
  FEED_STASHED_BATCHES_MAX,
  FEED_STASHED_BYTES_MAX,
  FEED_STASHED_CHANGES_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { ChangeLog } from "./change-source.ts";

/** Takes the changes of all vshards. Called by feeds, never while it calls them. */
export type FeedSink = {
  /** The vshard is listened to from here on. */
  readonly onStart: (vshard: VshardId, position: Revision) => void;
  /** Consecutive changes right behind the position. False asks for a pause until `resume`. */
  readonly onChanges: (vshard: VshardId, changes: readonly ChangeRecord[]) => boolean;
  /** The log does not reach back to the position: what lies between it and this one is not known. */
  readonly onCompacted: (vshard: VshardId, position: Revision) => void;
  /** The vshard is not listened to any more. */
  readonly onStop: (vshard: VshardId) => void;
};

/** Plain counters of all feeds of a gateway. */
export type FeedCounters = {
  changesReceived: number;
  changesRepeated: number;
  gaps: number;
  logReads: number;
  logReadFailures: number;
  compactions: number;
};

export type VshardFeedOptions = {
  readonly vshard: VshardId;
  readonly log: ChangeLog;
  readonly sink: FeedSink;
  readonly clock: Clock;
  readonly random: Random;
  readonly counters: FeedCounters;
  /** The position is known now: news can be listened to from there. */
  readonly onKnown: () => void;
};

const UNKNOWN = -1;

export class VshardFeed {
  readonly #options: VshardFeedOptions;
  #position = UNKNOWN;
  /** There is a change with this revision, as far as is known. */
  #head = 0;
  #stash: ChangeBatch[] = [];
  #stashedChanges = 0;
  #stashedBytes = 0;
  #isReading = false;
  #isPaused = false;
  /** Nothing was heard for long: the log is to be asked although nothing seems to be missing. */
  #isDoubtful = false;
  #backoffMs = FEED_BACKOFF_MS_MIN;
  #cancelTimer: (() => void) | undefined;
  #closed = false;
  /** Why the position is not known yet. */
  #problem: KvError | undefined;

  constructor(options: VshardFeedOptions) {
    this.#options = options;
    this.#wake();
  }

  get isKnown(): boolean {
    return this.#position !== UNKNOWN;
  }

  /** Asked when known. */
  get position(): Revision {
    return this.#position as Revision;
  }

  get problem(): KvError | undefined {
    return this.#problem;
  }

  /** How many revisions the position is known to lag. */
  get lag(): number {
    return Math.max(0, this.#head - Math.max(0, this.#position));
  }

  /** Of what is put aside. */
  get stashedBytes(): number {
    return this.#stashedBytes;
  }

  onBatch(batch: ChangeBatch): void {
    if (this.#closed || !this.isKnown) return;
    const last = batch.previousRevision + batch.changes.length;
    this.#head = Math.max(this.#head, last);
    if (this.#isPaused || last <= this.#position) return;
    if (batch.previousRevision > this.#position) {
      this.#options.counters.gaps++;
      this.#putAside(batch);
    } else {
      this.#deliver(batch);
      this.#takeStashed();
    }
    this.#wake();
  }

  /** A batch may come right behind the word of it. */
  onHead(revision: Revision): void {
    if (this.#closed || !this.isKnown || revision <= this.#head) return;
    this.#head = revision;
    if (!this.#isReading) this.#wakeAfter(FEED_HEAD_GRACE_MS);
  }

  /** Asks the log, whatever seems to be known. */
  look(): void {
    this.#isDoubtful = true;
    this.#wake();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
  }

  #putAside(batch: ChangeBatch): void {
    const count = batch.changes.length;
    const bytes = bytesOf(batch);
    if (this.#stash.length >= FEED_STASHED_BATCHES_MAX) return;
    if (this.#stashedChanges + count > FEED_STASHED_CHANGES_MAX) return;
    if (this.#stashedBytes + bytes > FEED_STASHED_BYTES_MAX) return;
    this.#stash.push(batch);
    this.#stashedChanges += count;
    this.#stashedBytes += bytes;
  }

  #takeOut(place: number): ChangeBatch {
    const [batch] = this.#stash.splice(place, 1);
    this.#stashedChanges -= batch!.changes.length;
    this.#stashedBytes -= bytesOf(batch!);
    return batch!;
  }

  /** Those that follow on now; what has become old is dropped. */
  #takeStashed(): void {
    for (let i = 0; i < this.#stash.length && !this.#isPaused; ) {
      if (this.#stash[i]!.previousRevision > this.#position) {
        i++;
        continue;
      }
      this.#deliver(this.#takeOut(i));
      // An earlier one may follow on by now.
      i = 0;
    }
  }

  /** Begins at the position or before it. */
  #deliver({ previousRevision, changes }: ChangeBatch): void {
    const { sink, vshard, counters } = this.#options;
    const known = this.#position - previousRevision;
    counters.changesRepeated += Math.min(known, changes.length);
    if (known >= changes.length) return;
    const fresh = known === 0 ? changes : changes.slice(known);
    this.#position += fresh.length;
    counters.changesReceived += fresh.length;
    if (!sink.onChanges(vshard, fresh)) this.#pause();
  }

  /** What is put aside lies behind what has to be read again. */
  #pause(): void {
    this.#isPaused = true;
    this.#stash = [];
    this.#stashedChanges = 0;
    this.#stashedBytes = 0;
  }

  #isWanting(): boolean {
    if (!this.isKnown) return true;
    return this.#head > this.#position || this.#stash.length > 0 || this.#isDoubtful;
  }

  #wake(): void {
    if (this.#closed || this.#isReading || this.#isPaused || this.#cancelTimer) return;
    if (this.#isWanting()) void this.#read();
  }

  #wakeAfter(delayMs: number): void {
    this.#cancelTimer ??= this.#options.clock.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.#wake();
    });
  }

  async #read(): Promise<void> {
    const { counters, clock, random } = this.#options;
    const before = this.#position;
    this.#isReading = true;
    counters.logReads++;
    try {
      const options = { deadlineMs: clock.nowMs() + FEED_READ_TIMEOUT_MS };
      if (before === UNKNOWN) await this.#begin(options);
      else await this.#readPiece(options);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      counters.logReadFailures++;
      this.#problem = error;
    }
    this.#isReading = false;
    if (this.#closed || !this.#isWanting()) {
      this.#backoffMs = FEED_BACKOFF_MS_MIN;
      return;
    }
    if (this.#position > before) {
      this.#backoffMs = FEED_BACKOFF_MS_MIN;
      this.#wake();
      return;
    }
    this.#wakeAfter(this.#backoffMs * (0.5 + random.float() / 2));
    this.#backoffMs = Math.min(this.#backoffMs * 2, FEED_BACKOFF_MS_MAX);
  }

  async #begin(options: { readonly deadlineMs: number }): Promise<void> {
    const { log, vshard, sink, onKnown } = this.#options;
    const { headRevision } = await log.head(vshard, options);
    if (this.#closed) return;
    this.#position = headRevision;
    this.#head = headRevision;
    this.#problem = undefined;
    sink.onStart(vshard, headRevision);
    onKnown();
  }

  async #readPiece(options: { readonly deadlineMs: number }): Promise<void> {
    const { log, vshard, sink, counters } = this.#options;
    const asked = this.#position as Revision;
    const headBefore = this.#head;
    const stashedBefore = new Set(this.#stash);
    const piece = await log.read(vshard, asked, FEED_READ_BYTES, options);
    if (this.#closed || this.#isPaused) return;
    this.#isDoubtful = false;
    if (piece.kind === "compacted") {
      const position = (piece.oldestRevision - 1) as Revision;
      if (position <= this.#position) return;
      counters.compactions++;
      this.#position = position;
      sink.onCompacted(vshard, position);
    } else if (piece.batch.previousRevision <= this.#position) this.#deliver(piece.batch);
    // The leader knows better than whoever announced a change that it does not have. If it is a
    // leader of old, others will tell of the change again. What was announced since it was asked may be
    // newer than its answer: it is asked for that too.
    const isAtHead = this.#position >= piece.headRevision;
    const isAnswered = isAtHead && this.#head === headBefore;
    this.#head = isAnswered ? this.#position : Math.max(this.#head, piece.headRevision);
    this.#takeStashed();
    if (!isAtHead || stashedBefore.size === 0) return;
    // The same holds for what was put aside before it was asked. Kept, it would have it asked for ever.
    for (let i = this.#stash.length - 1; i >= 0; i--) {
      if (stashedBefore.has(this.#stash[i]!)) this.#takeOut(i);
    }
  }
}

function bytesOf({ changes }: ChangeBatch): number {
  let bytes = 0;
  for (const { key, value } of changes) bytes += key.length + (value?.value.length ?? 0);
  return bytes;
}
