/**
 * The storage node's end of one Changes stream: hello, reads and follows in, pieces of change logs out.
 *
 * Everything but fresh batches is done in steps (`step-line.ts`), and no step is taken, and no fresh batch
 * accepted, while the transport asks for a pause: then a follow falls behind, and is fed from the journal
 * when the transport takes more. So what waits here does not grow with what is written, whoever does not
 * read: a bounded number of questions, a position for each vshard, and one message.
 *
 * **A follow** begins like one that has fallen behind. A step gives it the next piece of the journal, until it
 * has what the engine has; then it is live, and takes fresh batches, encoded once for all streams. It takes
 * one only if it begins behind its position, which makes it gapless; anything else sends it back to the
 * journal. Each step looks whether this node still leads the vshard, and ends the follow if not.
 *
 * What comes about within a turn of the event loop leaves as one message.
 */
import type {
  ChangeBatch,
  ChangesRequest,
  FollowChanges,
  FollowEnded,
  ReadChanges,
  ReadChangesResult,
} from "#proto/codec/change-messages.ts";
import { decodeChangesRequest, encodeChangesResponse } from "#proto/codec/changes.ts";
import { failureOf } from "#proto/codec/failure.ts";
import { helloRefusal } from "#proto/codec/greeting.ts";
import type { Failure, Hello } from "#proto/codec/messages.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import {
  CHANGE_FOLLOW_STEP_BYTES,
  CHANGE_MESSAGE_BYTES_SOFT_MAX,
  CHANGE_READ_BYTES_MAX,
} from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { ChangeTail, TailFollow } from "./change-tail.ts";
import type { FreshBatch } from "./fresh-batch.ts";
import type { LogReader, LogSeen } from "./log-reader.ts";
import type { StepLine, StepSource } from "./step-line.ts";

/** What all streams of a node share. */
export type ChangesBudget = {
  /** Reads that wait for their turn. */
  readsPending: number;
  readonly readsPendingMax: number;
};

/** Counted since the start, but for `follows`. */
export type ChangesCounts = {
  follows: number;
  reads: number;
  batches: number;
  bytes: number;
  /** Follows that went from the journal to the tail. */
  tailSwitches: number;
  /** Live follows that went back to the journal. */
  fallsBehind: number;
};

export type ChangesStreamOptions = {
  readonly stream: MessageStream;
  /** What this node says of itself; its window of operations bounds the reads in flight. */
  readonly hello: Hello;
  readonly tail: ChangeTail;
  readonly line: StepLine;
  readonly log: LogReader;
  readonly budget: ChangesBudget;
  readonly counts: ChangesCounts;
  /** Called once, when nothing of the stream is left. */
  readonly onClosed: (stream: ChangesStream) => void;
};

const NO_REVISION = 0 as Revision;
/** Behind all others. */
const NEWEST = Number.MAX_SAFE_INTEGER as Revision;

export class ChangesStream implements StepSource {
  readonly #options: ChangesStreamOptions;
  readonly #follows = new Map<VshardId, Follow>();
  /** Those that need a step, in the order of their turns. */
  readonly #behind = new Set<Follow>();
  #reads: ReadChanges[] = [];
  #readsTaken = 0;
  readonly #readsInFlight = new Set<number>();
  #isReadsTurn = true;
  // What leaves with the next message.
  #results: ReadChangesResult[] = [];
  #batches: ChangeBatch[] = [];
  #encoded: Uint8Array[] = [];
  #ended: FollowEnded[] = [];
  #waitingBytes = 0;
  #flushScheduled = false;
  #greeted = false;
  /** The transport asked to wait for its `drain` event. */
  #blocked = false;
  #gone = false;

  constructor(options: ChangesStreamOptions) {
    this.#options = options;
    options.stream.listen({
      onMessage: (bytes) => this.#receive(bytes),
      onDrain: () => {
        this.#blocked = false;
        this.#flush();
        this.#wake();
      },
      onClosed: () => this.#drop(),
    });
  }

