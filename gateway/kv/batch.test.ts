import { beforeEach, describe, expect, it } from "vitest";
import {
  type ProblemBody,
  problemOf,
  type TestGateway,
  testGateway,
} from "#gateway/testing/gateway.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import {
  BATCH_BODY_SIZE_BYTES_MAX,
  BATCH_OPERATIONS_MAX,
  BATCH_READ_BYTES_MAX,
  CONTENT_TYPE_SIZE_BYTES_MAX,
  KEY_SIZE_BYTES_MAX,
  TTL_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

const JSON_TYPE = { "Content-Type": "application/json" };

const send = (
  body: RequestInit["body"],
  headers: Record<string, string> = JSON_TYPE,
  target = "/v1/batch",
) => gateway.app.request(target, { method: "POST", body: body ?? null, headers });

const batch = (ops: unknown, target?: string) => send(JSON.stringify({ ops }), JSON_TYPE, target);

type ResultBody = Record<string, unknown> & {
  readonly status: number;
  readonly error?: { readonly code: string; readonly outcome?: string };
};

async function results(response: Response): Promise<readonly ResultBody[]> {
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/json");
  return ((await response.json()) as { results: ResultBody[] }).results;
}

/** The request is refused as a whole, and nothing was done. */
async function refusal(response: Response, code: keyof typeof ERRORS): Promise<ProblemBody> {
  const problem = await problemOf(response);
  expect(problem).toMatchObject({ code, outcome: "not_applied" });
  expect(response.status).toBe(ERRORS[code].http);
  expect(gateway.storage.size).toBe(0);
  expect(gateway.storage.calls).toEqual([]);
  return problem;
}

