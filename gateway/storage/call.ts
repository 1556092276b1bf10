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
 *
 * Reads that may be stale go to any replica; when one lags too far and refuses with NOT_LEADER, or does
 * not answer soon, the next one is asked, and in the end the leader.
 */
import type {
  GetResult,
  Operation,
  OperationBody,
  ResultBody,
  ScanResult,
  WriteResult,
} from "#proto/codec/messages.ts";
import { bodyCost } from "#proto/codec/operation-rules.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { type ErrorCode, errorCodeFromWire, KvError } from "#shared/errors.ts";
import type { NodeId, VshardId } from "#shared/ids.ts";
import {
  STORAGE_RETRIES_PER_SECOND_MAX,
  STORAGE_RETRY_BACKOFF_MS_MAX,
  STORAGE_RETRY_BACKOFF_MS_MIN,
  STORAGE_STALE_ATTEMPT_MS_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Tracing } from "#shared/tracing.ts";
import {
  type CallFigures,
  type CallKind,
  kindOf,
  type RetryReason,
  type SlowCall,
} from "./call-figures.ts";
import type { CallList, Listed } from "./call-list.ts";
import { type AttemptTrace, beginAttempt, endAttempt } from "./call-trace.ts";
import type { Peer, Router } from "./router.ts";
import type { CallOptions } from "./storage.ts";
import type { WaitingRoom } from "./waiting-room.ts";

