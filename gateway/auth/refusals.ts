/**
 * How wrong credentials are answered: always the same, and after many from one address with 429 and at
 * once. The throttle never touches credentials that are right.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { type FailureThrottle, throttledAddress } from "./failure-throttle.ts";
import { wrongCredentials } from "./verifier.ts";

/** Why credentials were refused: for the operator, never for the client. */
export type AuthFailure = {
  readonly reason:
    | "malformed"
    | "unknown"
    | "secret"
    | "revoked"
    | "expired"
    | "network"
    | "audience"
    | "signature"
    | "other";
  /** What the credentials say who they are: not proven, and never a secret. */
  readonly id: string | undefined;
  readonly address: string;
  readonly requestId: string;
};

/** As counted: also what is no news of a credential. */
export type RefusalReason = AuthFailure["reason"] | "missing" | "throttled" | "forbidden";

export type AuthFailureReport = (failure: AuthFailure) => void;

export class Refusals {
  readonly #byAddress: FailureThrottle;
  readonly #addressOf: (exchange: Exchange) => string;
  readonly #report: AuthFailureReport;
  readonly #counts = new Map<RefusalReason, number>();

  constructor(options: {
    readonly byAddress: FailureThrottle;
    readonly addressOf: (exchange: Exchange) => string;
    readonly report: AuthFailureReport;
  }) {
    this.#byAddress = options.byAddress;
    this.#addressOf = options.addressOf;
    this.#report = options.report;
  }

  /** Since the start, by reason. */
  get counts(): ReadonlyMap<RefusalReason, number> {
    return this.#counts;
  }

  /** For what is refused elsewhere: `missing` credentials, and what they may not do (`forbidden`). */
  count(reason: RefusalReason): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  /** Of the client, as the gateway was told to find it out. */
  addressOf(exchange: Exchange): string {
    return this.#addressOf(exchange);
  }

  /** @throws RequestRefused UNAUTHENTICATED, or RATE_LIMITED after too many */
  refuse(exchange: Exchange, reason: AuthFailure["reason"], id?: string): never {
    const address = this.#addressOf(exchange);
    const name = throttledAddress(address);
    const waitMs = this.#byAddress.waitMs(name);
    // Not counted and not reported again: else one sender could fill the log.
    if (waitMs > 0) {
      this.count("throttled");
      throw tooManyFailures("this address sends wrong credentials too often", waitMs);
    }
    this.count(reason);
    this.#byAddress.fail(name);
    this.#report({ reason, id, address, requestId: exchange.requestId });
    throw wrongCredentials();
  }
}

/** Not for how much somebody asks, but for how often he was not let in. */
export class CredentialsThrottled extends RequestRefused {
  constructor(detail: string, waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / 1000));
    super("RATE_LIMITED", detail, { headers: ["Retry-After", String(seconds)] });
    this.name = "CredentialsThrottled";
  }
}

export const tooManyFailures = (detail: string, waitMs: number): RequestRefused =>
  new CredentialsThrottled(detail, waitMs);
