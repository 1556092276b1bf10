/** What only a socket shows: raw paths, framing, Expect, pipelining, bodies as they arrive. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HTTP_PIPELINED_REQUESTS_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { type HttpServer, type HttpServerLimits, startHttpServer } from "./server.ts";
import { type ProblemBody, type TestGateway, testGateway } from "./testing/gateway.ts";
import { RawClient, type RawResponse } from "./testing/raw-client.ts";

let gateway: TestGateway;
let server: HttpServer;
let clients: RawClient[] = [];

async function start(
  limits: Partial<HttpServerLimits> = {},
  app?: Parameters<typeof testGateway>[0],
): Promise<void> {
  await server?.close(0);
  gateway = testGateway(app);
  server = await startHttpServer({
    app: gateway.app,
    listen: { host: "127.0.0.1", port: 0 },
    limits: { lingerTimeoutMs: 100, ...limits },
  });
}

beforeEach(() => start());
afterEach(async () => {
  for (const client of clients) client.socket.destroy();
  clients = [];
  await server.close(0);
});

function connect(): RawClient {
  const client = new RawClient(server.address.port);
  clients.push(client);
  return client;
}

const problemIn = (response: RawResponse): ProblemBody => {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  return JSON.parse(response.body) as ProblemBody;
};

async function ask(
  method: string,
  target: string,
  headers: readonly string[] = [],
  body = "",
): Promise<RawResponse> {
  const client = connect();
  client.request(method, target, headers, body);
  return client.response(method !== "HEAD");
}

/** A gate that holds storage calls until it is opened. */
function closeGate(): () => void {
  let open = (): void => undefined;
  gateway.storage.gate = new Promise((resolve) => {
    open = resolve;
  });
  return () => open();
}

describe("raw request targets", () => {
  it.each([
    ["/v1/kv/..", ".."],
    ["/v1/kv/../limits", "../limits"],
    ["/v1/kv/a/./b/../c", "a/./b/../c"],
    ["/v1/kv/%2e%2e/x", "../x"],
    ["/v1/kv/a%2Fb", "a/b"],
    ["/v1/kv/a\\b", "a\\b"],
    ["/v1/kv/%00", "\0"],
    ["/v1/kv//", "/"],
    ["/v1/kv/{t}a|b^c`", "{t}a|b^c`"],
    ['/v1/kv/"<>', '"<>'],
    ["http://elsewhere:1/v1/kv/../abs", "../abs"],
  ])("PUT %s stores the key %j, byte for byte", async (target, key) => {
    const response = await ask("PUT", target, [], "v");
    expect(response.status).toBe(201);
    expect(JSON.parse(response.body)).toEqual({ key, revision: 1, created: true });
    expect(Buffer.from(gateway.storage.calls[0]!.key).toString()).toBe(key);
    expect((await ask("GET", target)).body).toBe("v");
  });

  it("takes bytes that are not UTF-8 when they are escaped", async () => {
    expect(JSON.parse((await ask("PUT", "/v1/kv/%ff", [], "v")).body)).toEqual({
      key64: "_w",
      revision: 1,
      created: true,
    });
    expect((await ask("GET", "/v1/kv/\xff")).status).toBe(400);
    expect((await ask("GET", "/v1/kv?key64=_w")).status).toBe(200);
  });

  it.each([
    ["/v1/kv/%", 400, "INVALID_ARGUMENT"],
    ["/v1/kv/a%zz", 400, "INVALID_ARGUMENT"],
    ["/v1/kv/", 400, "INVALID_ARGUMENT"],
    ["/v1/kv/a#b", 400, "INVALID_ARGUMENT"],
    [`/v1/kv/${"k".repeat(1025)}`, 414, "KEY_TOO_LONG"],
    [`/v1/kv/${"k".repeat(9000)}`, 414, "KEY_TOO_LONG"],
    [`/nowhere?${"k".repeat(9000)}`, 414, "KEY_TOO_LONG"],
    ["/v1/kv/a?tl=5", 400, "INVALID_ARGUMENT"],
    ["*", 400, "INVALID_ARGUMENT"],
    ["/nowhere\\x", 400, "INVALID_ARGUMENT"],
    ["/nowhere/../x", 404, "ROUTE_NOT_FOUND"],
  ])("GET %s is refused", async (target, status, code) => {
    const response = await ask("GET", target);
    expect(response.status).toBe(status);
    expect(problemIn(response).code).toBe(code);
  });

  it("serves the routes of Hono on the same connection as keys", async () => {
    const client = connect();
    for (const [target, status] of [
      ["/v1/limits", 200],
      ["/v1/kv/a", 404],
      ["/health/ready", 200],
      ["/nowhere", 404],
      ["/v1/kv/b", 404],
    ] as const) {
      client.request("GET", target, ["X-Request-ID: mine"]);
      const response = await client.response();
      expect(response.status).toBe(status);
      expect(response.headers.get("x-request-id")).toBe("mine");
    }
  });
});

