/**
 * One operation on its way: attempts, retries, deadline, and what may be said of its outcome.
 *
 * A write carries one request id and one deadline on all its attempts, and the state machine
 * applies a request id at most once before that deadline. So after a lost reply or a broken stream
 * the same write is simply sent again: the storage node answers with the result of the copy that
 * was applied, and an ambiguous write is resolved instead of guessed.
 *
 * Why `ambiguous` is never reset: it says that some copy may still be applied, or was. A later copy
 * that fails with `notApplied` speaks for itself only; the earlier one may still wait in a log. Only
 * a result (which the dedupe row makes that of the copy applied first) ends the doubt. Not even
 * "deadline passed" from the state machine does: after the deadline the dedupe row may be gone, and
 * an earlier copy may have been applied before it.
 */
import type {
  GetResult,
  Operation,
  OperationBody,
  ResultBody,
  ScanResult,
  WriteResult,
} from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { type ErrorCode, errorCodeFromWire, KvError } from "#shared/errors.ts";
import type { NodeId, VshardId } from "#shared/ids.ts";
import { STORAGE_RETRY_BACKOFF_MS_MAX, STORAGE_RETRY_BACKOFF_MS_MIN } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { CallList, Listed } from "./call-list.ts";
import type { Channel } from "./channel.ts";
import type { Router } from "./router.ts";
import type { CallOptions } from "./storage.ts";

/** What all calls of a client share. */
export type CallContext = {
  readonly router: Router;
  readonly calls: CallList;
  readonly clock: Clock;
  readonly random: Random;
  /** Unique among all attempts of the client, so that an answer can be of one attempt only. */
  readonly nextCallId: () => number;
};

/** What an operation that did not fail is answered with. */
export type AnyResult = GetResult | WriteResult | ScanResult;

export type CallRequest<T> = {
  readonly vshard: VshardId;
  readonly body: OperationBody;
  readonly options: CallOptions;
  /** @throws KvError INTERNAL when the result does not fit the request. */
  readonly convert: (result: AnyResult) => T;
  readonly resolve: (value: T) => void;
  readonly reject: (error: KvError) => void;
};

/**
 * Failures that another attempt may cure within the deadline. OVERLOADED is not among them: who is
 * told to slow down must not be helped to push.
 */
const RETRIED: ReadonlySet<ErrorCode> = new Set(["NOT_LEADER", "UNAVAILABLE"]);

/** Redirects that are followed at once; after them, with back-off, lest two nodes play ping-pong. */
const REDIRECTS_AT_ONCE_MAX = 2;

export class Call<T> implements Listed {
  readonly dueMs: number;
  retryAtMs = Number.POSITIVE_INFINITY;
  position = 0;

  readonly #context: CallContext;
  readonly #request: CallRequest<T>;
  #settled = false;
  #listens = false;
  /** A copy may have been applied, or may yet be. */
  #ambiguous = false;
  #attempts = 0;
  #redirects = 0;
  #lastFailure = "";
  /** Of the last attempt, unless one is in flight. */
  #lastCode: ErrorCode | undefined;
  /** The attempt in flight. */
  #operation: Operation | undefined;
  #channel: Channel | undefined;
  #node = 0 as NodeId;

  constructor(context: CallContext, request: CallRequest<T>) {
    const { clock } = context;
    this.#context = context;
    this.#request = request;
    // The wall clock may jump while the call waits; the caller's patience does not.
    this.dueMs = clock.monotonicMs() + request.options.deadlineMs - clock.nowMs();
  }

