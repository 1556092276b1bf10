/** Headers whose sender relies on what is not done here. Whatever writes refuses them, for ignored they would lie. */
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

const CONDITIONS = ["If-Match", "If-None-Match", "If-Unmodified-Since"] as const;

/**
 * For what has no conditions: what administrators manage, tokens and tickets.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function refuseUnheeded(exchange: Exchange): void {
  refuseIdempotencyKey(exchange, "look at what is there before you repeat the request");
  for (const name of CONDITIONS) {
    if (exchange.header(name.toLowerCase()) === undefined) continue;
    throw malformed(`${name} is not supported here: only writes of keys have conditions`);
  }
}
