import { beforeEach, describe, expect, it } from "vitest";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { KvError } from "#shared/errors.ts";
import { DEADLINE_MS_DEFAULT } from "#shared/limits.ts";

let gateway: TestGateway;
beforeEach(async () => {
  gateway = testGateway();
  await gateway.app.request("/v1/kv/a", {
    method: "PUT",
    body: "0123456789",
    headers: { "Content-Type": "text/html" },
  });
});

type Headers = Record<string, string>;
const get = (target: string, headers: Headers = {}) => gateway.app.request(target, { headers });
const head = (target: string, headers: Headers = {}) =>
  gateway.app.request(target, { method: "HEAD", headers });
const lastOptions = () => gateway.storage.calls.at(-1)!.options;

describe("GET /v1/kv/{key}", () => {
  it("answers the value with its metadata, safe for browsers", async () => {
    const response = await get("/v1/kv/a");
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("0123456789");
    expect(Object.fromEntries(response.headers)).toEqual({
      "accept-ranges": "bytes",
      "cache-control": "no-cache",
      "content-length": "10",
      "content-type": "text/html",
      etag: '"1"',
      "last-modified": new Date(gateway.clock.nowMs()).toUTCString(),
      "minikv-revision": "1",
      "x-request-id": expect.stringMatching(/./),
    });
  });

  it("answers 404 for an absent key, without an outcome", async () => {
    const response = await get("/v1/kv/nothing", { "If-Match": '"1"' });
    expect(response.status).toBe(404);
    const problem = await problemOf(response);
    expect(problem.code).toBe("KEY_NOT_FOUND");
    expect(problem).not.toHaveProperty("outcome");
  });

  it("answers 304 with the validators and no body when the client has the value", async () => {
    const response = await get("/v1/kv/a", { "If-None-Match": '"0", W/"1"' });
    expect(response.status).toBe(304);
    expect(response.headers.get("etag")).toBe('"1"');
    expect(response.headers.get("cache-control")).toBe("no-cache");
    expect(response.headers.has("content-length")).toBe(false);
    expect((await get("/v1/kv/a", { "If-None-Match": '"2"' })).status).toBe(200);
  });

  it("answers 412 with the current ETag when If-Match fails", async () => {
    const response = await get("/v1/kv/a", { "If-Match": '"2"' });
    expect(response.status).toBe(412);
    expect(response.headers.get("etag")).toBe('"1"');
    expect((await get("/v1/kv/a", { "If-Match": '"1"' })).status).toBe(200);
  });

  it("ignores If-Modified-Since", async () => {
    const since = new Date(gateway.clock.nowMs() + 1000).toUTCString();
    expect((await get("/v1/kv/a", { "If-Modified-Since": since })).status).toBe(200);
  });

  it.each([
    ["0s", "bytes=0-3", 206, "bytes 0-3/10", "0123"],
    ["a tail", "bytes=8-", 206, "bytes 8-9/10", "89"],
    ["a suffix", "bytes=-2", 206, "bytes 8-9/10", "89"],
    ["all", "bytes=0-999", 206, "bytes 0-9/10", "0123456789"],
    ["two ranges", "bytes=0-1,4-5", 200, null, "0123456789"],
    ["another unit", "lines=1-2", 200, null, "0123456789"],
  ])("serves %s of a range request", async (_, range, status, contentRange, body) => {
    const response = await get("/v1/kv/a", { Range: range });
    expect(response.status).toBe(status);
    expect(response.headers.get("content-range")).toBe(contentRange);
    expect(response.headers.get("content-length")).toBe(String(body.length));
    expect(await response.text()).toBe(body);
  });

  it("answers 416 with the size when the range lies outside", async () => {
    const response = await get("/v1/kv/a", { Range: "bytes=10-" });
    expect(response.status).toBe(416);
    expect(response.headers.get("content-range")).toBe("bytes */10");
    expect((await problemOf(response)).code).toBe("RANGE_NOT_SATISFIABLE");
  });

  it("serves the whole value when If-Range names another revision", async () => {
    const range = { Range: "bytes=0-1" };
    expect((await get("/v1/kv/a", { ...range, "If-Range": '"1"' })).status).toBe(206);
    expect((await get("/v1/kv/a", { ...range, "If-Range": '"2"' })).status).toBe(200);
    expect((await get("/v1/kv/a", { ...range, "If-None-Match": '"1"' })).status).toBe(304);
  });
});

