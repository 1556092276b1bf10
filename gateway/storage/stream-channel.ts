/**
 * The way to a storage node: one long-lived Operate stream, over whatever carries it.
 *
 * The operations of one turn of the event loop leave as one message, or as several when they are
 * many: the node then begins with the first ones while the rest is still being read. What is in
 * flight is bounded by the window that the node's hello announced; beyond it operations are refused
 * OVERLOADED, so nothing queues without limit: a node that does not answer holds what its window
 * allows and no more. When the stream breaks, or the node falls silent while it owes answers
 * (`silence.ts`), everything in flight is answered UNAVAILABLE (for what may have been received, with
 * `notApplied` false), and a new stream is opened with back-off, if the connector has one. Operations
 * are refused until the node's hello has arrived.
 */
import { failureOf } from "#proto/codec/failure.ts";
import type { Hello, Operation, ResultBody } from "#proto/codec/messages.ts";
import { encodeOperateRequest } from "#proto/codec/operate-request.ts";
import { decodeOperateResponse } from "#proto/codec/operate-response.ts";
import { COMMAND_TOO_LARGE, operationCost } from "#proto/codec/operation-rules.ts";
import { oldProtocol, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "#proto/codec/service.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { isClusterNamed } from "#shared/cluster-map.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import {
  COMMAND_SIZE_BYTES_MAX,
  STREAM_BATCH_SIZE_BYTES_SOFT_MAX,
  STREAM_OPERATIONS_PER_BATCH_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MIN,
  STREAM_WINDOW_BYTES_MAX,
  STREAM_WINDOW_OPERATIONS_MAX,
} from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { NumberTable } from "#shared/number-table.ts";
import type { Random } from "#shared/random.ts";
import type { Channel, ChannelFigures, Readiness } from "./channel.ts";
import { SilenceWatch } from "./silence.ts";

/** Opens streams to one storage node. */
export type Connector = {
  /** Who answers there, for people, such as "storage node 127.0.0.1:7400". */
  readonly peer: string;
  /** So many operations leave at once, without waiting for the end of the event loop's turn. */
  readonly operationsGatheredMax: number;
  /** Undefined when there will be no other stream. */
  readonly open: () => MessageStream | undefined;
  /** Whether a stream whose node falls silent is given up: only where another one can be opened. */
  readonly givesUpSilent: boolean;
  /** Gives up what streams are opened from. */
  readonly close: () => void;
};

export type StreamChannelOptions = {
  readonly connector: Connector;
  readonly clusterId: string;
  /** Node that must answer there; 0 takes any, for a gateway that knows addresses only. */
  readonly nodeId: number;
  readonly softwareVersion: string;
  readonly clock: Clock;
  readonly random: Random;
  /** When the channel becomes ready, and when it ceases to be or fails to become so, until `close`. */
  readonly onReadiness?: (readiness: Readiness) => void;
};

/** An operation between `send` and its answer. */
type Pending = {
  readonly operation: Operation;
  readonly reply: (body: ResultBody) => void;
  readonly cost: number;
  state: "queued" | "sent" | "withdrawn";
};

const ignoreReply = (): void => {};

function cancelled(details: string): StreamStatus {
  return { code: GrpcStatus.Cancelled, details };
}

export class StreamChannel implements Channel {
  readonly #options: StreamChannelOptions;
  #stream: MessageStream | undefined;
  #readiness: Readiness;
  #windowOperations = 0;
  #windowBytes = 0;
  #pending = new NumberTable<Pending>();
  /** Not written yet, in order, with the cancels of what was. */
  #queue: Pending[] = [];
  /** Costs of all that is pending or queued. */
  #bytes = 0;
  #flushScheduled = false;
  /** The transport asked to wait for its `drain` event. */
  #blocked = false;
  #backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
  #cancelReconnect: () => void = () => {};
  #onIdle: () => void = () => {};
  readonly #silence: SilenceWatch;
  #closing: Promise<void> | undefined;
  #isClosing = false;

