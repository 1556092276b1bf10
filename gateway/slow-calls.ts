/** Lines about slow calls to storage nodes: where the time went, and neither key nor value. */
import type { Clock } from "#shared/clock.ts";
import type { TenantId } from "#shared/ids.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { roundMs, SlowLog } from "#shared/runtime/slow-log.ts";
import { traceFields } from "#shared/tracing.ts";
import type { CallFigures } from "./storage/call-figures.ts";

export type SlowCallsOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly edge: { readonly slowOperationMs: number };
  readonly tenantName: (id: TenantId) => string | undefined;
};

/** From now on slow calls are logged. */
export function logSlowCalls(figures: CallFigures, options: SlowCallsOptions): SlowLog {
  const { clock, logger, tenantName } = options;
  const log = new SlowLog({ clock, logger, slowMs: options.edge.slowOperationMs });
  figures.slowMs = log.slowMs;
  figures.onSlow = (call) =>
    log.note(() => ({
      operation: call.kind,
      outcome: call.outcome.toLowerCase(),
      duration_ms: roundMs(call.durationMs),
      // Between attempts. The rest is the way to the nodes and back, and what they did.
      waited_ms: roundMs(call.waitedMs),
      attempts: call.attempts,
      node: call.node,
      vshard: call.vshard,
      tenant: tenantName(call.tenant as TenantId) ?? `id ${call.tenant}`,
      key_bytes: call.keyBytes,
      ...traceFields(call.traceContext),
    }));
  return log;
}
