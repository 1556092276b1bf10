import { beforeEach, describe, expect, it } from "vitest";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { KvError } from "#shared/errors.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

type Headers = Record<string, string>;
const request = (target: string, init: RequestInit = {}) => gateway.app.request(target, init);
const put = (target: string, body: RequestInit["body"] = "v", headers: Headers = {}) =>
  request(target, { method: "PUT", body: body ?? null, headers });
const del = (target: string, headers: Headers = {}) =>
  request(target, { method: "DELETE", headers });

async function expectRefusal(response: Response, status: number, code: string) {
  expect(response.status).toBe(status);
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const problem = await problemOf(response);
  expect(problem).toMatchObject({ code, status, outcome: "not_applied" });
  return problem;
}

describe("PUT /v1/kv/{key}", () => {
  it("creates with 201 and replaces with 200, each with key, revision and ETag", async () => {
    const created = await put("/v1/kv/a%2Fb");
    expect(created.status).toBe(201);
    expect(created.headers.get("etag")).toBe('"1"');
    expect(created.headers.get("content-type")).toBe("application/json");
    expect(await created.json()).toEqual({ key: "a/b", revision: 1, created: true });
    const replaced = await put("/v1/kv/a/b");
    expect(replaced.status).toBe(200);
    expect(replaced.headers.get("etag")).toBe('"2"');
    expect(await replaced.json()).toEqual({ key: "a/b", revision: 2, created: false });
  });

  it("shows a key that is not UTF-8 as key64", async () => {
    const response = await put("/v1/kv/%ff%00");
    expect(await response.json()).toEqual({ key64: "_wA", revision: 1, created: true });
    expect((await request("/v1/kv?key64=_wA")).status).toBe(200);
  });

  it("stores any bytes and the empty value unchanged", async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await put("/v1/kv/bytes", bytes);
    await put("/v1/kv/empty", null);
    expect([...(await (await request("/v1/kv/bytes")).bytes())]).toEqual([...bytes]);
    const empty = await request("/v1/kv/empty");
    expect(empty.status).toBe(200);
    expect(empty.headers.get("content-length")).toBe("0");
  });

  it("keeps the content type as given, and has a default", async () => {
    await put("/v1/kv/a", "{}", { "Content-Type": 'Text/X; q="A b"' });
    await put("/v1/kv/b", new Uint8Array(1));
    expect((await request("/v1/kv/a")).headers.get("content-type")).toBe('Text/X; q="A b"');
    expect((await request("/v1/kv/b")).headers.get("content-type")).toBe(
      "application/octet-stream",
    );
  });

  it("refuses a content type of more than 256 bytes or not ASCII", async () => {
    await put("/v1/kv/a", "v", { "Content-Type": "x".repeat(256) });
    const long = await put("/v1/kv/a", "v", { "Content-Type": "x".repeat(257) });
    expect(await expectRefusal(long, 400, "INVALID_ARGUMENT")).toMatchObject({
      limit: 256,
      actual: 257,
    });
    const accented = await put("/v1/kv/a", "v", { "Content-Type": "té" });
    await expectRefusal(accented, 400, "INVALID_ARGUMENT");
  });

  it("takes a value of the largest size and refuses one byte more", async () => {
    expect((await put("/v1/kv/a", new Uint8Array(VALUE_SIZE_BYTES_MAX))).status).toBe(201);
    const over = VALUE_SIZE_BYTES_MAX + 1;
    const response = await put("/v1/kv/b", "v", { "Content-Length": String(over) });
    const problem = await expectRefusal(response, 413, "PAYLOAD_TOO_LARGE");
    expect(problem).toMatchObject({ limit: VALUE_SIZE_BYTES_MAX, actual: over });
    expect(gateway.storage.size).toBe(1);
  });

  it("refuses a body of unknown length as soon as it is too large", async () => {
    let chunks = 0;
    const endless = new ReadableStream({
      pull: (controller) => {
        chunks++;
        controller.enqueue(new Uint8Array(256 * 1024));
      },
    });
    const response = await request("/v1/kv/a", {
      method: "PUT",
      body: endless,
      duplex: "half",
    } as RequestInit);
    await expectRefusal(response, 413, "PAYLOAD_TOO_LARGE");
    expect(chunks).toBeLessThan(10);
    expect(gateway.storage.calls).toEqual([]);
  });

  it("refuses a body that is not as long as Content-Length says", async () => {
    const response = await put("/v1/kv/a", "four", { "Content-Length": "5" });
    await expectRefusal(response, 400, "INVALID_ARGUMENT");
    expect(gateway.storage.size).toBe(0);
  });

  it("refuses more body bytes than the gateway may hold, and takes them again later", async () => {
    gateway = testGateway({ limits: { bodyBytesInFlightMax: 10 } });
    let open = (): void => undefined;
    gateway.storage.gate = new Promise((resolve) => {
      open = resolve;
    });
    const held = put("/v1/kv/a", "12345678");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const refused = await put("/v1/kv/b", "123");
    expect(refused.headers.get("retry-after")).toBe("1");
    await expectRefusal(refused, 503, "OVERLOADED");
    open();
    expect((await held).status).toBe(201);
    expect((await put("/v1/kv/b", "123")).status).toBe(201);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it.each(["gzip", "br", "identity, gzip", "aws-chunked"])(
    "refuses Content-Encoding: %s",
    async (encoding) => {
      const response = await put("/v1/kv/a", "v", { "Content-Encoding": encoding });
      expect(response.headers.get("accept-encoding")).toBe("identity");
      await expectRefusal(response, 415, "UNSUPPORTED_MEDIA_TYPE");
    },
  );

  it("takes Content-Encoding: identity and refuses Content-Range", async () => {
    expect((await put("/v1/kv/a", "v", { "Content-Encoding": "Identity" })).status).toBe(201);
    const partial = await put("/v1/kv/a", "v", { "Content-Range": "bytes 0-0/5" });
    await expectRefusal(partial, 400, "INVALID_ARGUMENT");
  });
});

describe("TTL", () => {
  it.each([
    ["Minikv-TTL", "/v1/kv/a", { "Minikv-TTL": "60" }],
    ["X-Minikv-TTL", "/v1/kv/a", { "X-Minikv-TTL": "60" }],
    ["?ttl=", "/v1/kv/a?ttl=60", {}],
    ["all three", "/v1/kv/a?ttl=60", { "Minikv-TTL": "60", "X-Minikv-TTL": "060" }],
  ])("is taken from %s, shown, and ends the value", async (_, target, headers) => {
    await put(target, "v", headers as Headers);
    const alive = await request("/v1/kv/a");
    const expected = new Date(gateway.clock.nowMs() + 60_000).toISOString();
    expect(alive.headers.get("minikv-expires-at")).toBe(expected);
    gateway.clock.advance(60_000);
    expect((await request("/v1/kv/a")).status).toBe(404);
  });

  it("does not outlive a PUT without it", async () => {
    await put("/v1/kv/a?ttl=60");
    await put("/v1/kv/a");
    gateway.clock.advance(60_000);
    const response = await request("/v1/kv/a");
    expect(response.status).toBe(200);
    expect(response.headers.has("minikv-expires-at")).toBe(false);
  });

  it.each(["0", "-1", "1.5", "1e3", "5s", "", " ", "0x10", "99999999999999", "3153600001"])(
    "refuses %j",
    async (ttl) => {
      const inHeader = await put("/v1/kv/a", "v", { "Minikv-TTL": ttl });
      await expectRefusal(inHeader, 400, "INVALID_ARGUMENT");
      const inQuery = await put(`/v1/kv/a?ttl=${encodeURIComponent(ttl)}`);
      await expectRefusal(inQuery, 400, "INVALID_ARGUMENT");
    },
  );

  it("refuses values that contradict each other, and a misspelt parameter", async () => {
    await expectRefusal(
      await put("/v1/kv/a?ttl=5", "v", { "Minikv-TTL": "6" }),
      400,
      "INVALID_ARGUMENT",
    );
    const misspelt = await expectRefusal(await put("/v1/kv/a?tll=5"), 400, "INVALID_ARGUMENT");
    expect(misspelt.detail).toContain("did you mean ttl?");
  });
});

describe("conditions of writes", () => {
  it("create only: If-None-Match: *", async () => {
    expect((await put("/v1/kv/a", "1", { "If-None-Match": "*" })).status).toBe(201);
    const again = await put("/v1/kv/a", "2", { "If-None-Match": "*" });
    expect(again.headers.get("etag")).toBe('"1"');
    await expectRefusal(again, 412, "CONDITION_FAILED");
    expect(await (await request("/v1/kv/a")).text()).toBe("1");
  });

  it("compare and swap: If-Match with tags", async () => {
    await put("/v1/kv/a");
    expect((await put("/v1/kv/a", "2", { "If-Match": '"1"' })).status).toBe(200);
    const stale = await put("/v1/kv/a", "3", { "If-Match": '"1"' });
    expect(stale.headers.get("etag")).toBe('"2"');
    await expectRefusal(stale, 412, "CONDITION_FAILED");
    expect((await put("/v1/kv/a", "3", { "If-Match": '"1", "2"' })).status).toBe(200);
    await expectRefusal(
      await put("/v1/kv/a", "4", { "If-Match": 'W/"3"' }),
      412,
      "CONDITION_FAILED",
    );
    expect(await (await request("/v1/kv/a")).text()).toBe("3");
  });

  it("update only: If-Match: *, without an ETag when the key is absent", async () => {
    const absent = await put("/v1/kv/a", "1", { "If-Match": "*" });
    expect(absent.headers.has("etag")).toBe(false);
    await expectRefusal(absent, 412, "CONDITION_FAILED");
    await put("/v1/kv/a");
    expect((await put("/v1/kv/a", "1", { "If-Match": "*" })).status).toBe(200);
  });

  it("refuses what it cannot read before it touches storage", async () => {
    for (const headers of [{ "If-Match": "1" }, { "If-None-Match": '"1' }]) {
      await expectRefusal(await put("/v1/kv/a", "v", headers), 400, "INVALID_ARGUMENT");
      await expectRefusal(await del("/v1/kv/a", headers), 400, "INVALID_ARGUMENT");
    }
    expect(gateway.storage.calls).toEqual([]);
  });
});

describe("DELETE /v1/kv/{key}", () => {
  it("answers 204 once and 404 from then on", async () => {
    await put("/v1/kv/a");
    const deleted = await del("/v1/kv/a");
    expect(deleted.status).toBe(204);
    expect(await deleted.text()).toBe("");
    await expectRefusal(await del("/v1/kv/a"), 404, "KEY_NOT_FOUND");
  });

  it("deletes only what If-Match names", async () => {
    await put("/v1/kv/a");
    const failed = await del("/v1/kv/a", { "If-Match": '"9"' });
    expect(failed.headers.get("etag")).toBe('"1"');
    await expectRefusal(failed, 412, "CONDITION_FAILED");
    expect((await del("/v1/kv/a", { "If-Match": '"1"' })).status).toBe(204);
  });

  it("takes no parameters but key64", async () => {
    await put("/v1/kv/a");
    await expectRefusal(await del("/v1/kv/a?ttl=5"), 400, "INVALID_ARGUMENT");
    expect((await del("/v1/kv?key64=YQ")).status).toBe(204);
  });
});

describe("failures of writes", () => {
  it.each([
    [new KvError("NOT_LEADER", "x", { outcome: "not_applied" }), 503, "not_applied"],
    [new KvError("UNAVAILABLE", "x"), 503, "unknown"],
    [new KvError("DEADLINE_EXCEEDED", "x", { outcome: "unknown" }), 504, "unknown"],
    [new KvError("STORAGE_FULL", "x", { outcome: "not_applied" }), 507, "not_applied"],
    [new TypeError("secret"), 500, "unknown"],
  ])("%s gives status and outcome", async (failure, status, outcome) => {
    gateway.storage.failure = failure;
    for (const response of [await put("/v1/kv/a"), await del("/v1/kv/a")]) {
      expect(response.status).toBe(status);
      const text = await response.text();
      expect(JSON.parse(text)).toMatchObject({ status, outcome });
      expect(text).not.toContain("secret");
      expect(response.headers.has("retry-after")).toBe(status === 503);
    }
    expect(gateway.failures).toHaveLength(status === 500 ? 2 : 0);
  });
});
