/** Lines about slow operations of a storage node: where the time went, and neither key nor value. */
import type { Clock } from "#shared/clock.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { roundMs, SlowLog } from "#shared/runtime/slow-log.ts";
import type { StorageNode } from "./node.ts";

export type SlowOperationsOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly slowMs: number;
};

/** From now on slow operations are logged. */
export function logSlowOperations(
  { operations }: Pick<StorageNode, "operations">,
  options: SlowOperationsOptions,
): SlowLog {
  const log = new SlowLog(options);
  operations.slowMs = log.slowMs;
  operations.onSlow = ({ operation, outcome, durationMs }) =>
    log.note(() => ({
      operation,
      outcome: outcome.toLowerCase(),
      duration_ms: roundMs(durationMs),
    }));
  return log;
}
