/** The error table's numbers, and what a `KvError` carries. Its page is held in step elsewhere. */
import { describe, expect, it } from "vitest";
import { ERRORS, type ErrorCode, errorCodeFromWire, GrpcStatus, KvError } from "./errors.ts";

/** On the wire between versions: append, never change. Undefined is a number that is used no more. */
const WIRE_ORDER: readonly (ErrorCode | undefined)[] = [
  "INVALID_ARGUMENT",
  "KEY_NOT_FOUND",
  "ROUTE_NOT_FOUND",
  "METHOD_NOT_ALLOWED",
  "CONFLICT",
  "CONDITION_FAILED",
  "PAYLOAD_TOO_LARGE",
  "KEY_TOO_LONG",
  "UNSUPPORTED_MEDIA_TYPE",
  "RANGE_NOT_SATISFIABLE",
  "EXPECTATION_FAILED",
  "REQUEST_TIMEOUT",
  "HEADERS_TOO_LARGE",
  undefined,
  "NOT_LEADER",
  "UNAVAILABLE",
  "OVERLOADED",
  "DEADLINE_EXCEEDED",
  "STORAGE_FULL",
  "CANCELLED",
  "DATA_CORRUPT",
  "INTERNAL",
  "ANSWER_TOO_LARGE",
  "CLUSTER_CONFLICT",
  "UNAUTHENTICATED",
  "FORBIDDEN",
  "STORAGE_QUOTA_EXCEEDED",
  "RATE_LIMITED",
  "RESOURCE_NOT_FOUND",
  "ALREADY_EXISTS",
  "ENCRYPTION_KEY_MISSING",
  "COMPACTED",
  "UPGRADE_REQUIRED",
];

describe("ERRORS", () => {
  it("numbers its codes on the wire as it always has, from 1 on", () => {
    const numbered = Object.entries(ERRORS).sort(([, a], [, b]) => a.wire - b.wire);
    const inOrder = WIRE_ORDER.map((code, i) => [code, i + 1]);
    expect(numbered.map(([code, row]) => [code, row.wire])).toEqual(
      inOrder.filter(([code]) => code !== undefined),
    );
  });

  it("maps every code to an HTTP error and to a gRPC status that exists", () => {
    const statuses = new Set<number>(Object.values(GrpcStatus));
    statuses.delete(GrpcStatus.Ok);
    for (const row of Object.values(ERRORS)) {
      expect(row.http >= 400 && row.http < 600).toBe(true);
      expect(statuses.has(row.grpc)).toBe(true);
    }
  });

  it("says what every code means and what to do, in whole sentences", () => {
    for (const { title, meaning, remedy } of Object.values(ERRORS)) {
      expect(title).toMatch(/^[A-Z].*[^.]$/);
      expect(meaning).toMatch(/^(?:[A-Z`]).*\.$/);
      expect(remedy).toMatch(/^(?:[A-Z`]).*\.$/);
    }
  });
});

describe("errorCodeFromWire()", () => {
  it("gives back every code, and INTERNAL for a number it does not know", () => {
    for (const [code, row] of Object.entries(ERRORS))
      expect(errorCodeFromWire(row.wire)).toBe(code);
    expect([0, 14, 9_999, -1].map(errorCodeFromWire)).toEqual(Array(4).fill("INTERNAL"));
  });
});

describe("KvError", () => {
  it("carries code, detail, outcome and cause", () => {
    const cause = new Error("disk");
    const error = new KvError("DATA_CORRUPT", "bad frame", { outcome: "unknown", cause });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: "KvError", code: "DATA_CORRUPT", message: "bad frame" });
    expect([error.outcome, error.cause]).toEqual(["unknown", cause]);
  });

  it("has neither outcome nor cause unless they are given", () => {
    const error = new KvError("INTERNAL", "bug");
    expect(error.outcome).toBeUndefined();
    expect("cause" in error).toBe(false);
  });
});
