/** Durations in parameters and headers: an integer and its unit, such as `250ms` or `5s`. */
import { malformed } from "./problem.ts";

const DURATION = /^([0-9]{1,9})(ms|s|m|h)$/;
const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

/**
 * Milliseconds of `text`, from 1 to `maxMs`. `what` names the part of the request in the error.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseDurationMs(text: string, what: string, maxMs: number): number {
  const match = DURATION.exec(text);
  if (match === null) {
    throw malformed(`${what} must be an integer with one of the units ms, s, m, h, such as 5s`);
  }
  const durationMs = Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
  if (durationMs < 1 || durationMs > maxMs) {
    throw malformed(`${what} must be from 1ms to ${maxMs}ms`);
  }
  return durationMs;
}
