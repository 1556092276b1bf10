import { beforeEach, describe, expect, it } from "vitest";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { ERRORS } from "#shared/errors.ts";
import { LIMITS, type ServicePhase } from "./info/routes.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

const request = (target: string, init: RequestInit = {}) => gateway.app.request(target, init);

describe("createApp()", () => {
  it("echoes an accepted X-Request-ID everywhere and makes one otherwise", async () => {
    for (const target of ["/", "/v1/kv/none", "/nowhere", "/health/live", "/v1/limits"]) {
      const kept = await request(target, { headers: { "X-Request-ID": "abc-1" } });
      expect(kept.headers.get("x-request-id")).toBe("abc-1");
      const made = await request(target, { headers: { "X-Request-ID": "not ok" } });
      expect(made.headers.get("x-request-id")).toMatch(/^[0-9a-f]{16}-[0-9a-z]+$/);
    }
  });

  it.each(["/nowhere", "/v1", "/v1/kvs", "/errors", "/health", "/v1/k%76/x", "/V1/kv/a"])(
    "answers 404 at %s",
    async (target) => {
      const response = await request(target);
      expect(response.status).toBe(404);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      const problem = await problemOf(response);
      expect(problem.code).toBe("ROUTE_NOT_FOUND");
      expect(problem.request_id).toBe(response.headers.get("x-request-id"));
    },
  );

  it("cancels the call to storage when a Fetch request is aborted", async () => {
    const gate = Promise.withResolvers<void>();
    gateway.storage.gate = gate.promise;
    const abort = new AbortController();
    const answered = request("/v1/kv/a", { signal: abort.signal });
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const { cancellation } = gateway.storage.calls[0]!.options;
    expect(cancellation?.isCancelled).toBe(false);
    abort.abort();
    expect(cancellation?.isCancelled).toBe(true);
    gate.resolve();
    await answered;
  });

  it("says not_applied when a write finds no route", async () => {
    const problem = await problemOf(await request("/nowhere", { method: "PUT", body: "v" }));
    expect(problem.outcome).toBe("not_applied");
  });

  it.each([
    ["/v1/kv/a", "POST", "GET, HEAD, PUT, DELETE"],
    ["/v1/kv/a", "OPTIONS", "GET, HEAD, PUT, DELETE"],
    ["/v1/kv", "PATCH", "GET, HEAD, PUT, DELETE"],
    ["/v1/limits", "PUT", "GET, HEAD"],
    ["/health/live", "POST", "GET, HEAD"],
    ["/", "DELETE", "GET, HEAD"],
  ])("answers 405 at %s to %s", async (target, method, allow) => {
    const response = await request(target, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe(allow);
    expect(await problemOf(response)).toMatchObject({
      code: "METHOD_NOT_ALLOWED",
      outcome: "not_applied",
    });
  });

  it("hides what a route throws and reports it", async () => {
    gateway.storage.readiness = () => {
      throw new Error("secret");
    };
    const response = await request("/health/ready");
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
    expect(gateway.failures).toHaveLength(1);
  });
});

describe("information routes", () => {
  it("point a newcomer to links that exist", async () => {
    const pointer = (await (await request("/")).json()) as { links: Record<string, string> };
    expect(pointer).toMatchObject({ name: "minikv", version: "1.2.3" });
    for (const link of Object.values(pointer.links)) {
      const response = await request(link.replace("{key}", "none"));
      expect(response.status).toBe(link.includes("{key}") ? 404 : 200);
    }
  });

  it("show the limits", async () => {
    const response = await request("/v1/limits");
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.json()).toEqual(LIMITS);
    expect(LIMITS).toMatchObject({
      key_size_bytes_max: 1024,
      value_size_bytes_max: 1024 * 1024,
      ttl_seconds_max: 3_153_600_000,
    });
  });

  it.each(Object.entries(ERRORS))("explain %s where problems point to", async (code, row) => {
    const response = await request(`/errors/${code}`);
    expect(await response.json()).toEqual({
      code,
      status: row.http,
      title: row.title,
      retryable: row.retryable,
      meaning: row.meaning,
      remedy: row.remedy,
    });
  });

  it.each(["NOPE", "toString", "__proto__", "key_not_found"])(
    "know no error code %s",
    async (code) => {
      expect((await request(`/errors/${code}`)).status).toBe(404);
    },
  );
});

describe("health", () => {
  const statuses = async () =>
    Promise.all(
      ["live", "startup", "ready"].map(async (name) => (await request(`/health/${name}`)).status),
    );

  it("follows the phase of the process", async () => {
    let phase: ServicePhase = "starting";
    gateway = testGateway({ phase: () => phase });
    expect(await statuses()).toEqual([200, 503, 503]);
    phase = "serving";
    expect(await statuses()).toEqual([200, 200, 200]);
    phase = "stopping";
    expect(await statuses()).toEqual([200, 200, 503]);
  });

  it("is unready with storage's reason while that cannot serve", async () => {
    gateway.storage.ready = { ready: false, reason: "no storage node is connected" };
    const response = await request("/health/ready");
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await problemOf(response)).toMatchObject({
      code: "UNAVAILABLE",
      detail: "no storage node is connected",
    });
  });

  it("answers HEAD without a body", async () => {
    const response = await request("/health/ready", { method: "HEAD" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("");
  });
});
