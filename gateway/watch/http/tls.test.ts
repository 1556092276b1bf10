/** Watches under TLS: WebSocket over HTTP/1.1, which its clients ask for, and Server-Sent Events over HTTP/2. */
import { connect } from "node:http2";
import { describe, expect, it, onTestFinished } from "vitest";
import WebSocket from "ws";
import { createAuthority } from "#bin/certs/x509.ts";
import { startHttpServer } from "#gateway/server.ts";
import { testGateway } from "#gateway/testing/gateway.ts";

const authority = createAuthority("test");

async function start() {
  const gateway = testGateway();
  const { cert, key } = authority.issue("gateway", ["127.0.0.1", "localhost"]);
  const server = await startHttpServer({
    app: gateway.app,
    listen: { host: "127.0.0.1", port: 0 },
    limits: { closeGraceMs: 20 },
    tls: { cert, key, clientCa: undefined },
  });
  onTestFinished(() => void server.close(0));
  return { gateway, server };
}

describe("a watch under TLS", () => {
  it("is carried by WebSocket, for pages of https only", async () => {
    const { gateway, server } = await start();
    const url = `wss://127.0.0.1:${server.address.port}/v1/watch/ws`;
    const open = (origin?: string) =>
      new Promise<WebSocket>((resolve, reject) => {
        const options = { ca: authority.ca, ...(origin === undefined ? {} : { origin }) };
        const socket = new WebSocket(url, options);
        onTestFinished(() => socket.terminate());
        socket.on("open", () => resolve(socket));
        socket.on("error", reject);
      });
    const socket = await open();
    const messages: string[] = [];
    socket.on("message", (data) => messages.push(String(data)));
    gateway.watches.newest.event("put", { key: "a" });
    await expect.poll(() => messages).toHaveLength(1);
    await open(`https://127.0.0.1:${server.address.port}`);
    await expect(open(`http://127.0.0.1:${server.address.port}`)).rejects.toThrow("403");
    const closed = new Promise((resolve) => socket.on("close", resolve));
    expect(await server.close(5_000)).toEqual({ connectionsCut: 0 });
    expect(await closed).toBe(1001);
  });

  it("is carried by a stream of HTTP/2, and ends with it", async () => {
    const { gateway, server } = await start();
    const session = connect(server.url, { ca: authority.ca });
    onTestFinished(() => session.destroy());
    const stream = session.request({ ":path": "/v1/watch?prefix=a" });
    let text = "";
    stream.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
    await expect.poll(() => text).toContain(": watching\n\n");
    const watch = gateway.watches.newest;
    watch.event("put", { key: "a" });
    await expect.poll(() => text).toContain("event: put\n");
    stream.close();
    await expect.poll(() => watch.closes).toBe(1);
    const other = session.request({ ":path": "/watch/ws" });
    const status = new Promise((resolve) =>
      other.on("response", (head) => resolve(head[":status"])),
    );
    expect(await status).toBe(426);
  });
});
