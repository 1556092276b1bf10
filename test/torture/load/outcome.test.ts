/** What is concluded from an answer, or from none. */
import { describe, expect, it } from "vitest";
import type { Action } from "#test/linearizability/operation.ts";
import type { Reply } from "./connection.ts";
import { readReply } from "./outcome.ts";
import { makeValue, readValue, valueId } from "./value.ts";

const get: Action = { kind: "get" };
const put: Action = { kind: "put", value: "v" };
const remove: Action = { kind: "delete" };

const answer = (status: number, body: string, etag?: string): Reply => ({
  kind: "answer",
  status,
  etag,
  body: Buffer.from(body),
});
const problem = (status: number, code: string, outcome?: string, etag?: string): Reply =>
  answer(status, JSON.stringify({ code, outcome }), etag);

describe("readReply()", () => {
  it.each<[string, Action, Reply, object]>([
    [
      "found",
      get,
      answer(200, makeValue("a.40"), '"7"'),
      { kind: "found", revision: 7, value: "a.40" },
    ],
    ["absent", get, problem(404, "KEY_NOT_FOUND"), { kind: "absent" }],
    ["stored", put, answer(200, "{}", '"7"'), { kind: "stored", revision: 7, created: false }],
    ["created", put, answer(201, "{}", '"7"'), { kind: "stored", revision: 7, created: true }],
    ["deleted", remove, answer(204, ""), { kind: "deleted" }],
    ["nothing to delete", remove, problem(404, "KEY_NOT_FOUND", "not_applied"), { kind: "absent" }],
    [
      "refused",
      put,
      problem(412, "CONDITION_FAILED", "not_applied", '"3"'),
      { kind: "refused", revision: 3 },
    ],
    [
      "refused, absent",
      put,
      problem(412, "CONDITION_FAILED", "not_applied"),
      { kind: "refused", revision: 0 },
    ],
    ["not applied", put, problem(503, "UNAVAILABLE", "not_applied"), { kind: "notApplied" }],
    ["unknown", put, problem(504, "DEADLINE_EXCEEDED", "unknown"), { kind: "unknown" }],
    ["a failed get", get, problem(503, "NOT_LEADER"), { kind: "unknown" }],
    ["never sent", put, { kind: "notSent", reason: "" }, { kind: "notApplied" }],
    ["lost", put, { kind: "lost", reason: "" }, { kind: "unknown" }],
  ])("%s", (_, action, reply, outcome) => {
    const reading = readReply(action, reply);
    expect(reading.outcome).toEqual(outcome);
    expect(reading.complaint).toBeUndefined();
  });

  it.each<[string, Action, Reply]>([
    ["a write that failed without an outcome", put, problem(503, "UNAVAILABLE")],
    ["a bug", get, problem(500, "INTERNAL")],
    ["lost data", get, problem(500, "DATA_CORRUPT")],
    ["no problem document", put, answer(502, "Bad Gateway")],
    ["a value without a revision", get, answer(200, "x")],
    ["a put without a revision", put, answer(200, "{}", "W/1")],
    ["a put that was answered like a delete", put, answer(204, "")],
    ["a put of which the key is not found", put, problem(404, "KEY_NOT_FOUND")],
    ["a refusal at what is no revision", put, problem(412, "CONDITION_FAILED", "not_applied", "x")],
  ])("complains of %s", (_, action, reply) => {
    const reading = readReply(action, reply);
    expect(reading.complaint).toBeTypeOf("string");
    expect(reading.outcome).toEqual({ kind: "unknown" });
  });
});

describe("values", () => {
  it.each([0, 10, 36, 37, 1000])("of %i bytes are read as they were made", (sizeBytes) => {
    const id = valueId("r1-c2-3", sizeBytes);
    const value = makeValue(id);
    expect(value.length).toBe(Math.max(sizeBytes, id.length + 1));
    expect(readValue(value)).toBe(id);
  });

  it.each(["", "~", "x", `${makeValue("a.100").slice(0, 99)}`, `${makeValue("a.100")}x`])(
    "%j is none",
    (text) => {
      expect(readValue(text)).toMatch(/^damaged:/);
    },
  );
});
