/** What throws inside a route is nobody's business outside: no message, no stack, no path of a file. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGate } from "./auth/gate.ts";
import type { ManagedRoute } from "./http/managed-route.ts";
import { type HttpServer, startHttpServer } from "./server.ts";
import { type TestGateway, testGateway } from "./testing/gateway.ts";
import { RawClient } from "./testing/raw-client.ts";

const SECRET = "the-inside";

function fail(): never {
  throw new TypeError(`${SECRET} of /etc/somewhere`);
}

const failing: ManagedRoute = {
  path: "/test/failing",
  methods: new Map([
    ["GET", { access: "public", run: fail }],
    ["POST", { access: "service.read", run: async () => fail() }],
  ]),
};

/** Streams that break where they may not: at their beginning, and behind a first piece. */
const breaking = (path: string, pieces: number): ManagedRoute => {
  const run = async () => {
    let left = pieces;
    const next = async (): Promise<Uint8Array | undefined> =>
      left-- > 0 ? Buffer.from("a piece\n") : fail();
    const body = { next, stop: () => undefined, close: () => undefined };
    return { status: 200, headers: ["Content-Type", "text/plain"], body };
  };
  return { path, methods: new Map([["GET", { access: "public", run }]]) };
};
const streams = [breaking("/test/breaks-at-once", 0), breaking("/test/breaks-later", 10)];

let gateway: TestGateway;
let server: HttpServer;
let gateServer: HttpServer;

beforeAll(async () => {
  gateway = testGateway({ routes: [failing, ...streams] });
  const { storage, cluster } = gateway;
  for (const name of ["get", "put", "delete", "batch", "scan", "readiness"] as const) {
    Object.assign(storage, { [name]: fail });
  }
  cluster.failure = new Error(SECRET);
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startHttpServer({ app: gateway.app, listen });
  const closed = testGateway({ gate: { ...openGate, enter: fail, enterUnknown: fail } });
  gateServer = await startHttpServer({ app: closed.app, listen });
});
afterAll(async () => void (await Promise.all([server.close(0), gateServer.close(0)])));

const BATCH = '{"ops":[{"op":"get","key":"a"}]}';
const JSON_TYPE = ["Content-Type: application/json"];

type Ask = readonly [
  method: string,
  path: string,
  body?: string | undefined,
  lines?: readonly string[] | undefined,
];

async function ask(to: HttpServer, [method, path, body = "", lines = []]: Ask) {
  const client = new RawClient(to.address.port);
  client.request(method, path, ["Connection: close", ...lines], body);
  const { status } = await client.response(method !== "HEAD");
  await client.closed;
  return status;
}

async function textOf(to: HttpServer, [method, path, body = "", lines = []]: Ask): Promise<string> {
  const client = new RawClient(to.address.port);
  client.request(method, path, ["Connection: close", ...lines], body);
  await client.closed;
  return client.rest;
}

const ROUTES: readonly Ask[] = [
  ["GET", "/v1/kv/a"],
  ["HEAD", "/v1/kv/a"],
  ["PUT", "/v1/kv/a", "1"],
  ["DELETE", "/v1/kv/a"],
  ["GET", "/v1/kv?prefix=a"],
  ["GET", "/range?start=a"],
  ["POST", "/v1/batch", BATCH, JSON_TYPE],
  ["GET", "/health/ready"],
  ["GET", "/admin/status"],
  ["POST", "/admin/rebalance"],
  ["GET", "/test/failing"],
  ["POST", "/test/failing"],
];

const GATED = ROUTES.filter(([, path]) => !path.startsWith("/health") && !path.startsWith("/test"));
const named = (requests: readonly Ask[]) =>
  requests.map((request) => ({ name: request.slice(0, 2).join(" "), request }));

function expectNothingOfIt(text: string): void {
  expect(text).not.toContain(SECRET);
  expect(text).not.toMatch(/TypeError|somewhere|\.ts\b|\n\s+at /);
}

describe("what throws inside", () => {
  it.each(named(ROUTES))("$name is a 500 without a word of it", async ({ request }) => {
    expect(await ask(server, request)).toBe(500);
    expectNothingOfIt(await textOf(server, request));
  });

  it("is told to the operator", () => {
    const told = gateway.failures.map(({ error }) => String(error));
    expect(told.length).toBeGreaterThanOrEqual(ROUTES.length);
    expect(told.every((text) => text.includes(SECRET))).toBe(true);
  });

  it.each(named(GATED))(
    "$name says nothing of a gate that breaks, and lets nobody in",
    async ({ request }) => {
      const text = await textOf(gateServer, request);
      expect(text).toContain("HTTP/1.1 500");
      expectNothingOfIt(text);
    },
  );

  it("ends a stream without a word of it, and without its looking complete", async () => {
    const atOnce = await textOf(server, ["GET", "/test/breaks-at-once"]);
    expectNothingOfIt(atOnce);
    expect(atOnce).toContain("HTTP/1.1 500");
    const later = await textOf(server, ["GET", "/test/breaks-later"]);
    expectNothingOfIt(later);
    expect(later).not.toMatch(/\r\n0\r\n\r\n$/);
  });
});
