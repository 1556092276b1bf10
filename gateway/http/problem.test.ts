import { describe, expect, it } from "vitest";
import { ERRORS, type ErrorCode, KvError } from "#shared/errors.ts";
import { isReportable, problemAnswer, problemOfError, RequestRefused } from "./problem.ts";

const headersOf = (answer: { readonly headers: readonly string[] }): Map<string, string> => {
  const headers = new Map<string, string>();
  for (let at = 0; at < answer.headers.length; at += 2) {
    headers.set(answer.headers[at]!, answer.headers[at + 1]!);
  }
  return headers;
};

describe("problemAnswer()", () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])("gives %s its row of the error table", (code) => {
    const answer = problemAnswer("r1", { code, detail: "why" });
    const row = ERRORS[code];
    expect(answer.status).toBe(row.http);
    expect(JSON.parse(String(answer.body))).toEqual({
      type: `/errors/${code}`,
      title: row.title,
      status: row.http,
      detail: "why",
      code,
      request_id: "r1",
      retryable: row.retryable,
    });
    const headers = headersOf(answer);
    expect(headers.get("Content-Type")).toBe("application/problem+json");
    expect(headers.get("Content-Length")).toBe(String(Buffer.byteLength(String(answer.body))));
    expect(headers.get("X-Request-ID")).toBe("r1");
    expect(headers.has("Retry-After")).toBe(row.http === 503);
  });

  it("adds limit, actual, outcome and headers where they are given", () => {
    const answer = problemAnswer("r1", {
      code: "PAYLOAD_TOO_LARGE",
      detail: "ä",
      outcome: "not_applied",
      limit: 1,
      actual: 2,
      headers: ["ETag", '"7"'],
    });
    expect(JSON.parse(String(answer.body))).toMatchObject({
      outcome: "not_applied",
      limit: 1,
      actual: 2,
    });
    expect(headersOf(answer).get("ETag")).toBe('"7"');
    expect(headersOf(answer).get("Content-Length")).toBe(
      String(Buffer.byteLength(String(answer.body))),
    );
  });
});

describe("problemOfError()", () => {
  it("never lets the words of an unexpected failure out", () => {
    const secret = "/var/lib/secret.log";
    for (const error of [
      new TypeError(secret),
      secret,
      new KvError("INTERNAL", secret),
      new KvError("DATA_CORRUPT", secret),
    ]) {
      expect(JSON.stringify(problemOfError(error, true))).not.toContain(secret);
      expect(isReportable(error)).toBe(true);
    }
  });

  it("says unknown for a write unless the error knows better, and nothing for a read", () => {
    const unknown = new KvError("UNAVAILABLE", "gone");
    const refused = new KvError("UNAVAILABLE", "gone", { outcome: "not_applied" });
    expect(problemOfError(unknown, true).outcome).toBe("unknown");
    expect(problemOfError(refused, true).outcome).toBe("not_applied");
    expect(problemOfError(new Error("bug"), true).outcome).toBe("unknown");
    expect(problemOfError(refused, false).outcome).toBeUndefined();
    expect(isReportable(unknown)).toBe(false);
  });

  it("keeps what a refusal tells", () => {
    const refusal = new RequestRefused("PAYLOAD_TOO_LARGE", "too large", { limit: 5, actual: 6 });
    expect(problemOfError(refusal, true)).toMatchObject({
      code: "PAYLOAD_TOO_LARGE",
      detail: "too large",
      outcome: "not_applied",
      limit: 5,
      actual: 6,
    });
  });
});