  /** Ends the stream: its follows go on elsewhere. */
  end(): void {
    if (this.#gone) return;
    this.#flush();
    this.#options.stream.end();
    this.#drop();
  }

  #receive(bytes: Uint8Array): void {
    if (this.#gone) return;
    let request: ChangesRequest;
    try {
      request = decodeChangesRequest(bytes);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#fail(GrpcStatus.InvalidArgument, error.message);
      return;
    }
    if (!this.#greet(request.hello)) return;
    const { hello, reads, follows, unfollow } = request;
    for (const read of reads) if (!this.#acceptRead(read)) return;
    for (const follow of follows) this.#follow(follow);
    for (const vshard of unfollow) this.#unfollow(vshard);
    const isProbe = hello === undefined && reads.length + follows.length + unfollow.length === 0;
    // Asks whether anybody is there. What waits for the transport says so as well.
    if (isProbe && !this.#blocked) this.#write();
    this.#wake();
  }

  /** Whether the message may be taken, as far as hellos go. */
  #greet(theirs: Hello | undefined): boolean {
    if (this.#greeted && theirs === undefined) return true;
    const { hello } = this.#options;
    const refusal = helloRefusal(hello, theirs, this.#greeted);
    if (refusal !== undefined) {
      this.#fail(refusal.code, refusal.details);
      return false;
    }
    this.#greeted = true;
    this.#write(hello);
    return true;
  }

  /** Whether the stream is still there. */
  #acceptRead(read: ReadChanges): boolean {
    const { hello, budget, counts } = this.#options;
    const { callId } = read;
    if (this.#readsInFlight.has(callId)) {
      this.#fail(GrpcStatus.InvalidArgument, `call id ${callId} is in flight already`);
      return false;
    }
    counts.reads++;
    const isFull = this.#readsInFlight.size >= hello.windowOperations;
    if (!isFull && budget.readsPending < budget.readsPendingMax) {
      this.#readsInFlight.add(callId);
      budget.readsPending++;
      this.#reads.push(read);
      return true;
    }
    // Refusals are not in flight, so the window alone would not bound them.
    if (this.#results.length >= 2 * hello.windowOperations) {
      this.#fail(GrpcStatus.ResourceExhausted, "the gateway ignores its window or does not read");
      return false;
    }
    const what = isFull ? "the stream's window is full" : "too many reads wait for this node";
    this.#answer(failedRead(callId, failureOf("OVERLOADED", what, { notApplied: true })));
    return true;
  }

  #follow({ vshard, afterRevision, fromHead }: FollowChanges): void {
    this.#unfollow(vshard);
    const follow = new Follow(vshard, fromHead ? undefined : afterRevision, this);
    this.#options.counts.follows++;
    this.#follows.set(vshard, follow);
    this.#behind.add(follow);
    this.#options.tail.add(follow);
  }

  #unfollow(vshard: VshardId): void {
    const follow = this.#follows.get(vshard);
    if (follow === undefined) return;
    this.#options.counts.follows--;
    this.#follows.delete(vshard);
    this.#behind.delete(follow);
    this.#options.tail.remove(follow);
  }

  #wake(): void {
    if (!this.#gone && this.#hasSteps) this.#options.line.wake(this);
  }

  get #hasSteps(): boolean {
    return !this.#blocked && (this.#readsTaken < this.#reads.length || this.#behind.size > 0);
  }

  step(): MaybePromise<boolean> {
    if (this.#gone || !this.#hasSteps) return false;
    this.#isReadsTurn = !this.#isReadsTurn;
    const hasReads = this.#readsTaken < this.#reads.length;
    const isRead = hasReads && (this.#isReadsTurn || this.#behind.size === 0);
    const stepping = isRead ? this.#readStep() : this.#followStep();
    if (isPromise(stepping)) return stepping.then(() => this.#hasSteps);
    return this.#hasSteps;
  }

  #readStep(): MaybePromise<void> {
    const read = this.#reads[this.#readsTaken++]!;
    if (this.#readsTaken === this.#reads.length) {
      this.#reads = [];
      this.#readsTaken = 0;
    }
    const { vshard, afterRevision, headOnly } = read;
    const bytesMax = Math.min(read.bytesMax, CHANGE_READ_BYTES_MAX);
    const { log } = this.#options;
    const seen = headOnly ? log.head(vshard) : log.read(vshard, afterRevision, bytesMax);
    if (isPromise(seen)) return seen.then((found) => this.#answerRead(read, found));
    this.#answerRead(read, seen);
  }

  #answerRead({ callId, vshard, afterRevision }: ReadChanges, seen: LogSeen): void {
    if (this.#gone) return;
    this.#readsInFlight.delete(callId);
    this.#options.budget.readsPending--;
    if (seen.kind === "failure") {
      const { failure, headRevision, oldestRevision } = seen;
      this.#answer({ callId, failure, batch: undefined, headRevision, oldestRevision });
      return;
    }
    const { changes, headRevision, oldestRevision } = seen;
    const batch =
      changes === undefined ? undefined : { vshard, previousRevision: afterRevision, changes };
    if (changes !== undefined) this.#waitingBytes += seen.sizeBytes;
    this.#answer({ callId, failure: undefined, batch, headRevision, oldestRevision });
  }

  #answer(result: ReadChangesResult): void {
    this.#results.push(result);
    this.#scheduleFlush();
  }

  #followStep(): MaybePromise<void> {
    const [follow] = this.#behind;
    this.#behind.delete(follow!);
    const { log } = this.#options;
    const { vshard, position } = follow!;
    const seen = log.follow(vshard, position ?? NEWEST, CHANGE_FOLLOW_STEP_BYTES);
    if (isPromise(seen)) return seen.then((found) => this.#feed(follow!, found));
    this.#feed(follow!, seen);
  }

  /** Gives a follow the piece of the journal that was read for it. */
  #feed(follow: Follow, seen: LogSeen): void {
    const { vshard } = follow;
    // Ended or replaced while the engine was asked.
    if (this.#gone || this.#follows.get(vshard) !== follow) return;
    if (seen.kind === "failure") {
      this.#unfollow(vshard);
      this.#ended.push({ vshard, failure: seen.failure, oldestRevision: seen.oldestRevision });
      this.#scheduleFlush();
      return;
    }
    const { headRevision, changes = [], sizeBytes } = seen;
    const previousRevision = follow.position ?? headRevision;
    const isFirst = !follow.isConfirmed;
    follow.isConfirmed = true;
    follow.position = (previousRevision + changes.length) as Revision;
    if (changes.length > 0 || isFirst) {
      this.#batches.push({ vshard, previousRevision, changes });
      this.#waitingBytes += sizeBytes;
      this.#scheduleFlush();
    }
    // Asked anew: more may have been applied while the engine was asked.
    if (this.#options.log.hasBehind(vshard, follow.position)) this.#behind.add(follow);
    else if (!this.#behind.has(follow)) {
      follow.isLive = true;
      this.#options.counts.tailSwitches++;
    }
  }

  /** Called by live follows only. */
  takeFresh(follow: Follow, batch: FreshBatch): boolean {
    if (this.#blocked) return false;
    const { encoded } = batch;
    this.#encoded.push(encoded);
    this.#waitingBytes += encoded.length;
    this.#scheduleFlush();
    follow.position = batch.endRevision;
    return true;
  }

  fallBehind(follow: Follow): void {
    if (follow.isLive) this.#options.counts.fallsBehind++;
    follow.isLive = false;
    this.#behind.add(follow);
    this.#wake();
  }

  #scheduleFlush(): void {
    if (this.#waitingBytes >= CHANGE_MESSAGE_BYTES_SOFT_MAX) this.#flush();
    if (this.#flushScheduled || this.#blocked) return;
    this.#flushScheduled = true;
    // Behind what runs now: a round of the node applies entries of many vshards in one go.
    process.nextTick(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const waiting =
      this.#results.length + this.#batches.length + this.#encoded.length + this.#ended.length;
    if (this.#gone || this.#blocked || waiting === 0) return;
    this.#write();
  }

  /** Writes what waits, or an empty message. */
  #write(hello?: Hello): void {
    const { stream, counts } = this.#options;
    const results = this.#results;
    const batches = this.#batches;
    const encoded = this.#encoded;
    const ended = this.#ended;
    this.#results = [];
    this.#batches = [];
    this.#encoded = [];
    this.#ended = [];
    this.#waitingBytes = 0;
    const bytes = encodeChangesResponse({ hello, results, batches, ended }, encoded);
    counts.batches += batches.length + encoded.length;
    counts.bytes += bytes.length;
    this.#blocked = !stream.write(bytes);
  }

  #fail(code: GrpcStatus, details: string): void {
    if (this.#gone) return;
    this.#drop();
    this.#options.stream.abort({ code, details });
  }

  #drop(): void {
    if (this.#gone) return;
    this.#gone = true;
    for (const vshard of [...this.#follows.keys()]) this.#unfollow(vshard);
    this.#options.budget.readsPending -= this.#readsInFlight.size;
    this.#readsInFlight.clear();
    this.#reads = [];
    this.#readsTaken = 0;
    this.#results = [];
    this.#batches = [];
    this.#encoded = [];
    this.#ended = [];
    this.#options.line.remove(this);
    this.#options.onClosed(this);
  }
}

class Follow implements TailFollow {
  readonly vshard: VshardId;
  readonly #stream: ChangesStream;
  /** Up to which its stream has been given all changes; undefined until the head is known. */
  position: Revision | undefined;
  /** It was told where it begins. */
  isConfirmed = false;
  /** It has all that is applied, and waits for fresh batches. */
  isLive = false;

  constructor(vshard: VshardId, position: Revision | undefined, stream: ChangesStream) {
    this.vshard = vshard;
    this.position = position;
    this.#stream = stream;
  }

  onFresh(batch: FreshBatch): void {
    // One that is behind has a step before it, which finds the batch in the journal.
    if (!this.isLive || batch.endRevision <= this.position!) return;
    const isNext = batch.previousRevision === this.position;
    if (!isNext || !this.#stream.takeFresh(this, batch)) this.#stream.fallBehind(this);
  }

  onTrouble(): void {
    this.#stream.fallBehind(this);
  }
}

function failedRead(callId: number, failure: Failure): ReadChangesResult {
  return {
    callId,
    failure,
    batch: undefined,
    headRevision: NO_REVISION,
    oldestRevision: NO_REVISION,
  };
}
