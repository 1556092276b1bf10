/** What a server may say to the client library, without a NATS server. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { BUS_MESSAGE_BYTES_MAX } from "#shared/limits.ts";
import { natsDial } from "./nats.ts";
import { type NatsConfig, natsSettings } from "./nats-settings.ts";

const CONFIG = Object.fromEntries(
  Object.entries(natsSettings).map(([name, setting]) => [name, setting.default]),
) as NatsConfig;

const info = (max_payload: number): string =>
  `INFO ${JSON.stringify({ server_id: "test", version: "2.10.0", proto: 1, headers: true, max_payload })}\r\n`;

/** Greets, and answers each PING. */
async function startServer(): Promise<{ readonly server: string; readonly peers: Socket[] }> {
  const peers: Socket[] = [];
  const server = createServer((peer) => {
    peers.push(peer);
    peer.on("error", () => undefined);
    peer.on("data", (bytes) => {
      for (const _ of bytes.toString("latin1").matchAll(/PING\r\n/g)) peer.write("PONG\r\n");
    });
    peer.write(info(1 << 20));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const peer of peers) peer.destroy();
    server.close();
  });
  return { server: `127.0.0.1:${(server.address() as AddressInfo).port}`, peers };
}

it("takes a server's new bound of messages as the bound, and throws at none", async () => {
  const { server, peers } = await startServer();
  const dial = natsDial({ config: CONFIG, tls: false, name: "test" });
  const link = await dial(server, { onRefused: () => undefined });
  onTestFinished(() => link.close());
  expect(link.payloadBytesMax).toBe(BUS_MESSAGE_BYTES_MAX);
  peers.at(-1)!.write(info(10));
  await expect.poll(() => link.payloadBytesMax, { interval: 5 }).toBe(10);
  link.publish("subject", new Uint8Array(10));
  await link.flush();
});
