/** How long a request waits for storage. */
import { DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX } from "#shared/limits.ts";
import { parseDurationMs } from "./duration.ts";
import type { Exchange } from "./exchange.ts";

/**
 * How long the caller waits for storage: `Minikv-Timeout`, or the default.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseTimeoutMs(exchange: Exchange): number {
  const timeout = exchange.header("minikv-timeout");
  if (timeout === undefined) return DEADLINE_MS_DEFAULT;
  return parseDurationMs(timeout, "Minikv-Timeout", DEADLINE_MS_MAX);
}
