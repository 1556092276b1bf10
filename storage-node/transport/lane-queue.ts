/**
 * One lane to one peer: a bounded queue of messages in front of a stream that comes and goes.
 *
 * What is sent in one turn of the event loop leaves as one frame (`tick`, which the link calls); what
 * is sent while the stream asks for a pause is joined to it. What does not fit is dropped, and what
 * waited for a stream for too long: Raft repeats it. Nothing here ever waits or calls back from within
 * `send`.
 */
import type { Clock } from "#shared/clock.ts";
import {
  LANE_FRAME_BYTES_SOFT_MAX,
  LANE_QUEUED_AGE_MS_MAX,
  LANE_QUEUED_BYTES_MAX,
  LANE_SHARED_BYTES_MAX,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { EntryTraces } from "./entry-traces.ts";
import { encodeLinkFrame } from "./frame-codec.ts";
import type { PeerStatistics } from "./statistics.ts";

export type LaneQueueOptions = {
  readonly clock: Clock;
  readonly statistics: PeerStatistics;
  /** Of entries on their way; absent: frames carry none. */
  readonly traces?: EntryTraces | undefined;
  /** Asks for a call of `tick` behind what runs now. */
  readonly schedule: () => void;
  /** Messages were dropped: told once until the queue has been empty, and never within `send`. */
  readonly onDropped: () => void;
};

/** What a message and an entry take beside data, roughly, here and in a frame. */
const MESSAGE_OVERHEAD_BYTES = 64;
const ENTRY_OVERHEAD_BYTES = 16;

function costOf(message: Message): number {
  let cost = MESSAGE_OVERHEAD_BYTES;
  if (message.kind !== "append") return cost;
  for (const { data } of message.entries) cost += ENTRY_OVERHEAD_BYTES + data.length;
  return cost;
}

export class LaneQueue {
  readonly #options: LaneQueueOptions;
  #stream: MessageStream | undefined;
  #queue: Message[] = [];
  #queuedBytes = 0;
  /** When the first message came that waits for a stream. */
  #waitingSinceMs = 0;
  /** The stream asked to wait for its `drain` event. */
  #blocked = false;
  /** Messages were dropped since the queue was last empty. */
  #dropping = false;
  #dropsToTell = false;

  constructor(options: LaneQueueOptions) {
    this.#options = options;
  }

  get stream(): MessageStream | undefined {
    return this.#stream;
  }

  send(message: Message): void {
    if (this.#stream === undefined) this.#expire(this.#queue.length === 0);
    const cost = costOf(message);
    // A single message may be larger than the queue: otherwise it could never be sent.
    if (this.#queuedBytes > 0 && this.#queuedBytes + cost > LANE_QUEUED_BYTES_MAX) {
      this.#drop(1);
      return;
    }
    this.#queue.push(message);
    this.#count(cost);
    if (this.#stream !== undefined && !this.#blocked) this.#options.schedule();
  }

  /** The lane's stream from now on; nothing but a hello was written to it. */
  attach(stream: MessageStream): void {
    this.#expire(false);
    this.#stream = stream;
    this.#blocked = false;
    this.#options.schedule();
  }

  /** The lane has no stream any more; what was waiting for the old one is dropped. */
  detach(): void {
    if (this.#stream === undefined) return;
    this.#stream = undefined;
    this.#clear();
  }

  /** The stream takes more. */
  drained(): void {
    this.#blocked = false;
    this.#flush();
  }

  /** Drops what has waited for a stream for too long. */
  #expire(restart: boolean): void {
    const nowMs = this.#options.clock.monotonicMs();
    const late = nowMs - this.#waitingSinceMs > LANE_QUEUED_AGE_MS_MAX;
    if (late && this.#queue.length > 0) {
      this.#drop(0);
      this.#clear();
    }
    if (restart || late) this.#waitingSinceMs = nowMs;
  }

  #drop(count: number): void {
    this.#options.statistics.messagesDropped += count;
    if (this.#dropping) return;
    this.#dropping = true;
    this.#dropsToTell = true;
    this.#options.schedule();
  }

  #clear(): void {
    this.#options.statistics.messagesDropped += this.#queue.length;
    this.#queue = [];
    this.#count(-this.#queuedBytes);
    this.#dropping = false;
  }

  #count(bytes: number): void {
    this.#queuedBytes += bytes;
    this.#options.statistics.queuedBytes += bytes;
  }

  tick(): void {
    if (this.#dropsToTell) {
      this.#dropsToTell = false;
      this.#options.onDropped();
    }
    this.#flush();
  }

  /** Something is about to leave, and so little that more would not be held up behind it. */
  get hasRoom(): boolean {
    const flows = this.#stream !== undefined && !this.#blocked;
    return flows && this.#queue.length > 0 && this.#queuedBytes <= LANE_SHARED_BYTES_MAX;
  }

  /** Lets what waits here leave with what waits in `other`, which has room: one frame instead of two. */
  joinTo(other: LaneQueue): void {
    if (!this.hasRoom) return;
    for (const message of this.#queue) other.#queue.push(message);
    other.#count(this.#queuedBytes);
    this.#count(-this.#queuedBytes);
    this.#queue = [];
    this.#dropping = false;
  }

  #flush(): void {
    const queue = this.#queue;
    let from = 0;
    while (this.#stream !== undefined && !this.#blocked && from < queue.length) {
      let to = from;
      let bytes = 0;
      while (to < queue.length && bytes < LANE_FRAME_BYTES_SOFT_MAX) bytes += costOf(queue[to++]!);
      const whole = from === 0 && to === queue.length;
      this.#count(-bytes);
      this.#write(this.#stream, whole ? queue : queue.slice(from, to));
      from = to;
    }
    // Writing may have lost the stream, and with it the queue.
    if (this.#queue !== queue || from === 0) return;
    this.#queue = from === queue.length ? [] : queue.slice(from);
    if (this.#queue.length === 0) this.#dropping = false;
  }

  #write(stream: MessageStream, messages: readonly Message[]): void {
    const { statistics, traces } = this.#options;
    const frame = encodeLinkFrame(messages, traces?.of(messages));
    statistics.framesSent++;
    statistics.messagesSent += messages.length;
    statistics.bytesSent += frame.length;
    this.#blocked = !stream.write(frame);
  }
}
