/** `Idempotency-Key` is refused by whatever writes: a client that sends one relies on what is not done here. */
import type { Exchange } from "./exchange.ts";
import { malformed } from "./problem.ts";

/**
 * `instead` says how to repeat the write safely.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function refuseIdempotencyKey(exchange: Exchange, instead: string): void {
  if (exchange.header("idempotency-key") === undefined) return;
  throw malformed(`Idempotency-Key is not supported; ${instead}`);
}

/** Of what administrators manage, which has no conditions. */
export const LOOK_BEFORE_REPEATING = "look at what is there before you repeat the request";
