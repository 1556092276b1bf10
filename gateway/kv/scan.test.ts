import { beforeEach, describe, expect, it } from "vitest";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { type ERRORS, KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space } from "#shared/ids.ts";
import {
  KEY_SIZE_BYTES_MAX,
  SCAN_CHUNK_ROWS_MAX,
  SCAN_LIMIT_DEFAULT,
  SCAN_LIMIT_MAX,
  SCAN_PAGE_BYTES_MAX,
  SCAN_STREAMS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { vshardOf } from "#shared/vshard.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

const NDJSON = { Accept: "application/x-ndjson" };
const ask = (query: string, headers: Record<string, string> = {}, path = "/v1/kv") =>
  gateway.app.request(query === "" ? path : `${path}?${query}`, { headers });

type Item = { readonly key?: string; readonly key64?: string; readonly value?: string };
type Page = { readonly items: Item[]; readonly has_more: boolean; readonly cursor: string | null };

async function page(query: string, path?: string): Promise<Page> {
  const response = await ask(query, {}, path);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/json");
  return (await response.json()) as Page;
}

const keysOf = ({ items }: { readonly items: readonly Item[] }) =>
  items.map(({ key, key64 }) => key ?? key64);

async function store(...keys: readonly (string | Uint8Array)[]): Promise<void> {
  for (const key of keys) await storeValue(key, "v");
}

async function storeValue(key: string | Uint8Array, value: string | Uint8Array, ttlMs = 0) {
  const bytes = (text: string | Uint8Array) => (typeof text === "string" ? utf8(text) : text);
  await gateway.storage.put(
    { tenant: DEFAULT_TENANT, key: bytes(key) },
    { value: bytes(value), contentType: "text/plain", ttlMs },
    { deadlineMs: 0 },
  );
}

const numbered = (count: number) =>
  Array.from({ length: count }, (_, i) => `key-${String(i).padStart(5, "0")}`);

async function refusal(response: Response, code: keyof typeof ERRORS): Promise<string> {
  const problem = await problemOf(response);
  expect(problem.code).toBe(code);
  expect(problem).not.toHaveProperty("outcome");
  expect(gateway.storage.queries).toEqual([]);
  return problem.detail;
}

describe("GET /v1/kv", () => {
  it.each(["/v1/kv", "/range"])(
    "lists keys in byte order with what is stored (%s)",
    async (path) => {
      await store("b", "a/c");
      await storeValue("a", "één", 5_000);
      await storeValue(Uint8Array.of(0xff, 0), Uint8Array.of(0, 0xff));
      const expiresAt = new Date(gateway.clock.nowMs() + 5_000).toISOString();
      expect(await page("", path)).toEqual({
        items: [
          {
            ...{ key: "a", revision: 3, content_type: "text/plain", size: 5 },
            ...{ expires_at: expiresAt, value: "één" },
          },
          { key: "a/c", revision: 2, content_type: "text/plain", size: 1, value: "v" },
          { key: "b", revision: 1, content_type: "text/plain", size: 1, value: "v" },
          {
            ...{ key64: "_wA", revision: 4, content_type: "text/plain", size: 2 },
            value_base64: "AP8=",
          },
        ],
        has_more: false,
        cursor: null,
      });
    },
  );

  it.each([
    ["", ["a", "ab", "abc", "b", "{t}x"]],
    ["prefix=ab", ["ab", "abc"]],
    ["prefix=", ["a", "ab", "abc", "b", "{t}x"]],
    ["prefix64=YWI", ["ab", "abc"]],
    ["start=ab", ["ab", "abc", "b", "{t}x"]],
    ["start=ab&end=b", ["ab", "abc"]],
    ["end=ab", ["a"]],
    ["start64=YWI%3D&end64=Yg", ["ab", "abc"]],
    ["prefix=a&start=ab", ["ab", "abc"]],
    ["prefix=a&end=abc", ["a", "ab"]],
    ["prefix=a&start=0&end=z", ["a", "ab", "abc"]],
    ["prefix=a&start=b", []],
    ["prefix=b&end=a", []],
    ["start=b&end=a", []],
    ["start=b&end=b", []],
    ["prefix=a&reverse", ["abc", "ab", "a"]],
    ["prefix=a&reverse=false", ["a", "ab", "abc"]],
    ["prefix=%7Bt%7D", ["{t}x"]],
    ["limit=2", ["a", "ab"]],
    ["limit=2&reverse=1", ["{t}x", "b"]],
  ])("?%s gives %j", async (query, keys) => {
    await store("b", "abc", "ab", "a", "{t}x");
    expect(keysOf(await page(query))).toEqual(keys);
    const counted = query.replace(/&?(limit|reverse)[^&]*/g, "");
    const whole = await page(counted);
    const count = await ask(`${counted}&count_only`);
    expect(await count.json()).toEqual({ count: whole.items.length });
    expect((await lines(await ask(counted, NDJSON))).map(({ key }) => key)).toEqual(keysOf(whole));
  });

  it("the prefix ff has no end, and neither has the range", async () => {
    await store("a", Uint8Array.of(0xff), Uint8Array.of(0xff, 0xff));
    expect(keysOf(await page("prefix64=_w"))).toEqual(["_w", "__8"]);
    expect(gateway.storage.queries[0]).toMatchObject({ end: EMPTY_BYTES });
  });

  it("knows the vshard of a prefix with a whole tag, and of no other", async () => {
    const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("a{t}") });
    const queries = ["prefix=a%7Bt%7Db", "prefix=a%7Bt", "prefix=%7B%7Dx", "start=%7Bt%7D", ""];
    for (const query of queries) await page(query);
    expect(gateway.storage.queries.map((query) => query.vshard)).toEqual([
      ...[vshard, undefined, undefined, undefined, undefined],
    ]);
  });

  it("leaves values out when asked, and says their size", async () => {
    await store("a");
    const item = { key: "a", revision: 1, content_type: "text/plain", size: 1 };
    expect((await page("keys_only")).items).toEqual([item]);
    expect(await lines(await ask("keys_only=true", NDJSON))).toEqual([item]);
  });

  it("never lists an expired key", async () => {
    await storeValue("a", "1", 1_000);
    await store("b");
    gateway.clock.advance(1_000);
    expect(keysOf(await page(""))).toEqual(["b"]);
    expect(await (await ask("count_only")).json()).toEqual({ count: 1 });
  });

  it("pages through all keys with cursors, either way", async () => {
    const keys = numbered(25);
    await store(...keys);
    for (const reverse of [false, true]) {
      const seen: unknown[] = [];
      let cursor: string | null = "";
      while (cursor !== null) {
        const more = cursor === "" ? "" : `&cursor=${cursor}`;
        const next: Page = await page(`prefix=key&limit=7&reverse=${reverse}${more}`);
        seen.push(...keysOf(next));
        expect(next.has_more).toBe(next.cursor !== null);
        cursor = next.cursor;
      }
      expect(seen).toEqual(reverse ? [...keys].reverse() : keys);
    }
  });

  it("has pages of a default and a greatest size", async () => {
    await store(...numbered(SCAN_LIMIT_MAX + 1));
    expect((await page("")).items).toHaveLength(SCAN_LIMIT_DEFAULT);
    const most = await page(`limit=${SCAN_LIMIT_MAX}`);
    expect(most.items).toHaveLength(SCAN_LIMIT_MAX);
    expect(keysOf(await page(`cursor=${most.cursor}`))).toEqual([`key-0${SCAN_LIMIT_MAX}`]);
  });

  it("ends a page early when its values are large", async () => {
    const value = new Uint8Array(VALUE_SIZE_BYTES_MAX);
    for (const key of numbered(6)) await storeValue(key, value);
    const first = await page("");
    expect(first.has_more).toBe(true);
    const sizeBytes = VALUE_SIZE_BYTES_MAX + 9;
    expect(first.items).toHaveLength(Math.floor(SCAN_PAGE_BYTES_MAX / sizeBytes));
    const rest = await page(`cursor=${first.cursor}`);
    expect(keysOf(first).concat(keysOf(rest))).toEqual(numbered(6));
  });

  it("passes deadline and consistency on", async () => {
    const headers = { "Minikv-Timeout": "2s" };
    for (const form of ["", "&count_only"]) {
      await ask(`consistency=stale&max_staleness=3s${form}`, headers);
    }
    await (await ask("consistency=stale&max_staleness=3s", { ...headers, ...NDJSON })).text();
    for (const { options } of gateway.storage.calls) {
      const deadlineMs = gateway.clock.nowMs() + 2_000;
      expect(options).toMatchObject({ deadlineMs, maxStalenessMs: 3_000 });
    }
    expect(gateway.storage.calls).toHaveLength(3);
  });

  it("is a problem when storage fails", async () => {
    await store("a");
    gateway.storage.failure = new KvError("NOT_LEADER", "no leader");
    for (const headers of [{}, NDJSON]) {
      const response = await ask("", headers);
      expect(response.status).toBe(503);
      const problem = await problemOf(response);
      expect(problem.code).toBe("NOT_LEADER");
      expect(problem).not.toHaveProperty("outcome");
    }
    expect((await ask("count_only")).status).toBe(503);
  });

  it("with key64 is a read of that key, and HEAD needs one", async () => {
    await store("a");
    const read = await ask("key64=YQ");
    expect([read.status, await read.text()]).toEqual([200, "v"]);
    expect((await ask("k%65y64=YQ")).status).toBe(200);
    const head = await gateway.app.request("/v1/kv?prefix=a", { method: "HEAD" });
    expect(head.status).toBe(400);
    expect(await refusal(await ask("key64=YQ&prefix=a"), "INVALID_ARGUMENT")).toMatch(/"prefix"/);
  });
});