describe("POST /v1/batch", () => {
  it.each(["/v1/batch", "/batch"])(
    "answers each operation as it alone would be (%s)",
    async (path) => {
      const response = await batch(
        [
          { op: "put", key: "a", value: "één", content_type: "text/plain" },
          { op: "put", key: "a", value: "2", ttl: 100 },
          { op: "get", key: "a" },
          { op: "put", key64: "_wA", value_base64: "/wA=" },
          { op: "get", key64: "_wA" },
          { op: "delete", key: "a" },
          { op: "delete", key: "a" },
          { op: "get", key: "a" },
        ],
        path,
      );
      const expiresAt = new Date(gateway.clock.nowMs() + 100_000).toISOString();
      const type = "application/octet-stream";
      const absent = { code: "KEY_NOT_FOUND", detail: expect.any(String), retryable: false };
      expect(await results(response)).toEqual([
        { op: "put", key: "a", status: 201, revision: 1, created: true },
        { op: "put", key: "a", status: 200, revision: 2, created: false },
        {
          ...{ op: "get", key: "a", status: 200, revision: 2, content_type: type, size: 1 },
          ...{ expires_at: expiresAt, value: "2" },
        },
        { op: "put", key64: "_wA", status: 201, revision: 3, created: true },
        {
          ...{ op: "get", key64: "_wA", status: 200, revision: 3, content_type: type, size: 2 },
          value_base64: "/wA=",
        },
        { op: "delete", key: "a", status: 204, revision: 4 },
        { op: "delete", key: "a", status: 404, error: { ...absent, outcome: "not_applied" } },
        { op: "get", key: "a", status: 404, error: absent },
      ]);
      expect(response.headers.get("x-request-id")).toMatch(/./);
    },
  );

  it("decides each condition for itself", async () => {
    await batch([{ op: "put", key: "k", value: "1" }]);
    const conditions = [
      ...[{ if_match: 1 }, { if_match: 1 }, { if_match: '"9", "2"' }, { if_match: "*" }],
      ...[{ if_none_match: "*" }, { if_none_match: 4 }, { if_none_match: '"1"' }],
    ];
    const ops = conditions.map((condition) => ({ op: "put", key: "k", value: "2", ...condition }));
    const answers = await results(await batch([...ops, { op: "delete", key: "x", if_match: "*" }]));
    expect(answers.map(({ status, revision }) => [status, revision])).toEqual([
      ...[
        [200, 2],
        [412, 2],
        [200, 3],
        [200, 4],
        [412, 4],
        [412, 4],
        [200, 5],
      ],
      [404, undefined],
    ]);
    expect(answers[1]!.error).toMatchObject({
      ...{ code: "CONDITION_FAILED", outcome: "not_applied", retryable: false },
    });
  });

  it("says of each failed operation what is known of it", async () => {
    const failures = [
      new KvError("NOT_LEADER", "no leader", { outcome: "unknown" }),
      new KvError("OVERLOADED", "full", { outcome: "not_applied" }),
      new KvError("INTERNAL", "a secret", { outcome: "unknown" }),
    ];
    for (const [place, failure] of failures.entries()) {
      gateway.storage.batchFailures.set(place, failure);
    }
    gateway.storage.batchFailures.set(3, failures[1]!);
    const ops = [
      ...["put", "delete", "put"].map((op) => ({ op, key: "a", ...(op === "put" && VALUE) })),
      { op: "get", key: "a" },
      { op: "put", key: "fine", ...VALUE },
    ];
    const answers = await results(await batch(ops));
    expect(answers.map(({ status, error }) => [status, error?.code, error?.outcome])).toEqual([
      [503, "NOT_LEADER", "unknown"],
      [503, "OVERLOADED", "not_applied"],
      [500, "INTERNAL", "unknown"],
      [503, "OVERLOADED", undefined],
      [201, undefined, undefined],
    ]);
    expect(JSON.stringify(answers)).not.toContain("secret");
    expect(gateway.failures).toMatchObject([{ method: "POST", error: failures[2] }]);
  });

  it("is a problem when storage takes none of it", async () => {
    gateway.storage.failure = new KvError("UNAVAILABLE", "stopping", { outcome: "not_applied" });
    const response = await batch([{ op: "put", key: "a", value: "" }]);
    expect(response.status).toBe(503);
    expect(await problemOf(response)).toMatchObject({ outcome: "not_applied" });
    expect(response.headers.get("retry-after")).toBe("1");
  });

  it("takes as many operations as it may, and none", async () => {
    expect(await results(await batch([]))).toEqual([]);
    const ops = Array.from({ length: BATCH_OPERATIONS_MAX }, (_, i) => ({
      ...{ op: "put", key: `key-${i}` },
      ...VALUE,
    }));
    const answers = await results(await batch(ops));
    expect(answers.map(({ key }) => key)).toEqual(ops.map(({ key }) => key));
  });

  it("passes deadline and consistency on", async () => {
    const headers = { ...JSON_TYPE, "Minikv-Timeout": "3s" };
    await send('{"ops":[]}', headers, "/v1/batch?consistency=stale&max_staleness=2s");
    expect(gateway.storage.calls[0]!.options).toMatchObject({
      ...{ deadlineMs: gateway.clock.nowMs() + 3_000, maxStalenessMs: 2_000 },
    });
  });

  it("answers with values up to a bound, and holds them no longer than it must", async () => {
    const value = "x".repeat(VALUE_SIZE_BYTES_MAX);
    await batch([{ op: "put", key: "k", value }]);
    const count = BATCH_READ_BYTES_MAX / VALUE_SIZE_BYTES_MAX;
    const reads = Array.from({ length: count + 1 }, () => ({ op: "get", key: "k" }));
    const answers = await results(await batch(reads));
    expect(answers.slice(0, -1).every(({ status, size }) => status === 200 && size)).toBe(true);
    expect(answers.at(-1)).toMatchObject({ status: 413, error: { code: "ANSWER_TOO_LARGE" } });
    expect(gateway.app.gateway.answerBudget.heldBytes).toBe(0);
  });

  it("refuses reads when too many answers wait for their clients", async () => {
    gateway = testGateway({ limits: { answerBytesInFlightMax: 3 } });
    await batch([{ op: "put", key: "k", value: "12" }]);
    const answers = await results(
      await batch([
        { op: "get", key: "k" },
        { op: "get", key: "k" },
      ]),
    );
    expect(answers.map(({ status, error }) => [status, error?.code])).toEqual([
      [200, undefined],
      [503, "OVERLOADED"],
    ]);
    expect(gateway.app.gateway.answerBudget.heldBytes).toBe(0);
  });
});

const VALUE = { value: "v" };
const put = { op: "put", key: "k", ...VALUE };

