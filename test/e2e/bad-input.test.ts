/**
 * Requests that no well-behaved client sends, byte by byte over raw sockets: each gets the status
 * that says what is wrong, as a problem, and none of them stores anything, ends the process, or is
 * worth an error in its log.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { RawClient, type RawResponse } from "#gateway/testing/raw-client.ts";
import { ERRORS, type ErrorCode } from "#shared/errors.ts";
import {
  HTTP_HEADERS_SIZE_BYTES_MAX,
  HTTP_URL_SIZE_BYTES_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { HttpClient, type ProblemBody } from "./http-client.ts";

const HOST = "Host: localhost\r\n";
const TARGET = "/v1/kv/bad";

/** A request whose one line of headers is given. */
const withHeader = (line: string): string =>
  `PUT ${TARGET} HTTP/1.1\r\n${HOST}Content-Length: 1\r\n${line}\r\n\r\nv`;

const withTarget = (target: string): string =>
  `PUT ${target} HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\nv`;

const framed = (headers: string, body = ""): string =>
  `PUT ${TARGET} HTTP/1.1\r\n${HOST}${headers}\r\n\r\n${body}`;

/** What a TLS client sends first. */
const TLS_HELLO = `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${"\x5a".repeat(200)}`;

const REFUSED: readonly (readonly [name: string, bytes: string, code: ErrorCode])[] = [
  ["an escape with a letter that is no digit", withTarget("/v1/kv/%zz"), "INVALID_ARGUMENT"],
  ["an escape cut short", withTarget("/v1/kv/a%4"), "INVALID_ARGUMENT"],
  ["a lone percent sign", withTarget("/v1/kv/%"), "INVALID_ARGUMENT"],
  ["a bare #", withTarget("/v1/kv/a#b"), "INVALID_ARGUMENT"],
  ["a space in the path", withTarget("/v1/kv/a b"), "INVALID_ARGUMENT"],
  ["a control character in the path", withTarget("/v1/kv/a\x01b"), "INVALID_ARGUMENT"],
  ["bytes in the path that are not ASCII", withTarget("/v1/kv/\xc3\xbc"), "INVALID_ARGUMENT"],
  ["a target that is no path", withTarget("v1/kv/bad"), "INVALID_ARGUMENT"],
  ["OPTIONS *", `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, "INVALID_ARGUMENT"],
  ["key and key64", withTarget("/v1/kv/bad?key64=YmFk"), "INVALID_ARGUMENT"],
  ["key64 that is not base64url", withTarget("/v1/kv?key64=a+b/"), "INVALID_ARGUMENT"],
  ["an unknown parameter", withTarget(`${TARGET}?tll=5`), "INVALID_ARGUMENT"],
  ["a parameter given twice", withTarget(`${TARGET}?ttl=5&ttl=5`), "INVALID_ARGUMENT"],
  ["a parameter that is not UTF-8", withTarget(`${TARGET}?%ff=5`), "INVALID_ARGUMENT"],
  ["a URL of 8 KiB and one byte", withTarget(longTarget()), "KEY_TOO_LONG"],
  ["headers that are too large", withHeader(longHeader()), "HEADERS_TOO_LARGE"],
  ["a URL larger than all headers may be", withTarget(`/${longHeader()}`), "HEADERS_TOO_LARGE"],
  ["an entity tag without quotes", withHeader("If-Match: 1"), "INVALID_ARGUMENT"],
  ["an entity tag left open", withHeader('If-None-Match: "1'), "INVALID_ARGUMENT"],
  ["an empty condition", withHeader("If-Match:"), "INVALID_ARGUMENT"],
  ["tags in two lines, one broken", withHeader('If-Match: "1"\r\nIf-Match: 2'), "INVALID_ARGUMENT"],
  [
    "a condition on a date",
    withHeader("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    "INVALID_ARGUMENT",
  ],
  ["two TTLs", withHeader("Minikv-TTL: 1\r\nMinikv-TTL: 2"), "INVALID_ARGUMENT"],
  ["a coded body", withHeader("Content-Encoding: gzip"), "UNSUPPORTED_MEDIA_TYPE"],
  ["an unknown expectation", withHeader("Expect: 200-ok"), "EXPECTATION_FAILED"],
  ["a header name with a space", withHeader("Bad Name: 1"), "INVALID_ARGUMENT"],
  ["a header with a null byte", withHeader("X-A: a\0b"), "INVALID_ARGUMENT"],
  ["no Host", `GET ${TARGET} HTTP/1.1\r\n\r\n`, "INVALID_ARGUMENT"],
  ["two Hosts", `GET ${TARGET} HTTP/1.1\r\n${HOST}Host: other\r\n\r\n`, "INVALID_ARGUMENT"],
  ["a Content-Length that is no number", framed("Content-Length: abc", "v"), "INVALID_ARGUMENT"],
  ["a negative Content-Length", framed("Content-Length: -1", "v"), "INVALID_ARGUMENT"],
  ["a Content-Length with a sign", framed("Content-Length: +1", "v"), "INVALID_ARGUMENT"],
  [
    "a Content-Length beyond all numbers",
    framed(`Content-Length: ${"9".repeat(30)}`),
    "INVALID_ARGUMENT",
  ],
  ["two lengths", framed("Content-Length: 1\r\nContent-Length: 2", "v"), "INVALID_ARGUMENT"],
  [
    "a length and chunks",
    framed("Content-Length: 1\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    "INVALID_ARGUMENT",
  ],
  ["chunks inside something else", framed("Transfer-Encoding: chunked, gzip"), "INVALID_ARGUMENT"],
  [
    "a chunk size that is none",
    framed("Transfer-Encoding: chunked", "xyz\r\n"),
    "INVALID_ARGUMENT",
  ],
  [
    "a chunk longer than it says",
    framed("Transfer-Encoding: chunked", "1\r\nabc"),
    "INVALID_ARGUMENT",
  ],
  ["a method in lower case", `get ${TARGET} HTTP/1.1\r\n${HOST}\r\n`, "INVALID_ARGUMENT"],
  ["a method that does not exist", `FETCH ${TARGET} HTTP/1.1\r\n${HOST}\r\n`, "INVALID_ARGUMENT"],
  ["a version that does not exist", `GET ${TARGET} HTTP/9.9\r\n${HOST}\r\n`, "INVALID_ARGUMENT"],
  ["HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "INVALID_ARGUMENT"],
  ["TLS", TLS_HELLO, "INVALID_ARGUMENT"],
  ["an empty line and noise", "\r\n\x00\x01\x02\x03", "INVALID_ARGUMENT"],
];

function longTarget(): string {
  const start = `${TARGET}?ttl=`;
  return start + "1".repeat(HTTP_URL_SIZE_BYTES_MAX + 1 - start.length);
}

function longHeader(): string {
  return `X-Long:${"x".repeat(HTTP_HEADERS_SIZE_BYTES_MAX)}`;
}

function problemIn(response: RawResponse): ProblemBody {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const problem = JSON.parse(response.body) as ProblemBody;
  expect(problem.status).toBe(response.status);
  expect(problem.request_id).toBe(response.headers.get("x-request-id"));
  return problem;
}

describeEachDeployment("bad input", (start) => {
  let server: Deployment;
  let client: HttpClient;
  let open: RawClient[] = [];

  beforeAll(async () => {
    server = await start();
    client = new HttpClient(server.url);
  });
  afterEach(() => {
    for (const { socket } of open) socket.destroy();
    open = [];
  });
  afterAll(async () => {
    // After all of it the server serves, and nothing of it was an error of the server.
    expect((await client.put("/v1/kv/after", "all of it")).status).toBe(201);
    expect((await client.get(TARGET)).status).toBe(404);
    client.close();
    expect(server.gatewayProcess.exit).toBeUndefined();
    const severe = server
      .logRecords()
      .filter(({ level }) => level === "error" || level === "fatal");
    expect(severe).toEqual([]);
  });

  function connect(): RawClient {
    const raw = new RawClient(Number(new URL(server.url).port));
    open.push(raw);
    return raw;
  }

  it.each(REFUSED)("%s is refused", async (_, bytes, code) => {
    const raw = connect();
    raw.send(bytes);
    const response = await raw.response();
    const problem = problemIn(response);
    expect([problem.code, problem.detail]).toEqual([code, expect.any(String)]);
    expect(response.status).toBe(ERRORS[code].http);
    // Of a write nothing was done; a read has no outcome, unless its method was never known.
    if (!bytes.startsWith("GET")) expect(problem.outcome).toBe("not_applied");
  });

  it("bytes that are no HTTP close the connection, whatever follows", async () => {
    for (const bytes of [TLS_HELLO, "\x00".repeat(50_000), "GET\r\n\r\n", "\xff".repeat(20_000)]) {
      const raw = connect();
      raw.send(bytes);
      raw.request("GET", "/health/live");
      expect((await raw.response()).status).toBeGreaterThanOrEqual(400);
      await raw.closed;
      expect(raw.rest).toBe("");
    }
  });

  it("CONNECT is not served", async () => {
    const raw = connect();
    raw.send(`CONNECT localhost:80 HTTP/1.1\r\n${HOST}\r\n`);
    await raw.closed;
    expect(raw.rest).not.toMatch(/^HTTP\/1\.1 2/);
  });

  it("an upgrade that nobody offers is answered as if it were not asked for", async () => {
    const raw = connect();
    raw.request("GET", "/v1/kv/absent", ["Connection: Upgrade", "Upgrade: websocket"]);
    expect((await raw.response()).status).toBe(404);
  });

  describe("a body that is too large", () => {
    const declared = VALUE_SIZE_BYTES_MAX + 1;

    it("is refused from its Content-Length, before a byte of it is sent", async () => {
      const raw = connect();
      raw.request("PUT", TARGET, [`Content-Length: ${declared}`]);
      const problem = problemIn(await raw.response());
      expect(problem).toMatchObject({
        code: "PAYLOAD_TOO_LARGE",
        limit: VALUE_SIZE_BYTES_MAX,
        actual: declared,
        outcome: "not_applied",
      });
    });

    it("is never asked for with 100 Continue", async () => {
      const raw = connect();
      raw.request("PUT", TARGET, [`Content-Length: ${declared}`, "Expect: 100-continue"]);
      // The first answer is the final one.
      expect((await raw.response()).status).toBe(413);
    });

    it("in chunks is refused while it is being sent", async () => {
      const raw = connect();
      raw.request("PUT", TARGET, ["Transfer-Encoding: chunked"]);
      const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
      // Never ended: the answer cannot have waited for the end.
      for (let count = 0; count < 17; count++) raw.send(chunk);
      expect(problemIn(await raw.response()).code).toBe("PAYLOAD_TOO_LARGE");
    });
  });

  it("Expect: 100-continue is answered with 100 and then the result", async () => {
    // A test that is run once more finds what it has left.
    await client.delete("/v1/kv/expected");
    const raw = connect();
    raw.request("PUT", "/v1/kv/expected", ["Content-Length: 5", "Expect: 100-continue"]);
    expect((await raw.response()).status).toBe(100);
    raw.send("value");
    expect((await raw.response()).status).toBe(201);
  });

  it("pipelined requests take effect and are answered in order", async () => {
    await client.delete("/v1/kv/pipelined");
    const raw = connect();
    for (let count = 0; count < 10; count++) {
      raw.request("PUT", "/v1/kv/pipelined", [], `value ${count}`);
      raw.request("GET", "/v1/kv/pipelined");
    }
    raw.request("DELETE", "/v1/kv/pipelined");
    raw.request("GET", "/v1/kv/pipelined");
    for (let count = 0; count < 10; count++) {
      expect((await raw.response()).status).toBe(count === 0 ? 201 : 200);
      expect((await raw.response()).body).toBe(`value ${count}`);
    }
    expect((await raw.response(false)).status).toBe(204);
    expect((await raw.response()).status).toBe(404);
  });

  it("HTTP/1.0 is served without a Host, and closed", async () => {
    await client.put("/v1/kv/old-http", "value");
    const raw = connect();
    raw.send("GET /v1/kv/old-http HTTP/1.0\r\n\r\n");
    const response = await raw.response();
    expect([response.status, response.body]).toEqual([200, "value"]);
    await raw.closed;
  });

  it("an absolute target names the same key", async () => {
    await client.put("/v1/kv/absolute", "value");
    const raw = connect();
    raw.request("GET", "http://elsewhere/v1/kv/absolute");
    expect((await raw.response()).body).toBe("value");
  });
});
