/**
 * The storage node's end of one Operate stream: hello, window, operations in, results out.
 *
 * Results that come about together leave as one message: with many operations in flight this is what
 * makes a stream fast. What waits is bounded: operations and their bytes by the window that the hello
 * announced, results by the same figures. Whoever sends beyond the window is answered OVERLOADED;
 * whoever goes on regardless, or does not read its results, loses the stream.
 *
 * Every operation that is handed to the handler is answered by it exactly once, perhaps after the
 * stream has gone; such late answers are dropped here. Nothing else outlives the stream.
 */
import { failureOf } from "#proto/codec/failure.ts";
import { helloRefusal } from "#proto/codec/greeting.ts";
import type {
  Hello,
  Operation,
  OperationHandler,
  Result,
  ResultBody,
} from "#proto/codec/messages.ts";
import { decodeOperateRequest } from "#proto/codec/operate-request.ts";
import { encodeOperateResponse } from "#proto/codec/operate-response.ts";
import { operationCost, refusalOf } from "#proto/codec/operation-rules.ts";
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import {
  STREAM_BATCH_SIZE_BYTES_SOFT_MAX,
  STREAM_OPERATIONS_PER_BATCH_MAX,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { NumberTable } from "#shared/number-table.ts";
import {
  OperationFigures,
  type OperationKind,
  operationKindOf,
} from "#storage-node/operation-figures.ts";

export type OperateStreamOptions = {
  readonly stream: MessageStream;
  readonly handler: OperationHandler;
  /** What this node says of itself; its window is enforced. */
  readonly hello: Hello;
  readonly clock: Clock;
  /** Counts what is answered; by default nobody reads it. */
  readonly figures?: OperationFigures | undefined;
  /** Called once, when nothing of the stream is left. */
  readonly onClosed: (stream: OperateStream) => void;
};

/** An operation that the handler has not answered yet. */
type InFlight = {
  readonly callId: number;
  readonly cost: number;
  readonly operation: OperationKind;
  readonly receivedMs: number;
  answered: boolean;
  wanted: boolean;
};

/** What a result costs beside its value, roughly. */
const RESULT_OVERHEAD_BYTES = 64;

function resultCost(body: ResultBody): number {
  if (body.kind === "get") return RESULT_OVERHEAD_BYTES + body.value.length;
  let cost = RESULT_OVERHEAD_BYTES;
  if (body.kind === "scan") {
    for (const { key, value } of body.rows)
      cost += RESULT_OVERHEAD_BYTES + key.length + value.length;
  }
  return cost;
}

export class OperateStream {
  readonly #options: OperateStreamOptions;
  readonly #figures: OperationFigures;
  #inFlight = new NumberTable<InFlight>();
  #inFlightBytes = 0;
  /** When the message that is being read arrived. */
  #receivedMs = 0;
  #results: Result[] = [];
  #resultBytes = 0;
  #greeted = false;
  #flushScheduled = false;
  /** The transport asked to wait for its `drain` event. */
  #blocked = false;
  /** No further operations are taken; the stream ends when all are answered. */
  #ending = false;
  #gone = false;

  constructor(options: OperateStreamOptions) {
    this.#options = options;
    this.#figures = options.figures ?? new OperationFigures();
    this.#figures.streams++;
    options.stream.listen({
      onMessage: (bytes) => this.#receive(bytes),
      onDrain: () => {
        this.#blocked = false;
        this.#flush();
      },
      onClosed: () => this.#drop(),
    });
  }

  /** Refuses further operations, and ends the stream when those in flight are answered. */
  finish(): void {
    if (this.#gone) return;
    this.#ending = true;
    this.#endIfIdle();
  }

  #receive(bytes: Uint8Array): void {
    if (this.#gone) return;
    let request: ReturnType<typeof decodeOperateRequest>;
    try {
      request = decodeOperateRequest(bytes);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#fail(GrpcStatus.InvalidArgument, error.message);
      return;
    }
    if (!this.#greet(request.hello)) return;
    if (request.hello === undefined && request.operations.length === 0) this.#answerProbe();
    this.#receivedMs = this.#options.clock.monotonicMs();
    for (const operation of request.operations) {
      this.#accept(operation);
      if (this.#gone) return;
    }
  }

  /** An empty message asks whether anybody is there. Results that wait to leave say so as well. */
  #answerProbe(): void {
    if (this.#blocked) return;
    const { stream } = this.#options;
    this.#blocked = !stream.write(encodeOperateResponse({ hello: undefined, results: [] }));
  }

  /** Whether the message may be taken, as far as hellos go. */
  #greet(theirs: Hello | undefined): boolean {
    if (this.#greeted && theirs === undefined) return true;
    const { hello, stream } = this.#options;
    const refusal = helloRefusal(hello, theirs, this.#greeted);
    if (refusal !== undefined) {
      this.#fail(refusal.code, refusal.details);
      return false;
    }
    this.#greeted = true;
    this.#blocked = !stream.write(encodeOperateResponse({ hello, results: [] }));
    return true;
  }

  #accept(operation: Operation): void {
    const { callId, body } = operation;
    const known = this.#inFlight.get(callId);
    if (body.kind === "cancel") {
      // Operations are handed on at once, so what can be saved is the answer, and steps of scans.
      if (known) known.wanted = false;
      return;
    }
    if (known) {
      this.#fail(GrpcStatus.InvalidArgument, `call id ${callId} is in flight already`);
      return;
    }
    const cost = operationCost(operation);
    const refusal = this.#refusal(operation, cost);
    if (refusal !== undefined) {
      this.#figures.answered(operationKindOf(body), refusal, 0);
      this.#refuse(callId, refusal);
      return;
    }
    const kind = operationKindOf(body);
    const receivedMs = this.#receivedMs;
    const entry = { callId, cost, operation: kind, receivedMs, answered: false, wanted: true };
    this.#inFlight.set(callId, entry);
    this.#inFlightBytes += cost;
    const reply = (answer: ResultBody): void => this.#answer(entry, answer);
    const isScan = body.kind === "scan";
    this.#options.handler.operate(
      operation,
      isScan ? Object.assign(reply, { isWanted: () => entry.wanted && !this.#gone }) : reply,
    );
  }

  #refusal(operation: Operation, cost: number): ResultBody | undefined {
    const { windowOperations, windowBytes } = this.#options.hello;
    if (this.#ending) {
      return failureOf("UNAVAILABLE", "the storage node is stopping", { notApplied: true });
    }
    const waiting = this.#inFlight.size + this.#results.length;
    // A single operation may be larger than the window: otherwise it could never be sent.
    const tooManyBytes = this.#inFlightBytes > 0 && this.#inFlightBytes + cost > windowBytes;
    if (waiting >= windowOperations || tooManyBytes || this.#resultBytes > windowBytes) {
      return failureOf("OVERLOADED", "the stream's window is full", { notApplied: true });
    }
    return refusalOf(operation, this.#options.clock.nowMs());
  }

  #refuse(callId: number, body: ResultBody): void {
    // Refusals are not in flight, so the window alone would not bound them.
    if (this.#results.length >= 2 * this.#options.hello.windowOperations) {
      this.#fail(GrpcStatus.ResourceExhausted, "the gateway ignores its window or does not read");
      return;
    }
    this.#push({ callId, body });
  }

  #answer(entry: InFlight, body: ResultBody): void {
    assert(!entry.answered, "an operation is answered once");
    entry.answered = true;
    const durationMs = this.#options.clock.monotonicMs() - entry.receivedMs;
    this.#figures.answered(entry.operation, body, durationMs);
    if (this.#gone) return;
    this.#inFlight.delete(entry.callId);
    this.#inFlightBytes -= entry.cost;
    if (entry.wanted) this.#push({ callId: entry.callId, body: this.#affordable(body) });
    else if (this.#ending) this.#endIfIdle();
  }

  /**
   * The window counts what a gateway sends, but values read are as large as what is stored. When
   * more of them wait for the network than the window allows, a read is refused after all; it has
   * changed nothing.
   */
  #affordable(body: ResultBody): ResultBody {
    if (body.kind !== "get" && body.kind !== "scan") return body;
    const { windowBytes } = this.#options.hello;
    if (this.#resultBytes === 0 || this.#resultBytes + resultCost(body) <= windowBytes) return body;
    return failureOf("OVERLOADED", "too many values wait to be sent", { notApplied: true });
  }

  #push(result: Result): void {
    this.#results.push(result);
    this.#resultBytes += resultCost(result.body);
    if (this.#flushScheduled || this.#blocked) return;
    this.#flushScheduled = true;
    // Behind what runs now: a pass of the node answers all it has applied in one go.
    process.nextTick(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const { stream } = this.#options;
    let from = 0;
    while (!this.#gone && !this.#blocked && from < this.#results.length) {
      let to = from;
      let bytes = 0;
      const toMax = Math.min(this.#results.length, from + STREAM_OPERATIONS_PER_BATCH_MAX);
      while (to < toMax && bytes < STREAM_BATCH_SIZE_BYTES_SOFT_MAX) {
        bytes += resultCost(this.#results[to++]!.body);
      }
      const whole = from === 0 && to === this.#results.length;
      const results = whole ? this.#results : this.#results.slice(from, to);
      this.#blocked = !stream.write(encodeOperateResponse({ hello: undefined, results }));
      this.#resultBytes -= bytes;
      from = to;
    }
    if (this.#gone) return;
    this.#results = from === this.#results.length ? [] : this.#results.slice(from);
    if (this.#ending) this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (this.#inFlight.size > 0 || this.#results.length > 0) return;
    this.#options.stream.end();
    this.#drop();
  }

  #fail(code: GrpcStatus, details: string): void {
    if (this.#gone) return;
    this.#drop();
    this.#options.stream.abort({ code, details });
  }

  #drop(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#inFlight = new NumberTable();
    this.#results = [];
    this.#resultBytes = 0;
    this.#inFlightBytes = 0;
    this.#figures.streams--;
    this.#options.onClosed(this);
  }
}
