/** The same requests over HTTP/1.1, HTTP/1.1 with TLS, and HTTP/2 get the same answers. */
import { Agent as HttpAgent, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAuthority } from "#bin/certs/x509.ts";
import { Cors, parseOrigins } from "#gateway/http/cors.ts";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { Http2Client } from "#gateway/testing/http2-client.ts";
import { toRevision } from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";

const HOST = "127.0.0.1";
const ORIGIN = "https://app.example";
const authority = createAuthority("test");

type Ask = {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: string;
};
type Answer = {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
};
type Carrier = { readonly ask: (ask: Ask) => Promise<Answer>; readonly close: () => void };

/** What belongs to a connection, or says when and how long rather than what. */
const OF_CARRIER = new Set(["date", "connection", "keep-alive", "transfer-encoding"]);

function relevant(headers: Iterable<readonly [string, unknown]>): Record<string, string> {
  const list = [...headers].filter(([name]) => !OF_CARRIER.has(name));
  return Object.fromEntries(list.map(([name, value]) => [name, String(value)]));
}

function http1(server: HttpServer, hasTls: boolean): Carrier {
  const agent = hasTls
    ? new HttpsAgent({ keepAlive: true, maxSockets: 1, ca: authority.ca, servername: "localhost" })
    : new HttpAgent({ keepAlive: true, maxSockets: 1 });
  const start = hasTls ? httpsRequest : httpRequest;
  const ask = ({ method = "GET", path, headers = {}, body }: Ask) =>
    new Promise<Answer>((resolve, reject) => {
      const outgoing = start({
        ...{ host: HOST, port: server.address.port, agent, method, path },
        headers: {
          Host: "localhost",
          ...(body !== undefined && lengthOf(headers, body)),
          ...headers,
        },
      });
      outgoing.on("error", reject);
      outgoing.on("response", (incoming) => {
        let text = "";
        incoming.setEncoding("latin1").on("data", (piece: string) => {
          text += piece;
        });
        incoming.on("end", () => {
          const answered = relevant(Object.entries(incoming.headers));
          resolve({ status: incoming.statusCode!, headers: answered, body: text });
        });
      });
      if (body !== undefined) outgoing.write(Buffer.from(body, "latin1"));
      outgoing.end();
    });
  return { ask, close: () => agent.destroy() };
}

const lengthOf = (headers: Ask["headers"], body: string) =>
  headers?.["Transfer-Encoding"] === undefined ? { "Content-Length": String(body.length) } : {};

function http2(server: HttpServer): Carrier {
  const client = new Http2Client(server.url, authority.ca);
  const ask = async ({ method, path, headers = {}, body }: Ask): Promise<Answer> => {
    const { "Transfer-Encoding": chunked, ...rest } = headers;
    const length =
      body === undefined || chunked !== undefined ? {} : { "content-length": `${body.length}` };
    const answer = await client.ask({
      ...(method !== undefined && { method }),
      path,
      headers: { ":authority": "localhost", ...length, ...rest },
      body: body === undefined ? undefined : Buffer.from(body, "latin1"),
    });
    const { status } = answer;
    return { status, headers: relevant(answer.headers), body: answer.body.toString("latin1") };
  };
  return { ask, close: () => client.close() };
}

const servers: HttpServer[] = [];
let carriers: readonly [Carrier, Carrier, Carrier];
beforeAll(async () => {
  const { cert, key } = authority.issue("gateway", [HOST, "localhost"]);
  const tls = { cert, key, clientCa: undefined };
  const start = async (hasTls: boolean) => {
    const { app, storage } = testGateway({ cors: new Cors(parseOrigins(ORIGIN)!) });
    const get = storage.get.bind(storage);
    storage.get = async (ref, options) => {
      const found = await get(ref, options);
      // A stored type that no header can hold.
      const isBad = Buffer.from(ref.key).toString() === "bad-type";
      return isBad ? { ...found!, revision: toRevision(1), contentType: "a\r\nb: c" } : found;
    };
    const listen = { host: HOST, port: 0 };
    const server = await startHttpServer({ app, listen, ...(hasTls && { tls }) });
    servers.push(server);
    return server;
  };
  carriers = [
    http1(await start(false), false),
    http1(await start(true), true),
    http2(await start(true)),
  ];
});
afterAll(async () => {
  for (const carrier of carriers) carrier.close();
  await Promise.all(servers.map((server) => server.close(0)));
});

