/** Tells the audit log which keys requests have changed, or may have. Only where that is asked for. */
import type { Audit } from "#gateway/audit/audit.ts";
import type { Caller } from "#gateway/auth/caller.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import type { BatchOperation, BatchOutcome } from "#gateway/storage/storage.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import { parseKvTarget } from "./key.ts";

/** The same promise, whose end is recorded. */
export async function recorded(
  exchange: Exchange,
  caller: Caller,
  audit: Audit,
  run: Promise<Answer>,
): Promise<Answer> {
  try {
    const answer = await run;
    recordOne(exchange, caller, audit, answer.status);
    return answer;
  } catch (error) {
    recordOne(exchange, caller, audit, statusOf(error));
    throw error;
  }
}

function recordOne(exchange: Exchange, caller: Caller, audit: Audit, status: number): void {
  if (!mayHaveChanged(status)) return;
  // It was parsed before, with its parameters: whatever they are, the key is the same.
  const { key } = parseKvTarget(exchange.target, ["key64", "ttl"]);
  const action = exchange.method === "PUT" ? "put" : "delete";
  audit.data({ exchange, action, key, status, actor: caller });
}

/** Of a batch whose operations were begun; `outcomes` is the error of one that ended as a whole. */
export function recordBatch(
  exchange: Exchange,
  caller: Caller,
  audit: Audit,
  batch: {
    readonly operations: readonly BatchOperation[];
    readonly outcomes: readonly BatchOutcome[] | KvError;
  },
): void {
  const { operations, outcomes } = batch;
  operations.forEach(({ kind, key }, place) => {
    if (kind === "get") return;
    const status = outcomes instanceof KvError ? statusOf(outcomes) : statusIn(outcomes[place]!);
    if (mayHaveChanged(status)) {
      audit.data({ exchange, action: kind, key, status, actor: caller });
    }
  });
}

/** What was refused has changed nothing; what failed inside may have. */
const mayHaveChanged = (status: number): boolean => status < 300 || status >= 500;

const statusOf = (error: unknown): number =>
  error instanceof KvError ? ERRORS[error.code].http : ERRORS.INTERNAL.http;

function statusIn(outcome: BatchOutcome): number {
  switch (outcome.kind) {
    case "failed":
      return statusOf(outcome.error);
    case "stored":
      return outcome.created ? 201 : 200;
    case "deleted":
      return 204;
    default:
      // Condition failed, not found: nothing has changed.
      return 412;
  }
}