describe("a malformed batch", () => {
  it.each<[string, string, RegExp]>([
    ["nothing", "", /not JSON/],
    ["no JSON", "{ops:[]}", /not JSON/],
    ["half of it", '{"ops":[{"op":"put"', /not JSON/],
    ["a list", "[]", /must be an object/],
    ["null", "null", /must be an object/],
    ["a number", "1", /must be an object/],
    ["no ops", "{}", /must be an object/],
    ["ops of another type", '{"ops":{"0":1}}', /must be an object/],
    ["more than ops", '{"ops":[],"atomic":true}', /"atomic" as well/],
    ["a byte order mark", '\ufeff{"ops":[]}', /not JSON/],
    ["a nest", `${"[".repeat(50)}${"]".repeat(50)}`, /must be an object/],
    ["a deep nest", "[".repeat(8_000_000), /nested deeper/],
    ["a closed deep nest", `${"[".repeat(500_000)}${"]".repeat(500_000)}`, /nested deeper/],
    ["a large nest in an operation", `{"ops":[{"op":{"a":"${"x".repeat(70_000)}"}}]}`, /nested/],
  ])("%s is refused", async (_, body, detail) => {
    expect((await refusal(await send(body), "INVALID_ARGUMENT")).detail).toMatch(detail);
  });

  it("bytes that are not UTF-8 are refused", async () => {
    const body = Buffer.concat([Buffer.from('{"ops":[{"op":"get","key":"'), Buffer.of(0xff)]);
    expect((await refusal(await send(body), "INVALID_ARGUMENT")).detail).toMatch(/not UTF-8/);
  });

  it.each<[string, unknown, RegExp]>([
    ["a number", 1, /ops\[1\] must be an object/],
    ["null", null, /ops\[1\] must be an object/],
    ["a list", [], /ops\[1\] must be an object/],
    ["no op", { key: "a" }, /\.op must be/],
    ["an unknown op", { ...put, op: "PUT" }, /\.op must be/],
    ["an op named like a property", { ...put, op: "constructor" }, /\.op must be/],
    ["an op of another type", { ...put, op: ["put"] }, /\.op must be/],
    ["no key", { op: "get" }, /needs a key/],
    ["two keys", { op: "get", key: "a", key64: "YQ" }, /needs a key/],
    ["an empty key", { op: "get", key: "" }, /must not be empty/],
    ["a key of another type", { op: "get", key: 1 }, /\.key must be a string/],
    ["null for a key", { op: "get", key: null }, /\.key must be a string/],
    ["half a character in a key", { op: "get", key: "\ud800" }, /surrogate/],
    ["a bad key64", { op: "get", key64: "a+b" }, /key64 must be base64url/],
    ["a key64 with surplus bits", { op: "get", key64: "_x" }, /key64 must be base64url/],
    ["an empty key64", { op: "get", key64: "" }, /key64 must be base64url/],
    ["no value", { op: "put", key: "a" }, /needs a value/],
    ["two values", { ...put, value_base64: "" }, /needs a value/],
    ["a value of another type", { ...put, value: { a: 1 } }, /\.value must be a string/],
    ["null for a value", { ...put, value: null }, /\.value must be a string/],
    ["half a character in a value", { ...put, value: "a\udc00b" }, /surrogate/],
    ["bad base64", { op: "put", key: "a", value_base64: "_w==" }, /must be base64 /],
    ["base64 without padding", { op: "put", key: "a", value_base64: "/w" }, /must be base64 /],
    ["base64 with surplus bits", { op: "put", key: "a", value_base64: "/x==" }, /must be base64 /],
    ["a TTL of 0", { ...put, ttl: 0 }, /\.ttl must be/],
    ["a TTL in text", { ...put, ttl: "5" }, /\.ttl must be/],
    ["a TTL that is not whole", { ...put, ttl: 1.5 }, /\.ttl must be/],
    ["a TTL too long", { ...put, ttl: TTL_MS_MAX / 1000 + 1 }, /\.ttl must be/],
    ["a misspelt TTL", { ...put, tll: 5 }, /unknown member "tll"; did you mean ttl/],
    ["a value for a get", { op: "get", key: "a", value: "" }, /unknown member "value"/],
    ["a condition for a get", { op: "get", key: "a", if_match: 1 }, /unknown member "if_match"/],
    ["a prototype", JSON.parse('{"op":"get","key":"a","__proto__":{}}'), /unknown member/],
    ["a bare tag", { ...put, if_match: "1" }, /if_match must be \* or entity tags/],
    ["a revision of 0", { ...put, if_match: 0 }, /\.if_match must be/],
    ["a list of tags", { ...put, if_none_match: ["1"] }, /\.if_none_match must be/],
    ["too many tags", { ...put, if_match: '"1",'.repeat(300) }, /more than/],
    ["a content type of another type", { ...put, content_type: 1 }, /must be a string/],
    ["an odd content type", { ...put, content_type: "a\nb" }, /printable ASCII/],
    [
      "a long content type",
      { ...put, content_type: "x".repeat(CONTENT_TYPE_SIZE_BYTES_MAX + 1) },
      /more than/,
    ],
  ])("%s is refused, and so is all of it", async (_, op, detail) => {
    const problem = await refusal(await batch([put, op]), "INVALID_ARGUMENT");
    expect(problem.detail).toMatch(detail);
    expect(problem.detail).toContain("ops[1]");
    expect(problem.detail.length).toBeLessThan(500);
  });

  it("names in errors are cut, however long they are", async () => {
    const name = "x".repeat(2_000_000);
    const first = await refusal(await batch([{ ...put, [name]: 1 }]), "INVALID_ARGUMENT");
    const second = await refusal(
      await send(JSON.stringify({ ops: [], [name]: 1 })),
      "INVALID_ARGUMENT",
    );
    for (const { detail } of [first, second]) expect(detail.length).toBeLessThan(500);
  });

  it("keys and values beyond their bounds are refused as alone", async () => {
    const key = "é".repeat(KEY_SIZE_BYTES_MAX / 2);
    expect(await results(await batch([{ ...put, key }]))).toMatchObject([{ status: 201 }]);
    gateway = testGateway();
    expect(
      await refusal(await batch([put, { ...put, key: `${key}x` }]), "KEY_TOO_LONG"),
    ).toMatchObject({
      ...{ limit: KEY_SIZE_BYTES_MAX, actual: KEY_SIZE_BYTES_MAX + 1 },
    });
    const value = "x".repeat(VALUE_SIZE_BYTES_MAX + 1);
    const value_base64 = Buffer.from(value).toString("base64");
    for (const tooLarge of [{ value }, { value_base64 }]) {
      const response = await batch([put, { op: "put", key: "k", ...tooLarge }]);
      expect(await refusal(response, "PAYLOAD_TOO_LARGE")).toMatchObject({
        ...{ limit: VALUE_SIZE_BYTES_MAX, actual: VALUE_SIZE_BYTES_MAX + 1 },
      });
    }
  });

  it("more than any batch can hold is refused before it is parsed", async () => {
    const names = Array.from({ length: 500_000 }, (_, i) => `"${i}":1`);
    for (const body of [`{${names.join(",")}}`, `[${"[],".repeat(2_000_000)}[]]`]) {
      const problem = await refusal(await send(body), "PAYLOAD_TOO_LARGE");
      expect(problem).toMatchObject({ limit: BATCH_OPERATIONS_MAX });
    }
  });

  it("too many operations are refused", async () => {
    const ops = Array.from({ length: BATCH_OPERATIONS_MAX + 1 }, () => put);
    expect(await refusal(await batch(ops), "PAYLOAD_TOO_LARGE")).toMatchObject({
      ...{ limit: BATCH_OPERATIONS_MAX, actual: BATCH_OPERATIONS_MAX + 1 },
    });
  });

  it("a body beyond its bound is refused, from its announced length alone", async () => {
    const announced = {
      ...JSON_TYPE,
      "Content-Length": String(BATCH_BODY_SIZE_BYTES_MAX + 1),
    };
    expect(await refusal(await send("{}", announced), "PAYLOAD_TOO_LARGE")).toMatchObject({
      ...{ limit: BATCH_BODY_SIZE_BYTES_MAX, actual: BATCH_BODY_SIZE_BYTES_MAX + 1 },
    });
    const large = Buffer.alloc(BATCH_BODY_SIZE_BYTES_MAX + 1, " ");
    await refusal(await send(large), "PAYLOAD_TOO_LARGE");
  });

  it("a body for which the gateway has no room is refused", async () => {
    gateway = testGateway({ limits: { bodyBytesInFlightMax: 20 } });
    await refusal(await batch([put]), "OVERLOADED");
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it.each([
    ["none", {}],
    ["text", { "Content-Type": "text/plain" }],
    ["a form", { "Content-Type": "application/x-www-form-urlencoded" }],
    ["almost", { "Content-Type": "application/jsonp" }],
    ["compressed", { ...JSON_TYPE, "Content-Encoding": "gzip" }],
  ])("another type than JSON is refused: %s", async (_, headers) => {
    await refusal(
      await send('{"ops":[]}', headers as Record<string, string>),
      "UNSUPPORTED_MEDIA_TYPE",
    );
  });

  it.each(["application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"])(
    "%s is JSON",
    async (type) => {
      expect(await results(await send('{"ops":[]}', { "Content-Type": type }))).toEqual([]);
    },
  );

  it.each([
    ["If-Match", "*"],
    ["If-None-Match", "*"],
    ["If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"],
    ["Minikv-TTL", "5"],
    ["X-Minikv-TTL", "5"],
    ["Idempotency-Key", '"x"'],
  ])("the header %s is refused, because it would be ignored", async (name, value) => {
    await refusal(await send('{"ops":[]}', { ...JSON_TYPE, [name]: value }), "INVALID_ARGUMENT");
  });

  it("other methods and parameters are refused", async () => {
    for (const method of ["GET", "PUT", "DELETE"]) {
      const response = await gateway.app.request("/v1/batch", { method });
      expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
    }
    await refusal(await batch([], "/v1/batch?atomic=1"), "INVALID_ARGUMENT");
  });
});