/** What all calls of a client share. */
export type CallContext = {
  readonly router: Router;
  readonly calls: CallList;
  readonly waitingRoom: WaitingRoom;
  readonly clock: Clock;
  readonly random: Random;
  readonly tracing: Tracing;
  /** Unique among all attempts of the client, so that an answer can be of one attempt only. */
  readonly nextCallId: () => number;
  readonly figures: CallFigures;
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
  position = 0;

  readonly #context: CallContext;
  readonly #request: CallRequest<T>;
  readonly #startedMs: number;
  #settled = false;
  #listens = false;
  /** A copy may have been applied, or may yet be. */
  #ambiguous = false;
  #attempts = 0;
  /** Of the next attempt; infinity while one is in flight that is to be waited for. */
  #retryAtMs = Number.POSITIVE_INFINITY;
  /** How many leaders had been found when it began to wait for its next attempt. */
  #findings = 0;
  #redirects = 0;
  #lastFailure = "";
  /** Of the last attempt, unless one is in flight. */
  #lastCode: ErrorCode | undefined;
  /** In the waiting room, together, and since when it is there. */
  #waitedMs = 0;
  #waitsSinceMs = 0;
  /** What it holds of the waiting room, while it waits for its next attempt. */
  #waitingBytes: number | undefined;
  /** The attempt in flight. */
  #operation: Operation | undefined;
  /** Of the attempt in flight, when the request is traced. */
  #trace: AttemptTrace | undefined;
  /** Who is or was asked last. */
  #peer: Peer | undefined;
  /** Replicas asked for a stale read; undefined once the leader is asked, and for all other calls. */
  #tried: NodeId[] | undefined;

  constructor(context: CallContext, request: CallRequest<T>) {
    const { clock } = context;
    this.#context = context;
    this.#request = request;
    // The wall clock may jump while the call waits; the caller's patience does not.
    this.#startedMs = clock.monotonicMs();
    this.dueMs = this.#startedMs + request.options.deadlineMs - clock.nowMs();
    const { body } = request;
    const isRead = body.kind === "get" || body.kind === "scan";
    if (isRead && body.maxStalenessMs > 0) this.#tried = [];
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

  isDue(nowMs: number): boolean {
    if (nowMs >= this.#retryAtMs) return true;
    if (this.#waitingBytes === undefined) return false;
    return this.#context.router.findingsOf(this.#request.vshard) !== this.#findings;
  }

  attempt(): void {
    const { router, nextCallId, tracing, clock } = this.#context;
    const { vshard, body, options } = this.#request;
    this.#leaveWaitingRoom();
    // A replica that was asked for a stale read took too long. Reads leave no doubt behind.
    if (this.#operation !== undefined) {
      this.#peer!.channel.cancel(this.#operation);
      this.#operation = undefined;
      this.#endTrace("TIMEOUT");
    }
    this.#attempts++;
    const peer = this.#choosePeer();
    this.#peer = peer;
    this.#retryAtMs = this.#tried === undefined ? Number.POSITIVE_INFINITY : this.#staleUntilMs();
    if (peer === undefined) {
      const { reason } = router.readiness();
      this.#retryLater("UNAVAILABLE", reason || "no known node holds the key's vshard");
      return;
    }
    if (options.trace !== undefined) this.#trace = beginAttempt(options.trace, tracing, clock);
    const operation: Operation = {
      callId: nextCallId(),
      vshard,
      deadlineMs: options.deadlineMs,
      traceContext: this.#trace?.context ?? EMPTY_BYTES,
      body,
    };
    this.#operation = operation;
    this.#lastCode = undefined;
    peer.channel.send(operation, this.#onReply);
  }

  /** Until when a replica may take: with a near deadline the next ones need their time as well. */
  #staleUntilMs(): number {
    const nowMs = this.#context.clock.monotonicMs();
    return nowMs + Math.min(STORAGE_STALE_ATTEMPT_MS_MAX, (this.dueMs - nowMs) / 2);
  }

  #endTrace(error?: string): void {
    if (this.#trace === undefined) return;
    const { tracing, clock } = this.#context;
    const { body, vshard } = this.#request;
    const ended = { body, vshard, peer: this.#peer!, number: this.#attempts, error };
    endAttempt(this.#trace, ended, tracing, clock);
    this.#trace = undefined;
  }

  #choosePeer(): Peer | undefined {
    const { router } = this.#context;
    const { vshard } = this.#request;
    if (this.#tried !== undefined) {
      const replica = router.replicaOf(vshard, this.#tried);
      if (replica !== undefined) {
        this.#tried.push(replica.id);
        return replica;
      }
      this.#tried = undefined;
    }
    return router.leaderOf(vshard);
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
      this.#endTrace();
      this.#succeed(body);
      return;
    }
    if (!body.notApplied) this.#ambiguous = true;
    const code = errorCodeFromWire(body.code);
    this.#endTrace(code);
    if (!RETRIED.has(code)) {
      this.#fail(code, body.detail);
      return;
    }
    if (this.#tried !== undefined) {
      this.#retryNow("stale_replica");
      return;
    }
    if (this.#isRedirected(body.leaderNodeId as NodeId)) this.#retryNow("redirect");
    else this.#retryLater(code, body.detail);
  };

  #retryNow(reason: RetryReason): void {
    this.#context.figures.retries[reason]++;
    this.attempt();
  }

  /** Corrects the guess at the leader. Whether to ask the next one at once. */
  #isRedirected(leader: NodeId): boolean {
    const { router } = this.#context;
    const { vshard } = this.#request;
    const asked = this.#peer!.id;
    if (leader !== 0 && router.redirect(vshard, asked, leader)) {
      return this.#redirects++ < REDIRECTS_AT_ONCE_MAX;
    }
    router.passOver(vshard, asked);
    return false;
  }

  #retryLater(code: ErrorCode, detail: string): void {
    const { clock, random, router, waitingRoom, figures } = this.#context;
    this.#lastCode = code;
    this.#lastFailure = `${code}, ${detail}`;
    const bytes = bodyCost(this.#request.body);
    if (!waitingRoom.enter(bytes)) {
      this.#fail(code, `${detail}; too many calls wait already`);
      return;
    }
    figures.retries[code === "NOT_LEADER" ? "not_leader" : "unavailable"]++;
    this.#waitingBytes = bytes;
    this.#waitsSinceMs = clock.monotonicMs();
    this.#findings = router.findingsOf(this.#request.vshard);
    const doublings = Math.min(this.#attempts - 1, 10);
    const backoffMs = Math.min(
      STORAGE_RETRY_BACKOFF_MS_MIN * 2 ** doublings,
      STORAGE_RETRY_BACKOFF_MS_MAX,
    );
    // The more wait, the longer each: an election is not helped by a hail of questions.
    const crowdMs = (waitingRoom.calls / STORAGE_RETRIES_PER_SECOND_MAX) * 1_000;
    const delayMs = Math.max(backoffMs, crowdMs) * (0.5 + random.float() / 2);
    this.#retryAtMs = this.#waitsSinceMs + delayMs;
  }

  #leaveWaitingRoom(): void {
    if (this.#waitingBytes === undefined) return;
    const { clock, waitingRoom } = this.#context;
    this.#waitedMs += clock.monotonicMs() - this.#waitsSinceMs;
    waitingRoom.leave(this.#waitingBytes);
    this.#waitingBytes = undefined;
  }

  #abandon(code: ErrorCode, detail: string): void {
    const operation = this.#operation;
    if (operation !== undefined && !this.#peer!.channel.cancel(operation)) this.#ambiguous = true;
    this.#endTrace(code);
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
    // A replica that answers a stale read need not lead.
    const { router } = this.#context;
    if (this.#tried === undefined) router.prove(this.#request.vshard, this.#peer!.id);
    this.#settle("ok");
    resolve(value);
  }

  #fail(code: ErrorCode, detail: string): void {
    const { body, reject } = this.#request;
    this.#settle(code);
    if (body.kind === "write") {
      reject(new KvError(code, detail, { outcome: this.#ambiguous ? "unknown" : "not_applied" }));
    } else {
      reject(new KvError(code, detail));
    }
  }

  #settle(outcome: "ok" | ErrorCode): void {
    this.#settled = true;
    this.#leaveWaitingRoom();
    const { figures, clock } = this.#context;
    const durationMs = clock.monotonicMs() - this.#startedMs;
    const kind = kindOf(this.#request.body);
    figures.ended(kind, outcome, durationMs);
    if (durationMs > figures.slowMs) figures.onSlow(this.#slow(kind, outcome, durationMs));
    this.#context.calls.remove(this);
    if (this.#listens) this.#request.options.cancellation?.release();
  }

  #slow(kind: CallKind, outcome: string, durationMs: number): SlowCall {
    const { vshard, body, options } = this.#request;
    const at = subjectOf(body);
    return {
      ...{ kind, outcome, durationMs, vshard },
      attempts: this.#attempts,
      waitedMs: this.#waitedMs,
      node: this.#peer?.id ?? 0,
      tenant: at?.tenant ?? 0,
      keyBytes: at !== undefined && "key" in at ? at.key.length : 0,
      traceContext: options.trace?.context,
    };
  }
}

/** Whose what an operation is about; of a batch that of its first mutation. */
function subjectOf(body: OperationBody) {
  if (body.kind === "cancel") return undefined;
  return body.kind === "write" ? body.command.mutations[0] : body;
}