/** In this order: later ones see what earlier ones have stored. */
const KEYS: readonly Ask[] = [
  ...["/v1/kv/..", "/v1/kv/../limits", "/v1/kv/a/./b/../c", "/v1/kv/%2e%2e/x"],
  ...["/v1/kv/a%2Fb", "/v1/kv/a\\b", "/v1/kv/%00", "/v1/kv//", "/v1/kv/{t}a|b^c`"],
  ...['/v1/kv/"<>', "/v1/kv/%ff", "/v1/kv/a+b", "/v1/kv/a;b=c", "/v1/kv/%E2%82%AC", "/v1/k%76/x"],
].flatMap((path) => [
  { method: "PUT", path, body: `v of ${path}` },
  { path },
  { method: "HEAD", path },
]);

const REFUSED: readonly Ask[] = [
  ...["/v1/kv/%", "/v1/kv/a%zz", "/v1/kv/", "/v1/kv/a#b", "/v1/kv/\xff", "/v1/kv/a?tl=5"],
  ...[`/v1/kv/${"k".repeat(1025)}`, `/v1/kv/${"k".repeat(9000)}`, `/nowhere?${"k".repeat(9000)}`],
  ...["/nowhere\\x", "/nowhere/../x", "/nowhere", "/v1/../v1/kv/a", "/health/live/", "/v1/kv?x='"],
  ...["/v1/%6bv/a", "/errors/../v1/limits", "//evil.example/v1/limits", "/v1/limits?x=1", "/\xff"],
].map((path) => ({ path }));

const VALUES: readonly Ask[] = [
  {
    method: "PUT",
    path: "/v1/kv/a?ttl=60",
    headers: { "Content-Type": "text/x" },
    body: "0123456789",
  },
  { method: "PUT", path: "/v1/kv/a", headers: { "If-None-Match": "*" }, body: "x" },
  { method: "PUT", path: "/v1/kv/a", headers: { "If-Match": "1" }, body: "x" },
  {
    method: "PUT",
    path: "/v1/kv/a",
    headers: { "If-Match": ['"1"', '"999"'] },
    body: "0123456789",
  },
  { path: "/v1/kv/a" },
  { method: "HEAD", path: "/v1/kv/a" },
  { path: "/v1/kv/a", headers: { Range: "bytes=2-4" } },
  { path: "/v1/kv/a", headers: { Range: "bytes=99-" } },
  { path: "/v1/kv/a", headers: { "If-None-Match": "*" } },
  { path: "/v1/kv/a", headers: { "If-Match": '"9999"' } },
  { method: "HEAD", path: "/v1/kv/none" },
  { method: "POST", path: "/v1/kv/a" },
  { method: "PATCH", path: "/v1/kv/a", body: "x" },
  { method: "TRACE", path: "/v1/kv/a" },
  { method: "OPTIONS", path: "/v1/kv/a" },
  { method: "PUT", path: "/v1/kv/empty", body: "" },
  { path: "/v1/kv/empty" },
  {
    method: "PUT",
    path: "/v1/kv/chunked",
    headers: { "Transfer-Encoding": "chunked" },
    body: "pieces",
  },
  { path: "/v1/kv/chunked" },
  { method: "PUT", path: "/v1/kv/large", body: "l".repeat(VALUE_SIZE_BYTES_MAX) },
  { path: "/v1/kv/large" },
  { path: "/v1/kv/large", headers: { Range: "bytes=1000-200000" } },
  { method: "PUT", path: "/v1/kv/over", body: "l".repeat(VALUE_SIZE_BYTES_MAX + 1) },
  { path: "/v1/kv/over" },
  { method: "DELETE", path: "/v1/kv/a", headers: { "If-Match": '"9"' } },
  { method: "DELETE", path: "/v1/kv/a" },
  { method: "DELETE", path: "/v1/kv/a" },
  { method: "PUT", path: "/v1/kv/bad-type", body: "x" },
  { path: "/v1/kv/bad-type" },
  { path: "/v1/kv/a", headers: { "Minikv-Timeout": "nonsense" } },
  { path: "/v1/kv/a", headers: { Expect: "the unexpected" } },
  { path: "/v1/kv/a", headers: { Authorization: ["Bearer a", "Bearer b"] } },
  { path: "/v1/kv/a", headers: { "X-Long": "y".repeat(17_000) } },
  { path: "/v1/kv/a", headers: { "X-Request-ID": "not one; \xe9" } },
];

