/** What rests on a token: its own end, and what stands behind it. */
import type { Exchange } from "#gateway/http/exchange.ts";
import type { Clock } from "#shared/clock.ts";
import { FOREIGN_TOKEN_REMEMBERED_MS_MAX } from "#shared/limits-tokens.ts";
import type { Basis, Origin, Principal } from "./caller.ts";
import type { ForeignIssuer, ForeignKey } from "./foreign-issuer.ts";
import type { AuthFailure } from "./refusals.ts";

type Reason = AuthFailure["reason"];

export type TokenBasisOptions = {
  readonly clock: Clock;
  readonly keyId: string | undefined;
  readonly origin?: Origin | undefined;
  /** With the allowance for clocks that differ, as the gate has it. */
  readonly endsAtMs: number;
  readonly whyNot: (exchange: Exchange) => Reason | undefined;
};

export class TokenBasis implements Basis {
  readonly principal: Principal;
  readonly keyId: string | undefined;
  readonly origin: Origin | undefined;
  readonly endsAtMs: number;
  readonly #options: TokenBasisOptions;

  constructor(principal: Principal, options: TokenBasisOptions) {
    this.#options = options;
    this.keyId = options.keyId;
    this.origin = options.origin;
    this.endsAtMs = options.endsAtMs;
    // A token never says anything else than it did.
    this.principal = { ...principal, basis: this };
  }

  whyNot(exchange: Exchange): Reason | undefined {
    const { clock, endsAtMs, whyNot } = this.#options;
    return clock.nowMs() >= endsAtMs ? "expired" : whyNot(exchange);
  }
}

/**
 * Whether a foreign issuer has withdrawn the key of a token since it was verified. Asked for from time to time
 * behind what is answered, and only while somebody asks: an issuer that is down withdraws nothing.
 */
export function withdrawalOf(
  { publicKey }: ForeignKey,
  issuer: Pick<ForeignIssuer, "keyOf">,
  { keyId, clock }: { readonly keyId: string; readonly clock: Clock },
): () => Reason | undefined {
  let isWithdrawn = false;
  let lookAtMs = clock.monotonicMs() + FOREIGN_TOKEN_REMEMBERED_MS_MAX;
  return () => {
    const nowMs = clock.monotonicMs();
    if (!isWithdrawn && nowMs >= lookAtMs) {
      lookAtMs = nowMs + FOREIGN_TOKEN_REMEMBERED_MS_MAX;
      issuer.keyOf(keyId).then(
        (key) => {
          isWithdrawn = key?.publicKey.equals(publicKey) !== true;
        },
        () => undefined,
      );
    }
    return isWithdrawn ? "revoked" : undefined;
  };
}
