/** Whatever changes something refuses headers that it does not heed: asked of each operation of the OpenAPI document. */
import { describe, expect, it } from "vitest";
import { openApiDocument } from "#gateway/info/openapi.ts";
import { problemOf, testGateway } from "#gateway/testing/gateway.ts";

const { paths } = openApiDocument("1.2.3", testGateway().app.gateway.routes);
const operations = Object.entries(paths)
  .filter(([path]) => /^\/(admin|v1\/(auth|watch))\//.test(path))
  .flatMap(([path, item]) =>
    ["get", "put", "post", "delete"]
      .filter((method) => method in item)
      .map((method) => [method.toUpperCase(), path.replace(/\{\w+\}/g, "1")] as const),
  );
const writes = operations.filter(([method]) => method !== "GET");

const UNHEEDED = {
  "Idempotency-Key": '"a"',
  "If-Match": '"1"',
  "If-None-Match": "*",
  "If-Unmodified-Since": "Fri, 27 Nov 2026 00:00:00 GMT",
} as const;

describe("a header that is not heeded", () => {
  it.each(writes)("is refused by %s %s, which changes nothing", async (method, path) => {
    const gateway = testGateway();
    const before = gateway.directory.list("");
    for (const [name, value] of Object.entries(UNHEEDED)) {
      const response = await gateway.app.request(path, {
        method,
        headers: { [name]: value, "Content-Type": "application/json" },
        ...(method === "DELETE" ? {} : { body: "{}" }),
      });
      expect(await problemOf(response)).toMatchObject({
        ...{ status: 400, code: "INVALID_ARGUMENT", outcome: "not_applied" },
        detail: expect.stringContaining(`${name} is not supported`),
      });
    }
    expect(gateway.directory.list("")).toEqual(before);
    expect(gateway.cluster.changes).toEqual([]);
  });

  it("is refused by all of them, and disturbs no read", async () => {
    expect(writes.length).toBeGreaterThan(15);
    const headers = UNHEEDED;
    const response = await testGateway().app.request("/admin/tenants", { headers });
    expect(response.status).toBe(200);
  });
});
