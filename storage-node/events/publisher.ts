/**
 * Publishes what this node's vshards apply, while it leads them, on the bus: changes as they come, and each
 * second the newest revision of each vshard, so that a lost last message is noticed.
 *
 * Nothing here may hold a write up. A change is put on a list, which is the end of it for the writer; at the
 * end of the turn each vshard's list becomes one message. What the bus has no room for is dropped unencoded,
 * and who missed it reads the change log.
 */
import { encodeChangeBatch, encodeChangeHeads } from "#proto/codec/change-batch.ts";
import type { ChangeBatch, ChangeRecord } from "#proto/codec/change-messages.ts";
import { type BusSubjects, busSubjects } from "#shared/bus-subjects.ts";
import type { Clock } from "#shared/clock.ts";
import type { NodeId, Revision, VshardId } from "#shared/ids.ts";
import {
  BUS_CHANGES_PER_MESSAGE_MAX,
  BUS_CHANGES_PER_TURN_MAX,
  BUS_HEADS_INTERVAL_MS,
} from "#shared/limits.ts";
import type { Bus } from "#shared/runtime/bus.ts";
import { recordPublish } from "#shared/trace-changes.ts";
import type { Tracing } from "#shared/tracing.ts";

/** What the publisher needs of the node. */
export interface ChangeTail {
  /** Calls `sink` right after apply with changes of vshards that the node leads. @returns ends it */
  subscribe(sink: ChangeSink): () => void;
  /** Of each vshard that the node leads now, the newest applied revision. */
  heads(): Iterable<{ readonly vshard: VshardId; readonly revision: Revision }>;
}

export type ChangeSink = {
  /** The batch is the sink's to keep until the end of the turn. */
  readonly onFresh: (batch: ChangeBatch) => void;
};

export type PublisherOptions = {
  readonly bus: Bus;
  readonly tail: ChangeTail;
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly clock: Clock;
  readonly tracing?: Tracing;
  /** For tests: `setImmediate`. */
  readonly atEndOfTurn?: (work: () => void) => void;
};

export type PublisherFigures = {
  readonly changesPublished: number;
  /** The bus was not there, or had no room. */
  readonly changesDropped: number;
};

/** Consecutive changes of one vshard that wait for the end of the turn. */
type Waiting = { previousRevision: Revision; readonly changes: ChangeRecord[] };

