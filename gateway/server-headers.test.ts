/** Headers that every answer has, CORS, and requests whose path or end could be read in two ways. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cors, parseOrigins } from "./http/cors.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { type HttpServer, startHttpServer } from "./server.ts";
import { testGateway } from "./testing/gateway.ts";
import { RawClient, type RawResponse } from "./testing/raw-client.ts";

const NAMED = "https://app.example";
const STRANGE = "https://evil.example";
const servers: HttpServer[] = [];

async function startWith(origins: string, isOpen = false): Promise<HttpServer> {
  const { app } = testGateway({ cors: new Cors(parseOrigins(origins)!), isOpen });
  const server = await startHttpServer({ app, listen: { host: "127.0.0.1", port: 0 } });
  servers.push(server);
  return server;
}

let off: HttpServer;
let named: HttpServer;
let any: HttpServer;
beforeAll(async () => {
  [off, named, any] = await Promise.all([startWith(""), startWith(NAMED), startWith("*")]);
});
afterAll(() => Promise.all(servers.map((server) => server.close(0))));

type Ask = {
  readonly method?: string;
  readonly path: string;
  readonly lines?: readonly string[];
  readonly body?: string;
};

async function ask(server: HttpServer, request: Ask): Promise<RawResponse> {
  const { method = "GET", path, lines = [], body = "" } = request;
  const client = new RawClient(server.address.port);
  client.request(method, path, ["Connection: close", ...lines], body);
  return client.response(method !== "HEAD");
}

/** One of each kind of answer. */
const KINDS: readonly Ask[] = [
  { method: "PUT", path: "/v1/kv/a", body: "1" },
  { path: "/v1/kv/a" },
  { path: "/v1/kv/none" },
  { path: "/v1/kv?limit=1" },
  { path: "/v1/limits" },
  { path: "/admin/status" },
  { path: "/health/live" },
  { path: "/openapi.json" },
  { path: "/nowhere" },
  { method: "PATCH", path: "/v1/kv/a" },
  { path: "no-slash" },
];