async function lines(response: Response): Promise<Record<string, unknown>[]> {
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const text = await response.text();
  if (text === "") return [];
  expect(text.endsWith("\n")).toBe(true);
  const found = text.slice(0, -1).split("\n");
  return found.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("GET /v1/kv as NDJSON", () => {
  it("gives all keys, one a line", async () => {
    const keys = numbered(2 * SCAN_CHUNK_ROWS_MAX + 10);
    await store(...keys, "line\nfeed");
    const found = await lines(await ask("", NDJSON));
    expect(found.map(({ key }) => key)).toEqual([...keys, "line\nfeed"]);
    expect(await lines(await ask("prefix=nothing", NDJSON))).toEqual([]);
    expect(await lines(await ask("start=b&end=a", NDJSON))).toEqual([]);
  });

  it.each([
    ["application/x-ndjson", true],
    ["application/ndjson", true],
    ["Application/X-NDJSON; charset=utf-8", true],
    ["application/json, application/x-ndjson;q=0.5", true],
    ["application/x-ndjson;q=0", false],
    ["application/json", false],
    ["*/*", false],
  ])("is chosen by Accept: %s: %s", async (accept, isStream) => {
    const response = await ask("", { Accept: accept });
    const type = isStream ? "application/x-ndjson" : "application/json";
    expect(response.headers.get("content-type")).toBe(type);
    expect(response.headers.get("vary")).toBe("Accept");
  });

  it("says when it breaks off, and from where to go on", async () => {
    const keys = numbered(4 * SCAN_CHUNK_ROWS_MAX);
    await store(...keys);
    const response = await ask("prefix=key", NDJSON);
    const reader = response.body!.getReader();
    let text = new TextDecoder().decode((await reader.read()).value);
    gateway.storage.failure = new KvError("DATA_CORRUPT", "a secret");
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      text += new TextDecoder().decode(piece.value);
    }
    const found = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const count = found.length - 1;
    expect(count % SCAN_CHUNK_ROWS_MAX).toBe(0);
    expect(count).toBeLessThan(keys.length);
    const last = found.at(-1);
    expect(last).toMatchObject({
      error: { code: "DATA_CORRUPT", status: 500, retryable: false },
      cursor: expect.any(String),
    });
    expect(text).not.toContain("secret");
    expect(gateway.failures).toHaveLength(1);
    gateway.storage.failure = undefined;
    const rest = await lines(await ask(`prefix=key&cursor=${last.cursor}`, NDJSON));
    expect(rest.map(({ key }) => key)).toEqual(keys.slice(count));
  });

  it("runs at most so often at once", async () => {
    await store(...numbered(3));
    const running: ReadableStreamDefaultReader[] = [];
    for (let i = 0; i < SCAN_STREAMS_MAX; i++) {
      // Not read to the end.
      running.push((await ask("", NDJSON)).body!.getReader());
    }
    const refused = await ask("", NDJSON);
    expect(refused.status).toBe(503);
    expect(await problemOf(refused)).toMatchObject({ code: "OVERLOADED" });
    expect((await page("")).items).toHaveLength(3);
    await running[0]!.cancel();
    expect(await lines(await ask("", NDJSON))).toHaveLength(3);
    expect(await lines(await ask("", NDJSON))).toHaveLength(3);
    gateway.storage.failure = new KvError("UNAVAILABLE", "stopping");
    for (let i = 0; i < 3; i++) {
      expect((await problemOf(await ask("", NDJSON))).code).toBe("UNAVAILABLE");
    }
    gateway.storage.failure = undefined;
    expect(await lines(await ask("", NDJSON))).toHaveLength(3);
  });
});

