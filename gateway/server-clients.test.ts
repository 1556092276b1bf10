/** Slow, broken and vanishing clients, and the end of the server. Timeouts are shortened. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { toRevision } from "#shared/ids.ts";
import { type HttpServer, type HttpServerLimits, startHttpServer } from "./server.ts";
import { type ProblemBody, type TestGateway, testGateway } from "./testing/gateway.ts";
import { RawClient, type RawResponse } from "./testing/raw-client.ts";

let gateway: TestGateway;
let server: HttpServer;
let clients: RawClient[] = [];

async function start(limits: Partial<HttpServerLimits> = {}): Promise<void> {
  await server?.close(0);
  gateway = testGateway();
  server = await startHttpServer({
    app: gateway.app,
    listen: { host: "127.0.0.1", port: 0 },
    limits: { lingerTimeoutMs: 100, checkIntervalMs: 20, ...limits },
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

function expectProblem(response: RawResponse, status: number, code: string): ProblemBody {
  expect(response.status).toBe(status);
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  expect(response.headers.get("connection")).toBe("close");
  const problem = JSON.parse(response.body) as ProblemBody;
  expect(problem).toMatchObject({ status, code });
  expect(problem.request_id).toBe(response.headers.get("x-request-id"));
  return problem;
}

/** A gate that holds storage calls until it is opened. */
function closeGate(): () => void {
  let open = (): void => undefined;
  gateway.storage.gate = new Promise((resolve) => {
    open = resolve;
  });
  return () => open();
}

/** Every GET finds `value`, of any size. */
function answerWith(value: Buffer): void {
  const found = {
    revision: toRevision(1),
    value,
    contentType: "text/plain",
    expiresAtMs: 0,
    modifiedAtMs: 0,
    valueSizeBytes: value.length,
  };
  const { get } = gateway.storage;
  gateway.storage.get = async (...parameters) => {
    await get.apply(gateway.storage, parameters);
    return found;
  };
}

const putHead = (length: number) =>
  `PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\n`;