  start(): void {
    const { options } = this.#request;
    this.#context.calls.add(this);
    if (options.cancellation?.isCancelled) this.#onCancel();
    else if (this.dueMs <= this.#context.clock.monotonicMs()) this.expire();
    else {
      options.cancellation?.listen(this.#onCancel);
      this.#listens = true;
      this.attempt();
    }
  }

  attempt(): void {
    const { router, nextCallId } = this.#context;
    const { vshard, body, options } = this.#request;
    this.retryAtMs = Number.POSITIVE_INFINITY;
    this.#attempts++;
    this.#node = router.leaderOf(vshard);
    const channel = router.channelTo(this.#node);
    if (channel === undefined) {
      this.#retryLater("the cluster map does not name the leader's address");
      return;
    }
    const operation: Operation = {
      callId: nextCallId(),
      vshard,
      deadlineMs: options.deadlineMs,
      traceContext: options.traceContext ?? EMPTY_BYTES,
      body,
    };
    this.#operation = operation;
    this.#lastCode = undefined;
    this.#channel = channel;
    channel.send(operation, this.#onReply);
  }

  /**
   * When storage refused each attempt, the caller hears that, and may try again later. Only silence
   * is a timeout.
   */
  expire(): void {
    if (this.#lastCode !== undefined) {
      this.#fail(this.#lastCode, `until the deadline every attempt failed: ${this.#lastFailure}`);
      return;
    }
    const last = this.#lastFailure === "" ? "" : `; the last attempt failed: ${this.#lastFailure}`;
    this.#abandon("DEADLINE_EXCEEDED", `storage did not answer before the deadline${last}`);
  }

  stop(): void {
    this.#abandon("UNAVAILABLE", "the gateway is stopping");
  }

  /** The caller went away. */
  cancel(): void {
    this.#abandon("CANCELLED", "the caller went away");
  }

  readonly #onCancel = (): void => this.cancel();

  // One function for all attempts: there is never more than one in flight, and each is answered
  // once at most.
  readonly #onReply = (body: ResultBody): void => {
    if (this.#settled) return;
    this.#operation = undefined;
    if (body.kind !== "failure") {
      this.#succeed(body);
      return;
    }
    if (!body.notApplied) this.#ambiguous = true;
    const code = errorCodeFromWire(body.code);
    if (!RETRIED.has(code)) {
      this.#fail(code, body.detail);
      return;
    }
    const { router } = this.#context;
    const { vshard } = this.#request;
    const leader = body.leaderNodeId as NodeId;
    const redirected = leader !== 0 && router.redirect(vshard, this.#node, leader);
    if (redirected && this.#redirects++ < REDIRECTS_AT_ONCE_MAX) {
      this.attempt();
      return;
    }
    if (!redirected) router.passOver(vshard, this.#node);
    this.#lastCode = code;
    this.#retryLater(`${code}, ${body.detail}`);
  };

  #retryLater(failure: string): void {
    const { clock, random } = this.#context;
    this.#lastFailure = failure;
    const doublings = Math.min(this.#attempts - 1, 10);
    const longest = STORAGE_RETRY_BACKOFF_MS_MIN * 2 ** doublings;
    const backoffMs = Math.min(longest, STORAGE_RETRY_BACKOFF_MS_MAX);
    this.retryAtMs = clock.monotonicMs() + backoffMs * (0.5 + random.float() / 2);
  }

  #abandon(code: ErrorCode, detail: string): void {
    const operation = this.#operation;
    if (operation !== undefined && !this.#channel!.cancel(operation)) this.#ambiguous = true;
    this.#fail(code, detail);
  }

  #succeed(result: AnyResult): void {
    const { convert, resolve } = this.#request;
    let value: T;
    try {
      value = convert(result);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#ambiguous = true;
      this.#fail(error.code, error.message);
      return;
    }
    this.#settle();
    resolve(value);
  }

  #fail(code: ErrorCode, detail: string): void {
    const { body, reject } = this.#request;
    this.#settle();
    if (body.kind === "write") {
      reject(new KvError(code, detail, { outcome: this.#ambiguous ? "unknown" : "not_applied" }));
    } else {
      reject(new KvError(code, detail));
    }
  }

  #settle(): void {
    this.#settled = true;
    this.#context.calls.remove(this);
    if (this.#listens) this.#request.options.cancellation?.release();
  }
}