/** Around the changes of a batch: two numbers with their tags. */
const BATCH_OVERHEAD_BYTES = 24;
/** Of a change, beside its fields of bytes: tags, lengths and numbers, at most. */
const CHANGE_OVERHEAD_BYTES = 96;

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #subjects: BusSubjects;
  readonly #atEndOfTurn: (work: () => void) => void;
  /** A new one each time, see `shared/number-table.ts`. */
  #waiting = new Map<VshardId, Waiting>();
  #changesWaiting = 0;
  #unsubscribe: () => void = () => {};
  #cancelTimer: () => void = () => {};
  #changesPublished = 0;
  #changesDropped = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#subjects = busSubjects(options.clusterId);
    this.#atEndOfTurn = options.atEndOfTurn ?? setImmediate;
  }

  start(): void {
    this.#unsubscribe = this.#options.tail.subscribe({ onFresh: (batch) => this.#take(batch) });
    this.#nextHeads();
  }

  /** What waits is sent: the node still led when it was applied. */
  stop(): void {
    this.#unsubscribe();
    this.#cancelTimer();
    this.#flush();
  }

  figures(): PublisherFigures {
    return { changesPublished: this.#changesPublished, changesDropped: this.#changesDropped };
  }

  #take(batch: ChangeBatch): void {
    const { length } = batch.changes;
    if (length === 0) return;
    const { bus } = this.#options;
    if (!bus.hasRoom(0) || this.#changesWaiting + length > BUS_CHANGES_PER_TURN_MAX) {
      this.#changesDropped += length;
      return;
    }
    const { vshard, previousRevision } = batch;
    let waiting = this.#waiting.get(vshard);
    if (waiting === undefined) {
      waiting = { previousRevision, changes: [] };
      this.#waiting.set(vshard, waiting);
    } else if (waiting.previousRevision + waiting.changes.length !== previousRevision) {
      // Something in between was dropped, or the lead was lost and won back.
      this.#changesWaiting -= waiting.changes.length;
      this.#send(vshard, waiting);
      waiting = { previousRevision, changes: [] };
      this.#waiting.set(vshard, waiting);
    }
    if (this.#changesWaiting === 0) this.#atEndOfTurn(() => this.#flush());
    for (const change of batch.changes) waiting.changes.push(change);
    this.#changesWaiting += length;
  }

  #flush(): void {
    this.#changesWaiting = 0;
    const all = this.#waiting;
    this.#waiting = new Map();
    for (const [vshard, waiting] of all) this.#send(vshard, waiting);
  }

  /** In one message, or in several where they are too large for one. */
  #send(vshard: VshardId, { previousRevision, changes }: Waiting): void {
    const { bus } = this.#options;
    let from = 0;
    while (from < changes.length) {
      const bytesMax = bus.payloadBytesMax - BATCH_OVERHEAD_BYTES;
      const to = endOfMessage(changes, from, bytesMax);
      if (to === from) {
        // Not even one fits, or there is no bus any more.
        this.#changesDropped += changes.length - from;
        return;
      }
      const part = from === 0 && to === changes.length ? changes : changes.slice(from, to);
      this.#publish(vshard, (previousRevision + from) as Revision, part);
      from = to;
    }
  }

  #publish(vshard: VshardId, previousRevision: Revision, changes: readonly ChangeRecord[]): void {
    const { bus, clock, tracing } = this.#options;
    const startMs = tracing?.isOn ? clock.monotonicMs() : 0;
    // Asked before encoding, which is what costs.
    const isSent =
      bus.hasRoom(0) &&
      bus.publish(
        this.#subjects.changesOf(vshard),
        encodeChangeBatch({ vshard, previousRevision, changes }),
      );
    if (isSent) this.#changesPublished += changes.length;
    else this.#changesDropped += changes.length;
    if (tracing?.isOn) {
      const error = isSent ? undefined : "DROPPED";
      recordPublish(tracing, changes, { vshard, startMs, endMs: clock.monotonicMs(), error });
    }
  }

  #nextHeads(): void {
    const { clock } = this.#options;
    this.#cancelTimer = clock.after(BUS_HEADS_INTERVAL_MS, () => {
      this.#sendHeads();
      this.#nextHeads();
    });
  }

  #sendHeads(): void {
    const { bus, tail, nodeId } = this.#options;
    // A head ahead of its batch would be taken for a loss.
    this.#flush();
    if (!bus.hasRoom(0)) return;
    const heads = [...tail.heads()];
    if (heads.length > 0) bus.publish(this.#subjects.heads, encodeChangeHeads({ nodeId, heads }));
  }
}

/** Index behind the last change that fits with the others from `from` on. */
function endOfMessage(changes: readonly ChangeRecord[], from: number, bytesMax: number): number {
  let to = from;
  let bytes = 0;
  while (to < changes.length && to - from < BUS_CHANGES_PER_MESSAGE_MAX) {
    bytes += sizeBytesMax(changes[to]!);
    if (bytes > bytesMax) break;
    to++;
  }
  return to;
}

function sizeBytesMax({ key, transactionId, traceContext, value }: ChangeRecord): number {
  const fields = key.length + transactionId.length + traceContext.length;
  // A character of a content type takes up to three bytes.
  const ofValue = value === undefined ? 0 : value.value.length + 3 * value.contentType.length;
  return CHANGE_OVERHEAD_BYTES + fields + ofValue;
}