describe("every answer", () => {
  it.each(KINDS)("has the security headers, each once: $method $path", async (request) => {
    const { headers } = await ask(off, request);
    const expected = securityHeaders(false);
    for (let at = 0; at < expected.length; at += 2) {
      expect(headers.get(expected[at]!.toLowerCase()), expected[at]).toBe(expected[at + 1]);
    }
    expect([...headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
    expect(headers.has("strict-transport-security")).toBe(false);
  });

  it("has them also when the request was none", async () => {
    const client = new RawClient(off.address.port);
    client.send("nonsense\r\n\r\n");
    const { headers, status } = await client.response();
    expect(status).toBe(400);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(client.rest).toBe("");
  });
});

const PREFLIGHT = [
  "Access-Control-Request-Method: PUT",
  "Access-Control-Request-Headers: if-match",
];

describe("CORS", () => {
  it("lets pages of a named origin ask and read, whatever the route", async () => {
    // All but the one that is no HTTP, and so has no origin.
    for (const request of KINDS.slice(0, -1)) {
      const { headers } = await ask(named, { ...request, lines: [`Origin: ${NAMED}`] });
      expect(headers.get("access-control-allow-origin"), request.path).toBe(NAMED);
      expect(headers.get("access-control-expose-headers")).toContain("ETag");
      expect(headers.get("vary")).toContain("Origin");
      expect(headers.has("access-control-allow-credentials")).toBe(false);
    }
  });

  it("answers preflight requests of a named origin before anything else", async () => {
    for (const path of ["/v1/kv/a", "/v1/batch", "/admin/rebalance"]) {
      const request = { method: "OPTIONS", path, lines: [`Origin: ${NAMED}`, ...PREFLIGHT] };
      const { status, headers } = await ask(named, request);
      expect(status).toBe(204);
      expect(headers.get("access-control-allow-origin")).toBe(NAMED);
      expect(headers.get("access-control-allow-methods")).toContain("PUT");
      expect(headers.get("access-control-allow-headers")).toContain("Authorization");
      expect(Number(headers.get("access-control-max-age"))).toBeGreaterThan(0);
    }
  });

  it("gives no headers to others, whose preflight fails, but tells caches of the difference", async () => {
    for (const server of [off, named]) {
      for (const origin of [STRANGE, "null", `${NAMED}.evil.example`, NAMED.toUpperCase()]) {
        const request = { method: "OPTIONS", path: "/v1/kv/a" };
        const refused = await ask(server, {
          ...request,
          lines: [`Origin: ${origin}`, ...PREFLIGHT],
        });
        expect(refused.status).toBe(405);
        const answer = await ask(server, { path: "/v1/kv/a", lines: [`Origin: ${origin}`] });
        for (const { headers } of [refused, answer]) {
          expect([...headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual(
            [],
          );
        }
        expect(answer.headers.get("vary")).toBe(server === named ? "Origin" : undefined);
      }
    }
  });

  it("takes OPTIONS without a question for what it is", async () => {
    const request = { method: "OPTIONS", path: "/v1/kv/a", lines: [`Origin: ${NAMED}`] };
    expect((await ask(named, request)).status).toBe(405);
  });

  it("lets every page ask where * is set, but none change the cluster", async () => {
    const lines = [`Origin: ${STRANGE}`];
    const read = await ask(any, { path: "/v1/kv/a", lines });
    expect(read.headers.get("access-control-allow-origin")).toBe("*");
    expect(read.headers.has("vary")).toBe(false);
    const change = { method: "POST", path: "/admin/rebalance" };
    expect((await ask(any, { ...change, lines })).status).toBe(400);
    expect((await ask(named, { ...change, lines: [`Origin: ${STRANGE}`] })).status).toBe(400);
    expect((await ask(named, { ...change, lines: [`Origin: ${NAMED}`] })).status).toBe(200);
  });
});

describe("a path that only a URL parser would take for that of a key", () => {
  it.each([
    ...[
      "/v1/./kv/a/../dotted",
      "/x/../v1/kv/dotted",
      "/v1/%2e/kv/dotted",
      "/v1/%2E%2e/v1/kv/dotted",
    ],
    ...[
      "/v1/watch/../kv/dotted",
      "/./v1/kv?key64=ZG90dGVk",
      "/v1/./batch",
      "/./range",
      "/v1/./watch",
    ],
  ])("is that of nothing: %s", async (path) => {
    for (const method of ["PUT", "GET", "POST", "DELETE"]) {
      const body = method === "PUT" ? "1" : "";
      const answer = await ask(off, { method, path, body });
      expect([method, answer.status, JSON.parse(answer.body).code]).toEqual([
        ...[method, 404, "ROUTE_NOT_FOUND"],
      ]);
    }
    expect((await ask(off, { path: "/v1/kv/dotted" })).status).toBe(404);
  });

  it("leaves dots in a key alone", async () => {
    await ask(off, { method: "PUT", path: "/v1/kv/./a/../b", body: "1" });
    expect((await ask(off, { path: "/v1/kv/%2E/a/%2e./b" })).body).toBe("1");
    expect((await ask(off, { path: "/v1/kv/b" })).status).toBe(404);
  });
});

describe("a request whose end is ambiguous", () => {
  const HEAD = "POST /v1/batch HTTP/1.1\r\nHost: test\r\n";
  const HIDDEN = "GET /v1/kv/hidden HTTP/1.1\r\nHost: test\r\n\r\n";
  const AMBIGUOUS: readonly (readonly [string, string])[] = [
    ["both lengths", `Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`],
    ["both, the other way", `Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`],
    ["two different lengths", `Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}`],
    ["the same length twice", `Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`],
    ["a list of lengths", `Content-Length: 2, 2\r\n\r\n{}`],
    ["a signed length", `Content-Length: +2\r\n\r\n{}`],
    ["a hexadecimal length", `Content-Length: 0x2\r\n\r\n{}`],
    ["chunked that is not last", `Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`],
    ["chunked with a trick", `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
    ["a space before the colon", `Content-Length : 2\r\n\r\n{}`],
    ["a folded header", `X-A: 1\r\n Content-Length: 2\r\n\r\n{}`],
    ["a NUL in a header", `X-A: 1\0\r\nContent-Length: 2\r\n\r\n{}`],
    ["a bare CR in a header", `X-A: 1\rContent-Length: 2\r\n\r\n{}`],
    ["a chunk size that is none", `Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`],
    ["a chunk longer than it says", `Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n`],
  ];

  it.each(AMBIGUOUS)("is refused, and nothing behind it is read: %s", async (_, rest) => {
    const client = new RawClient(off.address.port);
    client.send(HEAD + rest);
    await client.closed;
    // Where a handler had begun to read the body, the connection closes without an answer.
    const statuses = [...client.rest.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]![0]);
    expect(statuses.length).toBeLessThanOrEqual(1);
    expect(statuses.every((first) => first === "4")).toBe(true);
  });

  it.each(["gzip", "identity", "xchunked", "chunked;a=1", "gzip, chunked"])(
    "is answered where its coding is not understood: %s",
    async (coding) => {
      for (const method of ["PUT", "GET", "POST"]) {
        const client = new RawClient(off.address.port);
        client.request(method, "/v1/kv/a", [`Transfer-Encoding: ${coding}`]);
        const { status, body } = await client.response();
        expect([status, JSON.parse(body).code]).toEqual([415, "UNSUPPORTED_MEDIA_TYPE"]);
        await client.closed;
        expect(client.rest).toBe("");
      }
    },
  );

  it("never has its rest taken for a request, when the body is shorter than announced", async () => {
    const client = new RawClient(off.address.port);
    client.send(`${HEAD}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{}${HIDDEN}`);
    client.socket.end();
    await client.closed;
    expect(client.rest).not.toContain("hidden");
    expect(client.rest.split("HTTP/1.1 ").length).toBeLessThanOrEqual(2);
  });
});

describe("parseOrigins()", () => {
  it("takes origins as browsers write them", () => {
    expect([...parseOrigins(`${NAMED}, http://[::1]:3000,http://localhost:1`)!.named]).toEqual([
      ...[NAMED, "http://[::1]:3000", "http://localhost:1"],
    ]);
    expect(parseOrigins("")).toEqual({ any: false, named: new Set() });
    expect(parseOrigins("*")!.any).toBe(true);
  });

  it.each([
    ...["https://app.example/", "https://App.example", "app.example", "https://app.example:443"],
    ...["https://*.example", "null", "https://app.example:99999", "ftp://app.example", "*,*"],
    ...[`${NAMED},`, "https://user@app.example", Array(65).fill(NAMED).join(",")],
  ])("refuses %s", (text) => {
    expect(parseOrigins(text)).toBeUndefined();
  });
});

describe("a listener without credentials on this machine", () => {
  const kinds = ["/v1/kv/a", "/v1/kv?limit=1", "/v1/watch", "/admin/status", "/health/live", "/"];
  const askAs = async (server: HttpServer, path: string, host: string): Promise<RawResponse> => {
    const client = new RawClient(server.address.port);
    client.send(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    return client.response();
  };

  it.each(kinds)("tells a page nothing whose name was pointed at it: %s", async (path) => {
    const open = await startWith("", true);
    for (const host of [`rebound.example:${open.address.port}`, "rebound.example", "10.0.0.1"]) {
      const { status, body } = await askAs(open, path, host);
      expect([status, JSON.parse(body).code]).toEqual([403, "FORBIDDEN"]);
    }
    // Whoever needs credentials is asked under any name.
    expect((await askAs(off, "/health/live", "rebound.example")).status).toBe(200);
  });

  it.each(["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.1", "[::1]:8080"])(
    "is asked as %s",
    async (host) => {
      const open = await startWith("", true);
      expect((await askAs(open, "/v1/limits", host)).status).toBe(200);
    },
  );

  it("opens no WebSocket for such a page either, whatever its Origin says", async () => {
    const open = await startWith("", true);
    const client = new RawClient(open.address.port);
    client.send(
      "GET /v1/watch/ws HTTP/1.1\r\nHost: rebound.example\r\nConnection: Upgrade\r\n" +
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    const { status, body } = await client.response();
    expect(status).toBe(403);
    expect(body).toContain("Host must be");
  });
});