const json = { "Content-Type": "application/json" };
const ROUTES: readonly Ask[] = [
  { path: "/v1/kv?limit=3" },
  { path: "/v1/kv?keys_only", headers: { Accept: "application/x-ndjson" } },
  { method: "HEAD", path: "/v1/kv?limit=1" },
  {
    ...{ method: "POST", path: "/v1/batch", headers: json },
    body: JSON.stringify({
      ops: [
        { op: "put", key: "b", value: "1" },
        { op: "get", key: "b" },
      ],
    }),
  },
  { method: "POST", path: "/v1/batch", headers: json, body: "{" },
  { method: "POST", path: "/v1/batch", body: "{}" },
  ...["/", "/health/live", "/health/ready", "/openapi.json", "/v1/limits", "/admin/status"].flatMap(
    (path) => [
      { path },
      { method: "HEAD", path },
      { method: "PUT", path },
      { method: "TRACE", path },
    ],
  ),
  { path: "/errors/KEY_TOO_LONG" },
  { method: "POST", path: "/admin/tenants", headers: json, body: JSON.stringify({ name: "t" }) },
  { method: "POST", path: "/admin/tenants", headers: json, body: JSON.stringify({ name: "t" }) },
  { method: "POST", path: "/admin/tenants", headers: json, body: "nonsense" },
  { method: "POST", path: "/admin/tenants", headers: json, body: "x".repeat(3_000_000) },
  { path: "/admin/tenants/t" },
  { path: "/admin/tenants/t%2F..%2Fx" },
  { path: "/admin/../v1/limits" },
];

const codeOf = ({ body }: Answer): unknown => (body === "" ? "" : JSON.parse(body).code);

const PREFLIGHT = { "Access-Control-Request-Method": "PUT" };
const PAGES: readonly Ask[] = [
  ...["/v1/kv/a", "/health/live", "/nowhere"].flatMap((path) =>
    [ORIGIN, "https://evil.example"].flatMap((Origin) => [
      { path, headers: { Origin } },
      { method: "OPTIONS", path, headers: { Origin, ...PREFLIGHT } },
    ]),
  ),
  { method: "POST", path: "/admin/rebalance", headers: { Origin: "https://evil.example" } },
  { method: "POST", path: "/admin/rebalance", headers: { Origin: ORIGIN } },
];

describe.each([
  ["keys of any bytes", KEYS],
  ["what is refused", REFUSED],
  ["values, conditions and ranges", VALUES],
  ["other routes", ROUTES],
  ["pages of other origins", PAGES],
])("%s", (_, list) => {
  it.each(list.map((ask, at) => [at, ask.method ?? "GET", ask.path.slice(0, 60)] as const))(
    "%i: %s %s is answered the same",
    async (at) => {
      const ask = list[at]!;
      const own = { "X-Request-ID": "r", ...ask.headers };
      const [plain, tls, h2] = await Promise.all(
        carriers.map((carrier) => carrier.ask({ ...ask, headers: own })),
      );
      const { "strict-transport-security": hsts, ...rest } = tls!.headers;
      expect(hsts).toMatch(/^max-age=[1-9]/);
      expect(h2!.headers["strict-transport-security"]).toBe(hsts);
      expect([plain!.status, h2!.status]).toEqual([tls!.status, tls!.status]);
      // Where HTTP/1.1 refuses what it cannot read, it knows neither id nor method of the request.
      if (rest["x-request-id"] !== "r") {
        expect([codeOf(plain!), codeOf(h2!)]).toEqual([codeOf(tls!), codeOf(tls!)]);
        return;
      }
      expect({ ...tls!, headers: rest }).toEqual(plain);
      expect(h2!.body).toBe(tls!.body);
      // HTTP/1.1 needs a length for an answer whose route says none; where both have one, it is the same.
      const length = { "content-length": tls!.headers["content-length"] };
      expect({ ...length, ...h2!.headers }).toEqual({ ...length, ...tls!.headers });
    },
  );
});