describe("answers on a socket", () => {
  it("are those of app.request for the same requests", async () => {
    const requests: [string, string, Record<string, string>, string][] = [
      ["PUT", "/v1/kv/a?ttl=60", { "Content-Type": "text/x" }, "0123456789"],
      ["PUT", "/v1/kv/a", { "If-None-Match": "*" }, "x"],
      ["PUT", "/v1/kv/a", { "If-Match": "1" }, "x"],
      ["GET", "/v1/kv/a", {}, ""],
      ["HEAD", "/v1/kv/a", {}, ""],
      ["GET", "/v1/kv/a", { Range: "bytes=2-4" }, ""],
      ["GET", "/v1/kv/a", { Range: "bytes=99-" }, ""],
      ["GET", "/v1/kv/a", { "If-None-Match": '"1"' }, ""],
      ["HEAD", "/v1/kv/none", {}, ""],
      ["POST", "/v1/kv/a", {}, ""],
      ["DELETE", "/v1/kv/a", { "If-Match": '"9"' }, ""],
      ["DELETE", "/v1/kv/a", {}, ""],
      ["DELETE", "/v1/kv/a", {}, ""],
    ];
    const other = testGateway();
    const ofNode = new Set(["date", "connection", "keep-alive"]);
    for (const [method, target, headers, body] of requests) {
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
      const raw = await ask(method, target, [...lines, "X-Request-ID: r"], body);
      const direct = await other.app.request(target, {
        method,
        headers: { ...headers, "X-Request-ID": "r" },
        ...(body === "" ? {} : { body }),
      });
      expect(raw.status).toBe(direct.status);
      expect(raw.body).toBe(await direct.text());
      const rawHeaders = [...raw.headers].filter(([name]) => !ofNode.has(name));
      const common = securityHeaders(false);
      for (let at = 0; at < common.length; at += 2) {
        direct.headers.set(common[at]!, common[at + 1]!);
      }
      expect(Object.fromEntries(rawHeaders)).toEqual(Object.fromEntries(direct.headers));
    }
  });

  it("have the length but no body after HEAD, and the connection goes on", async () => {
    await ask("PUT", "/v1/kv/a", [], "12345");
    const client = connect();
    client.request("HEAD", "/v1/kv/a");
    const response = await client.response(false);
    expect(response.headers.get("content-length")).toBe("5");
    client.request("GET", "/v1/kv/a");
    expect((await client.response()).body).toBe("12345");
    expect(client.rest).toBe("");
  });

  it("become an internal error when storage gives a header that cannot be sent", async () => {
    gateway.storage.get = () =>
      Promise.resolve({
        revision: 1 as never,
        value: new Uint8Array(1),
        contentType: "a\r\nb",
        expiresAtMs: 0,
        modifiedAtMs: 0,
        valueSizeBytes: 1,
      });
    const response = await ask("GET", "/v1/kv/a");
    expect(response.status).toBe(500);
    expect(problemIn(response).code).toBe("INTERNAL");
    expect(gateway.failures).toHaveLength(1);
  });
});

