/**
 * What an answer over HTTP says of an operation, exactly: an outcome, or that the answer breaks the contract
 * of the interface.
 */
import type { Action, Outcome } from "#test/linearizability/operation.ts";
import type { Reply } from "./connection.ts";
import { readValue } from "./value.ts";

export type Reading = {
  readonly outcome: Outcome;
  /** Error code, or how the answer was lost; undefined for an answer to the point. */
  readonly error?: string;
  /** What no answer may be. */
  readonly complaint?: string;
};

/** Codes that say "this is a bug", or that data is lost. */
const NEVER: ReadonlySet<string> = new Set(["INTERNAL", "DATA_CORRUPT"]);

const UNKNOWN: Outcome = { kind: "unknown" };
const NOT_APPLIED: Outcome = { kind: "notApplied" };

export function readReply(action: Action, reply: Reply): Reading {
  if (reply.kind === "notSent") return { outcome: NOT_APPLIED, error: "not sent" };
  if (reply.kind === "lost") return { outcome: UNKNOWN, error: "lost" };
  const { status } = reply;
  if (status >= 200 && status < 300) return readSuccess(action, reply);
  return readProblem(action, reply);
}

type Answer = Extract<Reply, { kind: "answer" }>;

/** NaN without one. */
const revisionOf = ({ etag }: Answer): number =>
  etag !== undefined && /^"[1-9][0-9]*"$/.test(etag) ? Number(etag.slice(1, -1)) : Number.NaN;

function readSuccess(action: Action, reply: Answer): Reading {
  const { status } = reply;
  const revision = revisionOf(reply);
  const hasRevision = !Number.isNaN(revision);
  if (action.kind === "get" && status === 200 && hasRevision) {
    return {
      outcome: { kind: "found", revision, value: readValue(reply.body.toString("latin1")) },
    };
  }
  if (action.kind === "put" && (status === 200 || status === 201) && hasRevision) {
    return { outcome: { kind: "stored", revision, created: status === 201 } };
  }
  if (action.kind === "delete" && status === 204) return { outcome: { kind: "deleted" } };
  return complain(`a ${action.kind} was answered with ${status}, ETag ${reply.etag}`);
}

function readProblem(action: Action, reply: Answer): Reading {
  const { status, body } = reply;
  const text = body.toString("utf8");
  const { code, outcome } = parse(text);
  if (typeof code !== "string") return complain(`${status} without a code: ${text.slice(0, 200)}`);
  if (NEVER.has(code)) return { ...complain(`${action.kind}: ${text.slice(0, 500)}`), error: code };
  const isWrite = action.kind !== "get";
  if (code === "KEY_NOT_FOUND" && action.kind !== "put") return { outcome: { kind: "absent" } };
  if (code === "CONDITION_FAILED" && isWrite) {
    const revision = reply.etag === undefined ? 0 : revisionOf(reply);
    if (Number.isNaN(revision)) return complain(`412 with ETag ${reply.etag}`);
    return { outcome: { kind: "refused", revision } };
  }
  if (!isWrite) return { outcome: UNKNOWN, error: code };
  if (outcome === "unknown") return { outcome: UNKNOWN, error: code };
  if (outcome === "not_applied") return { outcome: NOT_APPLIED, error: code };
  return { ...complain(`a write failed with ${code} and no outcome`), error: code };
}

const complain = (complaint: string): Reading => ({ outcome: UNKNOWN, complaint });

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
