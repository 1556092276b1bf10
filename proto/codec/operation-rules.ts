/**
 * What an operation may ask for: the one check at the door of a storage node, whether it came over
 * gRPC or from another thread of the process.
 *
 * Everything behind the door (log, state machine, engine) relies on it, and every entry in a log
 * has passed it. Rules that anything behind the door relies on may therefore only ever be loosened.
 */
import { Space, VSHARD_COUNT } from "#shared/ids.ts";
import {
  CLOCK_SKEW_MS_MAX,
  COMMAND_SIZE_BYTES_MAX,
  CONDITION_REVISIONS_MAX,
  CONTENT_TYPE_SIZE_BYTES_MAX,
  DEADLINE_MS_MAX,
  KEY_SIZE_BYTES_MAX,
  KEY_SIZE_BYTES_MIN,
  MUTATIONS_PER_COMMAND_MAX,
  REQUEST_ID_SIZE_BYTES,
  SCAN_STEP_ROWS_MAX,
  SCAN_STEP_VALUE_BYTES_MAX,
  TRACE_CONTEXT_SIZE_BYTES,
  TTL_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { ENCODED_VALUE_SIZE_BYTES_MAX } from "#shared/limits-codec.ts";
import { failureOf } from "./failure.ts";
import type {
  Command,
  Condition,
  Failure,
  Mutation,
  Operation,
  OperationBody,
  Scan,
} from "./messages.ts";

/** What an operation costs beside its keys and values, roughly. */
const OPERATION_OVERHEAD_BYTES = 64;
/** As a varint. */
const REVISION_SIZE_BYTES_MAX = 8;
/** The bound of a range may be the least key behind the longest one. */
const BOUND_SIZE_BYTES_MAX = KEY_SIZE_BYTES_MAX + 1;
export const COMMAND_TOO_LARGE = `a command has at most ${COMMAND_SIZE_BYTES_MAX} bytes`;
/**
 * Those of clients' data, and of what gateways use up. Not those of the meta group, which is no vshard and
 * belongs to the tenant that nobody can name: neither its rows nor rows that look like them are reached
 * through this door.
 */
const SPACES: ReadonlySet<number> = new Set([Space.Kv, Space.Ticket]);

/** Bytes that an operation counts against a stream's window; both ends count alike. */
export const operationCost = ({ body }: Operation): number => bodyCost(body);

/** The same, of an operation that is yet to be made. */
export function bodyCost(body: OperationBody): number {
  switch (body.kind) {
    case "get":
      return OPERATION_OVERHEAD_BYTES + body.key.length;
    case "scan":
      return OPERATION_OVERHEAD_BYTES + body.start.length + body.end.length;
    case "write": {
      let cost = OPERATION_OVERHEAD_BYTES;
      for (const mutation of body.command.mutations) cost += mutationCost(mutation);
      return cost;
    }
    case "cancel":
      return OPERATION_OVERHEAD_BYTES;
  }
}

/**
 * What a mutation adds to the cost of its operation. All that a client can make large is part of it:
 * messages are filled by cost, and one that is too large, or has too many elements, costs the stream.
 */
export function mutationCost({ key, condition, action }: Mutation): number {
  let cost = OPERATION_OVERHEAD_BYTES + key.length;
  if (action.kind === "put" || action.kind === "reseal") {
    cost += action.value.length + action.contentType.length;
  }
  if (condition !== undefined) {
    const { revisionIs, revisionIsNot } = condition;
    cost += REVISION_SIZE_BYTES_MAX * (revisionIs.length + revisionIsNot.length);
  }
  return cost;
}

/** Cost of a write without any mutations. */
export const WRITE_COST_MIN = OPERATION_OVERHEAD_BYTES;

/**
 * Why an operation is refused before anything is done for it; undefined when it may go on.
 * `nowMs` is the wall clock.
 */
export function refusalOf(operation: Operation, nowMs: number): Failure | undefined {
  const { body, deadlineMs } = operation;
  const fault = faultOf(operation, nowMs + DEADLINE_MS_MAX + CLOCK_SKEW_MS_MAX);
  if (fault !== undefined) return failureOf("INVALID_ARGUMENT", fault, { notApplied: true });
  const late = nowMs >= deadlineMs || (body.kind === "write" && nowMs >= body.command.deadlineMs);
  if (!late) return undefined;
  return failureOf("DEADLINE_EXCEEDED", "the deadline had passed before the start", {
    notApplied: true,
  });
}

function faultOf(operation: Operation, deadlineMsMax: number): string | undefined {
  const { vshard, deadlineMs, traceContext, body } = operation;
  if (vshard >= VSHARD_COUNT) return `vshard ${vshard} does not exist`;
  if (deadlineMs > deadlineMsMax) return farDeadline(deadlineMs);
  if (traceContext.length !== 0 && traceContext.length !== TRACE_CONTEXT_SIZE_BYTES) {
    return `a trace context has ${TRACE_CONTEXT_SIZE_BYTES} bytes`;
  }
  if (body.kind === "get") return addressFault(body.tenant, body.space, body.key);
  if (body.kind === "scan") return scanFault(body);
  if (body.kind !== "write") return undefined;
  if (operationCost(operation) > COMMAND_SIZE_BYTES_MAX) return COMMAND_TOO_LARGE;
  return commandFault(body.command, deadlineMsMax);
}

function farDeadline(deadlineMs: number): string {
  return `deadline ${deadlineMs} is too far ahead: do the clocks of gateway and storage agree?`;
}

function spaceFault(tenant: number, space: number): string | undefined {
  if (tenant === 0) return "tenant 0 is reserved";
  return SPACES.has(space) ? undefined : `space ${space} does not exist`;
}

function scanFault(scan: Scan): string | undefined {
  const { tenant, space, start, end, rowsMax, valueBytesMax, countOnly } = scan;
  const fault = spaceFault(tenant, space);
  if (fault !== undefined) return fault;
  if (start.length > BOUND_SIZE_BYTES_MAX || end.length > BOUND_SIZE_BYTES_MAX) {
    return `the bounds of a range have at most ${BOUND_SIZE_BYTES_MAX} bytes`;
  }
  if (rowsMax > SCAN_STEP_ROWS_MAX || (rowsMax === 0 && !countOnly)) {
    return `a scan asks for 1 to ${SCAN_STEP_ROWS_MAX} rows`;
  }
  if (valueBytesMax > SCAN_STEP_VALUE_BYTES_MAX) {
    return `a scan asks for at most ${SCAN_STEP_VALUE_BYTES_MAX} bytes of values`;
  }
  return undefined;
}

function addressFault(tenant: number, space: number, key: Uint8Array): string | undefined {
  const fault = spaceFault(tenant, space);
  if (fault !== undefined) return fault;
  if (key.length < KEY_SIZE_BYTES_MIN || key.length > KEY_SIZE_BYTES_MAX) {
    return `a key has ${KEY_SIZE_BYTES_MIN} to ${KEY_SIZE_BYTES_MAX} bytes`;
  }
  return undefined;
}

function commandFault(command: Command, deadlineMsMax: number): string | undefined {
  const { requestId, deadlineMs, mutations } = command;
  if (requestId.length !== REQUEST_ID_SIZE_BYTES) {
    return `a request id has ${REQUEST_ID_SIZE_BYTES} bytes`;
  }
  // A dedupe row is kept until then: it must not be kept for ever.
  if (deadlineMs > deadlineMsMax) return farDeadline(deadlineMs);
  if (mutations.length < 1 || mutations.length > MUTATIONS_PER_COMMAND_MAX) {
    return `a command has 1 to ${MUTATIONS_PER_COMMAND_MAX} mutations`;
  }
  for (const mutation of mutations) {
    const fault = mutationFault(mutation);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function mutationFault(mutation: Mutation): string | undefined {
  const { tenant, space, key, condition, action } = mutation;
  const fault = addressFault(tenant, space, key);
  if (fault !== undefined) return fault;
  if (condition !== undefined && isTooLong(condition)) {
    return `a condition names at most ${CONDITION_REVISIONS_MAX} revisions`;
  }
  if (action.kind === "expire") return "keys are expired by their leader only";
  if (action.kind === "delete") return undefined;
  const encoding = action.encoding ?? 0;
  const logicalSizeBytes = action.logicalSizeBytes ?? 0;
  const sizeMax = encoding === 0 ? VALUE_SIZE_BYTES_MAX : ENCODED_VALUE_SIZE_BYTES_MAX;
  if (action.value.length > sizeMax || logicalSizeBytes > VALUE_SIZE_BYTES_MAX) {
    return `a value has at most ${VALUE_SIZE_BYTES_MAX} bytes`;
  }
  if (encoding === 0 && logicalSizeBytes !== 0) return "a plain value has one size only";
  // UTF-8 has at least one byte per UTF-16 unit and at most three: most need no exact count.
  const units = action.contentType.length;
  if (
    units * 3 > CONTENT_TYPE_SIZE_BYTES_MAX &&
    Buffer.byteLength(action.contentType) > CONTENT_TYPE_SIZE_BYTES_MAX
  ) {
    return `a content type has at most ${CONTENT_TYPE_SIZE_BYTES_MAX} bytes`;
  }
  if (action.kind === "reseal") return resealFault(condition);
  if (action.ttlMs > TTL_MS_MAX) return `a time to live is at most ${TTL_MS_MAX} ms`;
  return undefined;
}

/** Without the revision, it could put the bytes of one value in the place of another. */
function resealFault(condition: Condition | undefined): string | undefined {
  return condition?.revisionIs.length === 1 ? undefined : "a reseal names the revision it is of";
}

function isTooLong({ revisionIs, revisionIsNot }: Condition): boolean {
  return (
    revisionIs.length > CONDITION_REVISIONS_MAX || revisionIsNot.length > CONDITION_REVISIONS_MAX
  );
}
