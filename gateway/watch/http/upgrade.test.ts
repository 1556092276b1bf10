/** Handshakes of WebSocket that the connection, or the library, has no place for. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { noCors } from "#gateway/http/cors.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { RawClient } from "#gateway/testing/raw-client.ts";
import { WatchSockets } from "./websocket.ts";

let gateway: TestGateway;
let server: HttpServer;
let client: RawClient;

beforeEach(async () => {
  gateway = testGateway();
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startHttpServer({ app: gateway.app, listen, limits: { closeGraceMs: 20 } });
  client = new RawClient(server.address.port);
});
afterEach(async () => {
  client.socket.destroy();
  await server.close(0);
});

const ASK = ["Connection: Upgrade", "Upgrade: websocket"];
const HANDSHAKE = [
  ...ASK,
  ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
];
const text = (target: string, headers: readonly string[]): string =>
  `${[`${target} HTTP/1.1`, ...headers].join("\r\n")}\r\n\r\n`;

describe("an upgrade behind an answer that has not left", () => {
  it.each([
    ["refused for its head", "GET /v1/watch/ws", ASK, 400],
    ["refused for its handshake", "GET /v1/watch/ws", ["Host: localhost", ...ASK], 426],
    ["well asked for", "GET /v1/watch/ws", ["Host: localhost", ...HANDSHAKE], 426],
  ])("is answered as a request like any other: %s", async (_name, target, headers, status) => {
    client.socket.write(text("OPTIONS *", ["Host: localhost"]) + text(target, headers));
    expect((await client.response()).status).toBe(400);
    expect((await client.response()).status).toBe(status);
    expect(gateway.watches.all).toHaveLength(0);
  });
});

describe("a handshake that names protocols badly", () => {
  it.each(["a, a", "a,", ",", "a b", "@", "", `a, ${"b".repeat(9)}, b, a`])(
    "is refused, and leaves no watch behind: %j",
    async (names) => {
      client.request("GET", "/v1/watch/ws", [...HANDSHAKE, `Sec-WebSocket-Protocol: ${names}`]);
      const { status, headers } = await client.response();
      expect([status, headers.get("content-type")]).toEqual([400, "application/problem+json"]);
      await client.closed;
      expect(gateway.watches.opening).toBe(0);
      expect(gateway.watches.running).toEqual([]);
    },
  );

  it("leaves no watch behind when only the library finds it wrong", async () => {
    const { sockets } = gateway.app.gateway;
    let closes = 0;
    const wrong = new WatchSockets({
      clock: gateway.clock,
      cors: noCors,
      isOpen: true,
      routes: {
        openFor: async (_exchange, _format, { take }) =>
          take({ session: { close: () => closes++ }, caller: undefined } as never),
      },
    });
    const socket = Object.assign(new PassThrough(), { destroySoon: () => undefined });
    const headers = { upgrade: "websocket", "sec-websocket-version": "12" };
    const incoming = { method: "GET", headers } as unknown as IncomingMessage;
    const request = { incoming, socket: socket as unknown as Socket, head: Buffer.alloc(0) };
    await wrong.upgrade({} as Exchange, request, () => undefined, false);
    expect(closes).toBe(1);
    expect(sockets!.count).toBe(0);
  });
});
