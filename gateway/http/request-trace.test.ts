/** Which requests are traced, and what their spans say. */
import { describe, expect, it } from "vitest";
import { testGateway } from "#gateway/testing/gateway.ts";
import { KvError } from "#shared/errors.ts";
import { MemoryTracing } from "#shared/testing/memory-tracing.ts";
import { noTracing, spanIdOf, traceFields, traceIdOf } from "#shared/tracing.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";
const traceparent = `00-${TRACE}-${PARENT}-01`;

function gatewayWith(tracing: MemoryTracing) {
  const gateway = testGateway({ tracing });
  const request = (target: string, init: RequestInit = {}) => gateway.app.request(target, init);
  return { ...gateway, request, tracing };
}

describe("traced requests", () => {
  it("have a server span with the attributes of the conventions, and nothing of the key", async () => {
    const { request, tracing } = gatewayWith(new MemoryTracing());
    const headers = { "X-Request-ID": "r-1", Host: "kv.example:8443" };
    await request("/v1/kv/sesame?ttl=60", { method: "PUT", body: "open", headers });
    expect(tracing.spans).toEqual([
      {
        ...{ name: "PUT /v1/kv/{key}", kind: "server", parent: undefined, error: undefined },
        ...{ context: expect.any(Uint8Array), startMs: 0, endMs: 0 },
        attributes: {
          "http.request.method": "PUT",
          "http.route": "/v1/kv/{key}",
          "http.response.status_code": 201,
          "url.scheme": "http",
          "minikv.request_id": "r-1",
          "minikv.tenant.id": 1,
          "server.address": "kv.example",
          "server.port": 8443,
        },
      },
    ]);
    expect(JSON.stringify(tracing.spans)).not.toMatch(/sesame|open|ttl/);
  });

  it("go on with the client's trace, and pass it to storage", async () => {
    const { request, tracing, storage } = gatewayWith(new MemoryTracing(0));
    await request("/v1/kv/a", { headers: { traceparent } });
    const [span] = tracing.spans;
    expect(traceIdOf(span!.context)).toBe(TRACE);
    expect(spanIdOf(span!.parent!)).toBe(PARENT);
    expect(spanIdOf(span!.context)).not.toBe(PARENT);
    expect(storage.calls.at(-1)!.options.trace?.context).toEqual(span!.context);
  });

  it.each([
    ["no traceparent", {}],
    ["one that is not valid", { traceparent: "nonsense" }],
    ["one that is not sampled", { traceparent: `00-${TRACE}-${PARENT}-00` }],
  ])("are none at ratio 0 with %s", async (_, headers: Record<string, string>) => {
    const { request, tracing, storage } = gatewayWith(new MemoryTracing(0));
    await request("/v1/kv/a", { headers });
    expect(tracing.spans).toEqual([]);
    expect(storage.calls.at(-1)!.options).not.toHaveProperty("trace");
  });

  it.each([
    ["/v1/kv?limit=1", "GET", "GET /v1/kv"],
    ["/v1/kv?key64=YQ", "GET", "GET /v1/kv/{key}"],
    ["/range?prefix=a", "GET", "GET /range"],
    ["/v1/batch", "POST", "POST /v1/batch"],
    ["/admin/keys/k-1", "GET", "GET /admin/keys/{id}"],
    ["/v1/limits", "GET", "GET /v1/limits"],
    ["/v1/kv/a", "BREW", "HTTP /v1/kv/{key}"],
  ])("%s by %s is %s", async (target, method, name) => {
    const { request, tracing } = gatewayWith(new MemoryTracing());
    await request(target, { method });
    expect(tracing.names).toEqual([name]);
  });

  it("fail with a failure of the server, not with a mistake of the client", async () => {
    const { request, tracing, storage, failures } = gatewayWith(new MemoryTracing());
    await request("/v1/kv/nothing");
    storage.failure = new KvError("DATA_CORRUPT", "x");
    await request("/v1/kv/a");
    const [missing, failed] = tracing.spans;
    expect(missing).toMatchObject({ error: undefined });
    expect(missing!.attributes).toMatchObject({ "http.response.status_code": 404 });
    expect(failed).toMatchObject({ error: "500" });
    expect(traceFields(failures[0]!.trace?.context)).toEqual({
      trace_id: traceIdOf(failed!.context),
      span_id: spanIdOf(failed!.context),
    });
  });

  it("are none with traces off: the handler is the same", async () => {
    const { app, storage } = testGateway({ tracing: noTracing });
    await app.request("/v1/kv/a", { headers: { traceparent } });
    expect(storage.calls.at(-1)!.options).not.toHaveProperty("trace");
  });
});
