/** Lines about slow operations of a storage node: where the time went, and neither key nor value. */
import type { Clock } from "#shared/clock.ts";
import type { GroupId } from "#shared/ids.ts";
import type { LogFields, Logger } from "#shared/runtime/log.ts";
import { roundMs, SlowLog } from "#shared/runtime/slow-log.ts";
import { traceFields } from "#shared/tracing.ts";
import type { StorageNode } from "./node.ts";
import type { ProposedEntry } from "./replica/waiting.ts";

export type SlowOperationsOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly slowMs: number;
};

/** From now on slow operations are logged. */
export function logSlowOperations(
  { operations, entries }: Pick<StorageNode, "operations" | "entries">,
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
  entries.slowMs = log.slowMs;
  entries.onSlow = (group, entry) => log.note(() => fieldsOf(group, entry));
  return log;
}

/** Parts that follow one another, but for the sync of this node's disk, which runs beside that of the others. */
function fieldsOf(group: GroupId, entry: ProposedEntry): LogFields {
  const { receivedMs, proposedMs, syncedMs, committedMs, appliedMs, writes } = entry;
  const first = writes[0]?.command.mutations[0];
  return {
    operation: "write",
    outcome: "ok",
    duration_ms: roundMs(appliedMs - receivedMs),
    wait_ms: roundMs(proposedMs - receivedMs),
    // 0: a quorum of others was faster.
    sync_ms: roundMs(Math.max(0, syncedMs - proposedMs)),
    commit_ms: roundMs(committedMs - proposedMs),
    apply_ms: roundMs(appliedMs - committedMs),
    vshard: group,
    commands: writes.length,
    // Of the first command: all of an entry take the same time.
    tenant_id: first?.tenant,
    key_bytes: first?.key.length,
    ...traceFields(writes.find(({ trace }) => trace !== undefined)?.trace?.context),
  };
}
