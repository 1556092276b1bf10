/** Upgrades that follow another request at once, on the same connection. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { RawClient } from "#gateway/testing/raw-client.ts";

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
    ["refused for its handshake", "GET /v1/watch/ws", ["Host: x", ...ASK], 426],
    ["well asked for", "GET /v1/watch/ws", ["Host: x", ...HANDSHAKE], 426],
  ])("is answered as a request like any other: %s", async (_name, target, headers, status) => {
    client.socket.write(text("OPTIONS *", ["Host: x"]) + text(target, headers));
    expect((await client.response()).status).toBe(400);
    expect((await client.response()).status).toBe(status);
    expect(gateway.watches.all).toHaveLength(0);
  });
});