describe("HEAD /v1/kv/{key}", () => {
  it("answers the headers of GET from metadata alone, and no body", async () => {
    const response = await head("/v1/kv/a", { Range: "bytes=0-1" });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-length")).toBe("10");
    expect(response.headers.get("etag")).toBe('"1"');
    expect(await response.text()).toBe("");
    expect(lastOptions()).toMatchObject({ metadataOnly: true });
  });

  it("has the statuses of GET", async () => {
    expect((await head("/v1/kv/none")).status).toBe(404);
    expect((await head("/v1/kv/a", { "If-None-Match": '"1"' })).status).toBe(304);
    expect((await head("/v1/kv/a", { "If-Match": '"2"' })).status).toBe(412);
    expect((await head("/v1/kv/")).status).toBe(400);
    expect(await (await head("/v1/kv/none")).text()).toBe("");
  });
});

describe("consistency of reads", () => {
  it.each([
    ["", 0],
    ["?consistency=linearizable", 0],
    ["?consistency=stale", 5_000],
    ["?consistency=stale&max_staleness=250ms", 250],
    ["?max_staleness=1h&consistency=stale", 3_600_000],
  ])("%j allows %i ms", async (query, maxStalenessMs) => {
    expect((await get(`/v1/kv/a${query}`)).status).toBe(200);
    expect(lastOptions()).toMatchObject({ maxStalenessMs });
  });

  it.each([
    "?consistency=",
    "?consistency=eventual",
    "?max_staleness=5s",
    "?consistency=linearizable&max_staleness=5s",
    "?consistency=stale&max_staleness=5",
    "?consistency=stale&max_staleness=0s",
    "?consistency=stale&max_staleness=2h",
    "?ttl=5",
  ])("refuses %s", async (query) => {
    const response = await get(`/v1/kv/a${query}`);
    expect(response.status).toBe(400);
    expect((await problemOf(response)).code).toBe("INVALID_ARGUMENT");
  });
});

describe("calls to storage", () => {
  it("have the default deadline, or the one of Minikv-Timeout", async () => {
    await get("/v1/kv/a");
    expect(lastOptions().deadlineMs).toBe(gateway.clock.nowMs() + DEADLINE_MS_DEFAULT);
    await get("/v1/kv/a", { "Minikv-Timeout": "250ms" });
    expect(lastOptions().deadlineMs).toBe(gateway.clock.nowMs() + 250);
    expect((await get("/v1/kv/a", { "Minikv-Timeout": "61s" })).status).toBe(400);
  });

  it("carry a trace with traces on only, whatever clients ask for", async () => {
    const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    await get("/v1/kv/a", { traceparent });
    expect(lastOptions()).not.toHaveProperty("trace");
  });

  it.each([
    [new KvError("NOT_LEADER", "x"), 503],
    [new KvError("OVERLOADED", "x"), 503],
    [new KvError("DEADLINE_EXCEEDED", "x"), 504],
    [new KvError("CANCELLED", "x"), 499],
    [new KvError("DATA_CORRUPT", "/data/secret"), 500],
    [new Error("secret"), 500],
  ])("that fail with %s become a problem without an outcome", async (failure, status) => {
    gateway.storage.failure = failure;
    const response = await get("/v1/kv/a");
    expect(response.status).toBe(status);
    const text = await response.text();
    expect(JSON.parse(text)).not.toHaveProperty("outcome");
    expect(text).not.toContain("secret");
    expect(gateway.failures).toHaveLength(status === 500 ? 1 : 0);
  });
});