describe("bodies", () => {
  it("arrive whole in any pieces, with a length or chunked", async () => {
    const body = Array.from({ length: 300 }, (_, i) => String.fromCharCode(i & 0xff)).join("");
    const withLength = connect();
    withLength.send(
      `PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    const chunked = connect();
    chunked.send("PUT /v1/kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (let at = 0; at < body.length; at += 100) {
      const piece = body.slice(at, at + 100);
      withLength.send(piece);
      chunked.send(`${piece.length.toString(16)}\r\n${piece}\r\n`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    chunked.send("0\r\n\r\n");
    expect((await withLength.response()).status).toBe(201);
    expect((await chunked.response()).status).toBe(201);
    expect((await ask("GET", "/v1/kv/a")).body).toBe(body);
    expect((await ask("GET", "/v1/kv/b")).body).toBe(body);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it("of one-byte chunks are put together", async () => {
    const client = connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(`${"1\r\nx\r\n".repeat(20_000)}0\r\n\r\n`);
    expect((await client.response()).status).toBe(201);
    expect((await ask("GET", "/v1/kv/a")).body).toBe("x".repeat(20_000));
  });

  it("that are absent, empty or of the largest size are values", async () => {
    expect((await ask("PUT", "/v1/kv/a")).status).toBe(201);
    expect((await ask("PUT", "/v1/kv/b", ["Content-Length: 0"])).status).toBe(201);
    const large = "x".repeat(VALUE_SIZE_BYTES_MAX);
    expect((await ask("PUT", "/v1/kv/c", [], large)).status).toBe(201);
    expect((await ask("GET", "/v1/kv/c")).body).toBe(large);
  });

  it("announced too large are refused before they are sent", async () => {
    const client = connect();
    const actual = VALUE_SIZE_BYTES_MAX + 1;
    client.send(`PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${actual}\r\n\r\n`);
    const response = await client.response();
    expect(response.status).toBe(413);
    expect(response.headers.get("connection")).toBe("close");
    expect(problemIn(response)).toMatchObject({
      code: "PAYLOAD_TOO_LARGE",
      outcome: "not_applied",
      limit: VALUE_SIZE_BYTES_MAX,
      actual,
    });
    await client.closed;
  });

  it("too large reach a client that only reads after it has sent all", async () => {
    const client = connect();
    client.socket.pause();
    client.request("PUT", "/v1/kv/a", [], "x".repeat(3 * VALUE_SIZE_BYTES_MAX));
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.socket.resume();
    expect((await client.response()).status).toBe(413);
    await client.closed;
  });

  it("chunked are refused as soon as they are too large, and nothing is stored", async () => {
    const client = connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    const piece = "x".repeat(0x10000);
    for (let i = 0; i < 17; i++) client.send(`10000\r\n${piece}\r\n`);
    const response = await client.response();
    expect(response.status).toBe(413);
    expect(problemIn(response)).toMatchObject({ outcome: "not_applied" });
    await client.closed;
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it("beyond what the gateway may hold are refused with Retry-After", async () => {
    await start({}, { limits: { bodyBytesInFlightMax: 1000 } });
    const announced = await ask("PUT", "/v1/kv/a", [], "x".repeat(1001));
    expect(announced.status).toBe(503);
    expect(announced.headers.get("retry-after")).toBe("1");
    const client = connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(`3e9\r\n${"x".repeat(1001)}\r\n`);
    expect(problemIn(await client.response()).code).toBe("OVERLOADED");
    expect((await ask("PUT", "/v1/kv/a", [], "x".repeat(1000))).status).toBe(201);
  });

  it("of refused requests are skipped, and the connection goes on", async () => {
    const client = connect();
    client.request("PUT", "/v1/kv/a?ttl=0", [], "body");
    client.request("GET", "/v1/kv/a", [], "ignored");
    expect((await client.response()).status).toBe(400);
    expect((await client.response()).status).toBe(404);
  });

  it("that are cut off store nothing and free what they held", async () => {
    for (const framing of ["Content-Length: 100", "Transfer-Encoding: chunked"]) {
      const client = connect();
      client.send(`PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${framing}\r\n\r\n`);
      client.send("a\r\n0123456789\r\n");
      await expect.poll(() => gateway.app.gateway.bodyBudget.heldBytes).toBeGreaterThan(0);
      client.socket.destroy();
      await expect.poll(() => gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    }
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.failures).toEqual([]);
  });
});

describe("Expect", () => {
  const expectContinue = "Expect: 100-continue";

  it("100-continue gets 100 and then the answer", async () => {
    const client = connect();
    client.send(
      `PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n${expectContinue}\r\n\r\n`,
    );
    expect((await client.response()).status).toBe(100);
    client.send("body");
    const response = await client.response();
    expect(response.status).toBe(201);
    expect(response.headers.get("connection")).toBe("keep-alive");
  });

  it.each([
    ["PUT", "/v1/kv/a", `Content-Length: ${VALUE_SIZE_BYTES_MAX + 1}`, 413],
    ["PUT", "/v1/kv/a?ttl=0", "Content-Length: 4", 400],
    ["PUT", "/v1/kv/a", "Content-Length: 4\r\nIf-Match: 5", 400],
    ["PUT", "/v1/kv/a", "Content-Length: 4\r\nContent-Encoding: gzip", 415],
    ["PUT", "/nowhere", "Content-Length: 4", 404],
    ["POST", "/v1/kv/a", "Content-Length: 4", 405],
    ["GET", "/v1/limits", "Content-Length: 4", 200],
  ])("100-continue of %s %s with %s gets its final status %i at once", async (...row) => {
    const [method, target, headers, status] = row;
    const client = connect();
    client.send(
      `${method} ${target} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n${expectContinue}\r\n\r\n`,
    );
    const response = await client.response();
    expect(response.status).toBe(status);
    // The body may or may not follow: the connection is of no further use.
    expect(response.headers.get("connection")).toBe("close");
    await client.closed;
  });

  it("anything else is refused with 417", async () => {
    const response = await ask("PUT", "/v1/kv/a", ["Expect: 200-ok"], "body");
    expect(response.status).toBe(417);
    expect(problemIn(response)).toMatchObject({
      code: "EXPECTATION_FAILED",
      outcome: "not_applied",
    });
    expect(gateway.storage.calls).toEqual([]);
  });
});

describe("pipelined requests", () => {
  it("take effect and are answered in order", async () => {
    const client = connect();
    for (let i = 0; i < 20; i++) {
      client.request("PUT", "/v1/kv/a", [], `value ${i}`);
      client.request("GET", "/v1/kv/a");
    }
    for (let i = 0; i < 20; i++) {
      expect((await client.response()).status).toBe(i === 0 ? 201 : 200);
      expect((await client.response()).body).toBe(`value ${i}`);
    }
  });

  it("are all answered when the last one closes the connection", async () => {
    const client = connect();
    client.request("GET", "/v1/kv/a");
    client.request("GET", "/v1/kv/%zz", ["Connection: close"]);
    expect((await client.response()).status).toBe(404);
    expect((await client.response()).status).toBe(400);
    await client.closed;
  });

  it("that only read have no outcome when they are refused, and writes have one", async () => {
    for (const method of ["GET", "PUT"]) {
      const client = connect();
      client.request(method, "/v1/kv/a", ["Transfer-Encoding: gzip, chunked"]);
      client.send("0\r\n\r\n");
      const { body } = await client.response();
      const { outcome } = JSON.parse(body) as { outcome?: string };
      expect(outcome).toBe(method === "PUT" ? "not_applied" : undefined);
    }
  });

  it("with a transfer coding other than chunked are refused", async () => {
    const client = connect();
    client.send(
      "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    );
    expect((await client.response()).status).toBe(415);
    expect(gateway.storage.calls).toEqual([]);
  });

  it("behind one that closes the connection are not carried out", async () => {
    const client = connect();
    client.request("GET", "/v1/kv/a", ["Connection: close"]);
    client.request("PUT", "/v1/kv/a", [], "v");
    expect((await client.response()).headers.get("connection")).toBe("close");
    await client.closed;
    expect(client.rest).toBe("");
    const refused = connect();
    refused.request("PUT", "/v1/kv/a", ["Expect: 200-ok"], "v");
    refused.request("PUT", "/v1/kv/a", [], "v");
    expect((await refused.response()).status).toBe(417);
    await refused.closed;
    expect(gateway.storage.calls.map(({ method }) => method)).toEqual(["get"]);
  });

  it("beyond a bound are refused, in order", async () => {
    const open = closeGate();
    const client = connect();
    for (let i = 0; i < HTTP_PIPELINED_REQUESTS_MAX + 2; i++) client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    open();
    for (let i = 0; i < HTTP_PIPELINED_REQUESTS_MAX + 1; i++) {
      expect((await client.response()).status).toBe(404);
    }
    expect((await client.response()).status).toBe(503);
  });
});
