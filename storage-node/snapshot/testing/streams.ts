/** Message streams in memory that deliver when told, ask for pauses, lose, change and break. */
import { GrpcStatus } from "#shared/errors.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";

/** Messages that wait before a pause is asked for. */
const WAITING_MAX = 4;
const LOST: StreamStatus = { code: GrpcStatus.Unavailable, details: "the connection was lost" };
const OVER: StreamStatus = { code: GrpcStatus.Ok, details: "" };

/** Who opened a stream, and to whom. */
export type StreamEnds = { readonly from: number; readonly to: number };

/** What becomes of a message: it arrives as it is answered; with "cut" the whole stream breaks. */
export type OnStreamMessage = (
  bytes: Uint8Array,
  way: "to receiver" | "to sender",
) => Uint8Array | "cut" | "lost";

export class TestStreams {
  onMessage: OnStreamMessage = (bytes) => bytes;
  /** Nothing is delivered. */
  isStuck = false;
  opened = 0;
  #pairs: Pair[] = [];

  open(ends: StreamEnds = { from: 0, to: 0 }): {
    readonly near: MessageStream;
    readonly far: MessageStream;
  } {
    this.opened++;
    const pair = new Pair(ends, (bytes, way) => this.onMessage(bytes, way));
    this.#pairs.push(pair);
    return { near: pair.near, far: pair.far };
  }

  /** What has been written on these streams (default: all) arrives. */
  deliver(which: (ends: StreamEnds) => boolean = () => true): void {
    if (this.isStuck) return;
    for (const pair of this.#pairs) if (which(pair.ends)) pair.deliver();
    this.#pairs = this.#pairs.filter((pair) => !pair.isClosed);
  }

  /** These streams (default: all) break. */
  cut(which: (ends: StreamEnds) => boolean = () => true): void {
    for (const pair of this.#pairs) if (which(pair.ends)) pair.close(LOST);
    this.#pairs = this.#pairs.filter((pair) => !pair.isClosed);
  }
}

class End implements MessageStream {
  listener: StreamListener | undefined;
  /** Written here, and not delivered there. */
  waiting: Uint8Array[] = [];
  isEnded = false;
  readonly #abort: (status: StreamStatus) => void;

  constructor(abort: (status: StreamStatus) => void) {
    this.#abort = abort;
  }

  listen(listener: StreamListener): void {
    this.listener = listener;
  }

  write(bytes: Uint8Array): boolean {
    if (!this.isEnded) this.waiting.push(bytes);
    return this.waiting.length < WAITING_MAX;
  }

  end(): void {
    this.isEnded = true;
  }

  abort(status: StreamStatus): void {
    this.#abort(status);
  }
}

class Pair {
  readonly near: End;
  readonly far: End;
  isClosed = false;
  readonly ends: StreamEnds;
  readonly #onMessage: OnStreamMessage;

  constructor(ends: StreamEnds, onMessage: OnStreamMessage) {
    this.ends = ends;
    this.#onMessage = onMessage;
    this.near = new End((status) => this.close(status));
    this.far = new End((status) => this.close(status));
  }

  deliver(): void {
    this.#carry(this.near, this.far, "to receiver");
    this.#carry(this.far, this.near, "to sender");
    const { near, far } = this;
    const isOver = (near.isEnded || far.isEnded) && near.waiting.length + far.waiting.length === 0;
    if (isOver) this.close(OVER);
  }

  #carry(from: End, to: End, way: "to receiver" | "to sender"): void {
    if (this.isClosed) return;
    const messages = from.waiting;
    from.waiting = [];
    for (const bytes of messages) {
      const arriving = this.#onMessage(bytes, way);
      if (arriving === "cut") {
        this.close(LOST);
        return;
      }
      if (arriving !== "lost") to.listener?.onMessage(arriving);
    }
    if (messages.length >= WAITING_MAX) from.listener?.onDrain();
  }

  close(status: StreamStatus): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.near.waiting = [];
    this.far.waiting = [];
    for (const end of [this.near, this.far]) end.listener?.onClosed(status);
  }
}