  /** Connects at once, and ever again until `close`. */
  constructor(options: StreamChannelOptions) {
    this.#options = options;
    this.#readiness = { ready: false, reason: `connecting to ${options.connector.peer}` };
    this.#silence = new SilenceWatch({
      clock: options.clock,
      owes: () => this.#stream !== undefined && this.#pending.size > 0,
      // An empty message is answered by an empty one.
      probe: () => this.#stream!.write(encodeOperateRequest({ hello: undefined, operations: [] })),
      onSilent: () => this.#giveUp(this.#stream!, "it does not answer"),
    });
    this.#connect();
  }

  send(operation: Operation, reply: (body: ResultBody) => void): void {
    const cost = operationCost(operation);
    const refusal = this.#refusal(cost);
    if (refusal !== undefined) {
      reply(refusal);
      return;
    }
    const pending: Pending = { operation, reply, cost, state: "queued" };
    this.#pending.set(operation.callId, pending);
    if (this.#options.connector.givesUpSilent) this.#silence.begin();
    this.#enqueue(pending);
  }

  cancel(operation: Operation): boolean {
    const pending = this.#pending.get(operation.callId);
    // It was refused, or its answer overtook the cancel: in both cases the caller knows more.
    if (pending === undefined) return false;
    this.#pending.delete(operation.callId);
    if (this.#pending.size === 0) this.#onIdle();
    if (pending.state === "queued") {
      pending.state = "withdrawn";
      return true;
    }
    this.#bytes -= pending.cost;
    const { callId, vshard } = operation;
    const cancel: Operation = {
      callId,
      vshard,
      deadlineMs: 0,
      traceContext: EMPTY_BYTES,
      body: { kind: "cancel" },
    };
    const cost = operationCost(cancel);
    this.#enqueue({ operation: cancel, reply: ignoreReply, cost, state: "queued" });
    return false;
  }

  readiness(): Readiness {
    return this.#readiness;
  }

  figures(): ChannelFigures {
    return {
      isUp: this.#readiness.ready,
      inFlight: this.#pending.size,
      inFlightBytes: this.#bytes,
      windowBytes: this.#windowBytes,
    };
  }

  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  #refusal(cost: number): ResultBody | undefined {
    if (!this.#readiness.ready) {
      return failureOf("UNAVAILABLE", this.#readiness.reason, { notApplied: true });
    }
    // The node would refuse it as well, but as part of a message it could cost the whole stream.
    if (cost > COMMAND_SIZE_BYTES_MAX) {
      return failureOf("INVALID_ARGUMENT", COMMAND_TOO_LARGE, { notApplied: true });
    }
    // The queue counts too: cancelled operations leave the window, but stay queued until written.
    const operations = Math.max(this.#pending.size, this.#queue.length);
    const tooManyBytes = this.#bytes > 0 && this.#bytes + cost > this.#windowBytes;
    if (operations >= this.#windowOperations || tooManyBytes) {
      return failureOf("OVERLOADED", "too many operations wait for the storage node", {
        notApplied: true,
      });
    }
    return undefined;
  }

  #enqueue(pending: Pending): void {
    this.#bytes += pending.cost;
    this.#queue.push(pending);
    if (this.#blocked) return;
    if (this.#queue.length >= this.#options.connector.operationsGatheredMax) {
      this.#flush();
      return;
    }
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    setImmediate(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const stream = this.#stream;
    let next = 0;
    while (stream !== undefined && !this.#blocked && next < this.#queue.length) {
      const operations: Operation[] = [];
      let bytes = 0;
      while (
        next < this.#queue.length &&
        operations.length < STREAM_OPERATIONS_PER_BATCH_MAX &&
        bytes < STREAM_BATCH_SIZE_BYTES_SOFT_MAX
      ) {
        const pending = this.#queue[next++]!;
        const isCancel = pending.operation.body.kind === "cancel";
        if (pending.state === "withdrawn" || isCancel) this.#bytes -= pending.cost;
        if (pending.state === "withdrawn") continue;
        pending.state = "sent";
        bytes += pending.cost;
        operations.push(pending.operation);
      }
      if (operations.length === 0) break;
      this.#blocked = !stream.write(encodeOperateRequest({ hello: undefined, operations }));
    }
    this.#queue = next === this.#queue.length ? [] : this.#queue.slice(next);
  }

  #connect(): void {
    const { connector, clusterId, softwareVersion } = this.#options;
    const stream = connector.open();
    if (stream === undefined) return;
    this.#stream = stream;
    this.#blocked = false;
    stream.listen({
      onMessage: (bytes) => this.#receive(stream, bytes),
      onDrain: () => {
        if (this.#stream !== stream) return;
        this.#blocked = false;
        this.#flush();
      },
      onClosed: ({ code, details }) => {
        this.#break(stream, code === GrpcStatus.Ok ? "it ended the stream" : details);
      },
    });
    const hello: Hello = {
      protocolVersion: PROTOCOL_VERSION,
      clusterId,
      nodeId: 0,
      softwareVersion,
      windowOperations: STREAM_WINDOW_OPERATIONS_MAX,
      windowBytes: STREAM_WINDOW_BYTES_MAX,
    };
    stream.write(encodeOperateRequest({ hello, operations: [] }));
  }

  #receive(stream: MessageStream, bytes: Uint8Array): void {
    if (this.#stream !== stream) return;
    this.#silence.heard();
    try {
      const { hello, results } = decodeOperateResponse(bytes);
      if (hello !== undefined) this.#greet(hello);
      for (const { callId, body } of results) this.#settle(callId, body);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#giveUp(stream, error.message);
    }
  }

  /** @throws KvError INVALID_ARGUMENT when the node is not the one that was asked for. */
  #greet(theirs: Hello): void {
    const { connector, clusterId, nodeId } = this.#options;
    const { peer } = connector;
    const old = oldProtocol(peer, theirs, PROTOCOL_VERSION_MIN);
    if (old !== undefined) throw new KvError("INVALID_ARGUMENT", old);
    if (!isClusterNamed(theirs.clusterId, clusterId)) {
      const detail = `${peer} belongs to cluster "${theirs.clusterId}", not "${clusterId}"`;
      throw new KvError("INVALID_ARGUMENT", detail);
    }
    if (nodeId !== 0 && theirs.nodeId !== nodeId) {
      const detail = `${peer} says it is storage node ${theirs.nodeId}, not ${nodeId}`;
      throw new KvError("INVALID_ARGUMENT", detail);
    }
    this.#windowOperations = Math.min(theirs.windowOperations, STREAM_WINDOW_OPERATIONS_MAX);
    this.#windowBytes = Math.min(theirs.windowBytes, STREAM_WINDOW_BYTES_MAX);
    this.#backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
    if (!this.#isClosing) this.#setReadiness({ ready: true, reason: "" });
  }

  #settle(callId: number, body: ResultBody): void {
    const pending = this.#pending.get(callId);
    // Cancelled in the meantime.
    if (pending === undefined) return;
    this.#pending.delete(callId);
    this.#bytes -= pending.cost;
    pending.reply(body);
    if (this.#pending.size === 0) this.#onIdle();
  }

  /** Ends a stream that has not ended by itself. */
  #giveUp(stream: MessageStream, details: string): void {
    this.#break(stream, details);
    stream.abort(cancelled(details));
  }

  #break(stream: MessageStream, details: string): void {
    if (this.#stream !== stream) return;
    const { connector, clock, random } = this.#options;
    this.#silence.stop();
    this.#stream = undefined;
    const pending = this.#pending;
    this.#pending = new NumberTable();
    this.#queue = [];
    this.#bytes = 0;
    const reason = `no stream to ${connector.peer}: ${details}`;
    this.#setReadiness({ ready: false, reason });
    for (const { reply, state } of pending.values()) {
      reply(failureOf("UNAVAILABLE", reason, { notApplied: state !== "sent" }));
    }
    this.#onIdle();
    if (this.#isClosing) return;
    const delayMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#backoffMs = Math.min(this.#backoffMs * 2, STREAM_RECONNECT_BACKOFF_MS_MAX);
    this.#cancelReconnect = clock.after(delayMs, () => this.#connect());
  }

  #setReadiness(readiness: Readiness): void {
    const { ready, reason } = this.#readiness;
    if (ready === readiness.ready && reason === readiness.reason) return;
    this.#readiness = readiness;
    if (!this.#isClosing) this.#options.onReadiness?.(readiness);
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#isClosing = true;
    this.#cancelReconnect();
    let cancelTimer = (): void => {};
    const tooLate = new Promise<void>((resolve) => {
      cancelTimer = this.#options.clock.after(timeoutMs, resolve);
    });
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      if (this.#pending.size === 0) resolve();
    });
    const { peer } = this.#options.connector;
    this.#setReadiness({ ready: false, reason: `the channel to ${peer} is being closed` });
    await Promise.race([idle, tooLate]);
    cancelTimer();
    const stream = this.#stream;
    if (stream !== undefined) this.#giveUp(stream, "the channel is closed");
    this.#options.connector.close();
  }
}