describe("slow clients", () => {
  it("that do not finish their headers get 408", async () => {
    await start({ headersTimeoutMs: 60, requestTimeoutMs: 1000 });
    const client = connect();
    client.send("GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    expectProblem(await client.response(), 408, "REQUEST_TIMEOUT");
    await client.closed;
  });

  it("that do not finish their body get 408 and nothing is stored", async () => {
    await start({ headersTimeoutMs: 60, requestTimeoutMs: 60 });
    for (const head of [
      putHead(10),
      "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n",
    ]) {
      const client = connect();
      client.send(`${head}abc`);
      const problem = expectProblem(await client.response(), 408, "REQUEST_TIMEOUT");
      expect(problem.outcome).toBe("not_applied");
      await client.closed;
    }
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it("that wait between requests keep their connection only for a while", async () => {
    await start({ keepAliveTimeoutMs: 50 });
    const client = connect();
    client.request("GET", "/v1/kv/a");
    expect((await client.response()).status).toBe(404);
    await client.closed;
  });

  it("that do not read their answer are cut off", async () => {
    await start({ stallTimeoutMs: 100 });
    const value = "x".repeat(1024 * 1024);
    const writer = connect();
    writer.request("PUT", "/v1/kv/a", [], value);
    expect((await writer.response()).status).toBe(201);
    writer.socket.destroy();
    const client = connect();
    client.socket.pause();
    for (let i = 0; i < 60; i++) client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBeGreaterThan(1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const started = gateway.storage.calls.length;
    client.socket.resume();
    await client.closed;
    expect(gateway.storage.calls.length).toBe(started);
    // Nor are answers piled up for them: the kernel's buffers hold some megabytes, no more.
    expect(started).toBeLessThan(30);
  });

  it("are refused values when too much waits for clients that do not read", async () => {
    gateway = testGateway({ limits: { answerBytesInFlightMax: 20 * 1024 * 1024 } });
    await server.close(0);
    server = await startHttpServer({
      app: gateway.app,
      listen: { host: "127.0.0.1", port: 0 },
    });
    const { answerBudget } = gateway.app.gateway;
    answerWith(Buffer.alloc(16 * 1024 * 1024, "x"));
    const slow = connect();
    slow.socket.pause();
    slow.request("GET", "/v1/kv/a");
    await expect.poll(() => answerBudget.heldBytes).toBe(16 * 1024 * 1024);
    const quick = connect();
    quick.request("GET", "/v1/kv/a");
    const refused = await quick.response();
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBeDefined();
    expect(JSON.parse(refused.body)).toMatchObject({ code: "OVERLOADED", retryable: true });
    expect(JSON.parse(refused.body)).not.toHaveProperty("outcome");
    slow.socket.destroy();
    await expect.poll(() => answerBudget.heldBytes).toBe(0);
    quick.request("GET", "/v1/kv/a");
    expect((await quick.response()).body.length).toBe(16 * 1024 * 1024);
    await expect.poll(() => answerBudget.heldBytes).toBe(0);
  });

  it("are not counted as being answered when they have gone", async () => {
    answerWith(Buffer.alloc(8 * 1024 * 1024));
    const client = connect();
    client.socket.pause();
    for (let i = 0; i < 6; i++) client.request("GET", "/v1/kv/a");
    const { httpFigures } = gateway.app.gateway;
    await expect.poll(() => gateway.storage.calls.length).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(httpFigures.inFlight).toBe(1);
    client.socket.resetAndDestroy();
    await expect.poll(() => httpFigures.inFlight).toBe(0);
  });

  it("do not hold up others", async () => {
    const slow = connect();
    slow.send(putHead(10));
    const quick = connect();
    quick.request("GET", "/v1/kv/b");
    expect((await quick.response()).status).toBe(404);
  });
});

describe("what is not HTTP", () => {
  it.each([
    ["nonsense\r\n\r\n", 400, "INVALID_ARGUMENT"],
    ["GET /v1/kv/a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "INVALID_ARGUMENT"],
    ["GET /v1/kv/\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "INVALID_ARGUMENT"],
    [
      "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
      400,
      "INVALID_ARGUMENT",
    ],
    [
      "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      400,
      "INVALID_ARGUMENT",
    ],
    [
      "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
      "INVALID_ARGUMENT",
    ],
    [
      `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"y".repeat(17_000)}\r\n\r\n`,
      431,
      "HEADERS_TOO_LARGE",
    ],
    [`GET /${"y".repeat(17_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431, "HEADERS_TOO_LARGE"],
  ])("case %#: %j gets %i", async (text, status, code) => {
    const client = connect();
    client.send(text);
    expectProblem(await client.response(), status, code);
    await client.closed;
    expect(gateway.storage.calls).toEqual([]);
  });

  it("includes HTTP/1.1 without a Host, but not HTTP/1.0", async () => {
    for (const target of ["/v1/kv/a", "/v1/limits"]) {
      const modern = connect();
      modern.send(`GET ${target} HTTP/1.1\r\n\r\n`);
      expect((await modern.response()).status).toBe(400);
      const old = connect();
      old.send(`GET ${target} HTTP/1.0\r\n\r\n`);
      expect((await old.response()).status).toBe(target === "/v1/kv/a" ? 404 : 200);
      await old.closed;
    }
  });

  it("in the middle of a chunked body gets 400, and nothing is stored", async () => {
    const client = connect();
    client.send("PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\nnonsense\r\n");
    const problem = expectProblem(await client.response(), 400, "INVALID_ARGUMENT");
    expect(problem.outcome).toBe("not_applied");
    await client.closed;
    expect(gateway.storage.calls).toEqual([]);
  });

  it("behind a running write does not answer in its place", async () => {
    const open = closeGate();
    const client = connect();
    client.request("PUT", "/v1/kv/a", [], "v");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    client.send("nonsense\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 20));
    open();
    const response = await client.response();
    expect(response.status).toBe(201);
    expect(response.headers.get("connection")).toBe("close");
    await client.closed;
    expect(client.rest).toBe("");
  });
});

describe("a client that goes away", () => {
  it("cancels the call to storage", async () => {
    closeGate();
    const client = connect();
    client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const { cancellation } = gateway.storage.calls[0]!.options;
    expect(cancellation?.isCancelled).toBe(false);
    client.socket.destroy();
    await expect.poll(() => cancellation?.isCancelled).toBe(true);
  });

  it("does not disturb the server, whatever storage answers later", async () => {
    const open = closeGate();
    const client = connect();
    client.request("PUT", "/v1/kv/a", [], "value");
    client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    client.socket.destroy();
    await expect.poll(() => gateway.storage.calls[0]!.options.cancellation?.isCancelled).toBe(true);
    gateway.storage.failure = new KvError("CANCELLED", "aborted");
    open();
    await expect.poll(() => gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    gateway.storage.failure = undefined;
    const other = connect();
    other.request("GET", "/v1/kv/b");
    expect((await other.response()).status).toBe(404);
    expect(gateway.failures).toEqual([]);
    // The pipelined request behind it was never started.
    expect(gateway.storage.calls.map(({ method }) => method)).toEqual(["put", "get"]);
  });

  it("beyond the number of connections is turned away", async () => {
    await start({ connectionsMax: 1 });
    const first = connect();
    first.request("GET", "/v1/kv/a");
    expect((await first.response()).status).toBe(404);
    await connect().closed;
    first.request("GET", "/v1/kv/a");
    expect((await first.response()).status).toBe(404);
  });
});

describe("close()", () => {
  it("lets running requests end, with Connection: close, and takes no new ones", async () => {
    const open = closeGate();
    const busy = connect();
    busy.request("PUT", "/v1/kv/a", [], "v");
    const idle = connect();
    idle.request("GET", "/health/live");
    expect((await idle.response()).status).toBe(200);
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const closing = server.close(5_000);
    await idle.closed;
    await connect().closed;
    open();
    const response = await busy.response();
    expect(response.status).toBe(201);
    expect(response.headers.get("connection")).toBe("close");
    await busy.closed;
    expect(await closing).toEqual({ connectionsCut: 0 });
  });

  it("lets a running upload end", async () => {
    const client = connect();
    client.send(`${putHead(6)}abc`);
    await expect.poll(() => gateway.app.gateway.bodyBudget.heldBytes).toBe(3);
    const closing = server.close(5_000);
    client.send("def");
    expect((await client.response()).status).toBe(201);
    expect(await closing).toEqual({ connectionsCut: 0 });
  });

  it("answers a request that was on its way on an idle connection", async () => {
    const client = connect();
    client.request("GET", "/health/live");
    expect((await client.response()).status).toBe(200);
    const closing = server.close(5_000);
    client.request("PUT", "/v1/kv/a", [], "v");
    const response = await client.response();
    expect(response.status).toBe(201);
    expect(response.headers.get("connection")).toBe("close");
    await client.closed;
    expect(await closing).toEqual({ connectionsCut: 0 });
  });

  it("cuts what does not end in time", async () => {
    closeGate();
    const client = connect();
    client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    expect(await server.close(30)).toEqual({ connectionsCut: 1 });
    await client.closed;
  });

  it("flushes an answer that its client has not read yet", async () => {
    // More than the kernel's socket buffers hold.
    const value = Buffer.alloc(16 * 1024 * 1024, "x");
    answerWith(value);
    const client = connect();
    client.socket.pause();
    client.request("GET", "/v1/kv/a");
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const closing = server.close(5_000);
    client.socket.resume();
    expect((await client.response()).body.length).toBe(value.length);
    expect(await closing).toEqual({ connectionsCut: 0 });
  });

  it("can be called twice", async () => {
    const both = await Promise.all([server.close(10), server.close(10)]);
    expect(both).toEqual([{ connectionsCut: 0 }, { connectionsCut: 0 }]);
  });
});

describe("startHttpServer()", () => {
  it("rejects when the port is taken", async () => {
    const { port } = server.address;
    const again = startHttpServer({ app: gateway.app, listen: { host: "127.0.0.1", port } });
    await expect(again).rejects.toThrow("EADDRINUSE");
  });

  it("says where it listens", () => {
    expect(server.url).toBe(`http://127.0.0.1:${server.address.port}`);
  });
});