describe("a malformed scan", () => {
  const long = "k".repeat(KEY_SIZE_BYTES_MAX + 1);

  it.each<[string, RegExp]>([
    ["limit=0", /limit must be/],
    [`limit=${SCAN_LIMIT_MAX + 1}`, /limit must be/],
    ["limit=99999999999999999999", /limit must be/],
    ["limit=-1", /limit must be/],
    ["limit=1.5", /limit must be/],
    ["limit=1e2", /limit must be/],
    ["limit=", /limit must be/],
    ["reverse=yes", /reverse must be/],
    ["keys_only=2", /keys_only must be/],
    ["count_only=TRUE", /count_only must be/],
    ["prefix=a&prefix64=YQ", /not both/],
    ["start=a&start64=YQ", /not both/],
    ["end=a&end64=YQ", /not both/],
    ["prefix64=a%2Bb", /prefix64 must be base64url/],
    ["start64=_x", /start64 must be base64url/],
    ["end64==", /end64 must be base64url/],
    ["prefix=a&prefix=b", /twice/],
    ["prefix=%ff", /not UTF-8/],
    ["prefx=a", /unknown query parameter "prefx"/],
    ["count_only&limit=5", /limit does not go/],
    ["count_only&cursor=x", /cursor does not go/],
    ["count_only&reverse", /reverse does not go/],
    ["count_only&keys_only", /keys_only does not go/],
    ["consistency=fast", /consistency/],
    ["max_staleness=5s", /max_staleness needs/],
    ["cursor=", /the cursor/],
    ["cursor=x", /the cursor/],
    ["cursor=AQ", /the cursor/],
    ["cursor=%00", /the cursor/],
    [`cursor=${"A".repeat(2_000)}`, /the cursor/],
  ])("?%s is refused", async (query, detail) => {
    expect(await refusal(await ask(query), "INVALID_ARGUMENT")).toMatch(detail);
  });

  it.each(["prefix", "start", "end"])("%s beyond the longest key is refused", async (name) => {
    expect(await refusal(await ask(`${name}=${long}`), "KEY_TOO_LONG")).toContain(name);
  });

  it("a stream with a limit is refused", async () => {
    expect(await refusal(await ask("limit=5", NDJSON), "INVALID_ARGUMENT")).toMatch(/limit/);
  });

  it("a cursor of another query is refused, however it differs", async () => {
    await store("a1", "a2", "a3");
    const { cursor } = await page("prefix=a&limit=1");
    gateway.storage.queries.length = 0;
    for (const query of [
      ...["", "prefix=a1", "prefix=a&reverse", "prefix=a&end=a9", "start=a", "prefix=a&start=a0"],
    ]) {
      const response = await ask(`${query}&cursor=${cursor}`);
      expect(await refusal(response, "INVALID_ARGUMENT")).toMatch(/another query/);
    }
    // What does not choose keys may change.
    for (const query of [
      "prefix=a&limit=9",
      "prefix=a&keys_only",
      "prefix64=YQ",
      "prefix=a&end=b",
    ]) {
      expect(keysOf(await page(`${query}&cursor=${cursor}`))).toEqual(["a2", "a3"]);
    }
  });

  it("a cursor that was changed anywhere is refused", async () => {
    await store("a1", "a2", "a3");
    const { cursor } = await page("limit=1");
    const bytes = Buffer.from(cursor!, "base64url");
    gateway.storage.queries.length = 0;
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      await refusal(await ask(`cursor=${changed.toString("base64url")}`), "INVALID_ARGUMENT");
      const cut = bytes.subarray(0, at).toString("base64url");
      await refusal(await ask(`cursor=${cut}`), "INVALID_ARGUMENT");
    }
    await refusal(await ask(`cursor=${cursor}A`), "INVALID_ARGUMENT");
  });

  it("other methods on /range are refused", async () => {
    for (const method of ["PUT", "POST", "HEAD"]) {
      const response = await gateway.app.request("/range", { method });
      expect([response.status, response.headers.get("allow")]).toEqual([405, "GET"]);
    }
  });
});
