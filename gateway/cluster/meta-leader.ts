/**
 * Asks the leader of the meta group what only it can answer: finds it, and tries again until a deadline.
 *
 * A request whose answer was lost is made again, so it must be such that a repetition does no harm. What a
 * later attempt is refused with then says nothing of the first one: the failure's outcome is `unknown`.
 */
import type { Failure } from "#proto/gen/minikv/v1/storage_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { type ErrorCode, errorCodeFromWire, KvError } from "#shared/errors.ts";
import {
  CLUSTER_CALL_TIMEOUT_MS,
  MAP_WATCH_BACKOFF_MS_MAX,
  MAP_WATCH_BACKOFF_MS_MIN,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { NoAnswer } from "./cluster-rpc.ts";

export type MetaLeaderOptions = {
  /** Undefined as long as it is not known. */
  readonly clusterId: () => string | undefined;
  /** Storage nodes of this cluster, in any order. */
  readonly addresses: () => readonly string[];
  /** Why there are none, for people. */
  readonly whyNone: () => string;
  /** Where a node is; undefined when it is not known. */
  readonly addressOf: (nodeId: number) => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
};

export type Answer = { readonly failure?: Failure | undefined };
export type Attempt<T> = (to: Target, timeoutMs: number) => Promise<T>;
export type Target = { readonly address: string; readonly clusterId: string };

const RETRIED: ReadonlySet<ErrorCode> = new Set(["NOT_LEADER", "UNAVAILABLE"]);
const REDIRECTS_AT_ONCE_MAX = 2;

export class MetaLeader {
  readonly #options: MetaLeaderOptions;
  /** Who answered last, or was said to be able to. */
  #leader: string | undefined;
  #turn: number;

  constructor(options: MetaLeaderOptions) {
    this.#options = options;
    this.#turn = options.random.below(1_000);
  }

  /** @throws KvError with its outcome */
  async ask<T extends Answer>(deadlineMs: number, attempt: Attempt<T>): Promise<T> {
    const { clock } = this.#options;
    // The wall clock may jump meanwhile; the caller's patience does not.
    const untilMs = clock.monotonicMs() + deadlineMs - clock.nowMs();
    let isAmbiguous = false;
    let redirects = 0;
    let backoffMs = MAP_WATCH_BACKOFF_MS_MIN;
    let code: ErrorCode = "UNAVAILABLE";
    let detail = "it had passed already";
    /** The leader's own words tell more than what was met on the way to it. */
    let said: string | undefined;
    for (;;) {
      const remainingMs = untilMs - clock.monotonicMs();
      if (remainingMs <= 0) {
        const [why, what] = said === undefined ? [code, detail] : ["UNAVAILABLE" as const, said];
        throw failed(why, `until the deadline: ${what}`, isAmbiguous);
      }
      const result = await this.#attempt(attempt, Math.min(remainingMs, CLUSTER_CALL_TIMEOUT_MS));
      if (result.kind === "answer") return result.answer;
      if (!result.notApplied) isAmbiguous = true;
      ({ code, detail } = result);
      if (result.isAnswered && code === "UNAVAILABLE") said = detail;
      if (!RETRIED.has(code)) throw failed(code, detail, isAmbiguous);
      if (this.#leader !== undefined && redirects++ < REDIRECTS_AT_ONCE_MAX) continue;
      await this.#pause(Math.min(backoffMs, Math.max(0, untilMs - clock.monotonicMs())));
      backoffMs = Math.min(backoffMs * 2, MAP_WATCH_BACKOFF_MS_MAX);
    }
  }

  /** One attempt. Afterwards `#leader` is whom to ask at once, if anybody. */
  async #attempt<T extends Answer>(attempt: Attempt<T>, timeoutMs: number): Promise<Result<T>> {
    const address = this.#leader ?? this.#nextAddress();
    const clusterId = this.#options.clusterId();
    if (address === undefined || clusterId === undefined) {
      const detail = this.#options.whyNone();
      return { kind: "failure", code: "UNAVAILABLE", detail, notApplied: true, isAnswered: false };
    }
    let answer: T;
    try {
      answer = await attempt({ address, clusterId }, timeoutMs);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      this.#passOver(address, undefined);
      const notApplied = !error.mayHaveArrived;
      const { message: detail } = error;
      return { kind: "failure", code: "UNAVAILABLE", detail, notApplied, isAnswered: false };
    }
    if (answer.failure === undefined) {
      this.#leader = address;
      return { kind: "answer", answer };
    }
    const { detail, notApplied, leaderNodeId } = answer.failure;
    const code = errorCodeFromWire(answer.failure.code);
    if (RETRIED.has(code)) this.#passOver(address, this.#options.addressOf(leaderNodeId));
    return { kind: "failure", code, detail, notApplied, isAnswered: true };
  }

  /** `address` cannot answer; perhaps it says who can. Other calls may have learned better since. */
  #passOver(address: string, hint: string | undefined): void {
    if (this.#leader !== undefined && this.#leader !== address) return;
    this.#leader = hint === address ? undefined : hint;
  }

  #nextAddress(): string | undefined {
    const addresses = this.#options.addresses();
    return addresses[this.#turn++ % addresses.length];
  }

  #pause(delayMs: number): Promise<void> {
    const { clock, random } = this.#options;
    const jitteredMs = delayMs * (0.5 + random.float() / 2);
    return new Promise((resolve) => void clock.after(jitteredMs, resolve));
  }
}

type Result<T> =
  | { readonly kind: "answer"; readonly answer: T }
  | {
      readonly kind: "failure";
      readonly code: ErrorCode;
      readonly detail: string;
      readonly notApplied: boolean;
      /** By the node that was asked. */
      readonly isAnswered: boolean;
    };

function failed(code: ErrorCode, detail: string, isAmbiguous: boolean): KvError {
  return new KvError(code, detail, { outcome: isAmbiguous ? "unknown" : "not_applied" });
}
