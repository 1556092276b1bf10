/** A gateway that speaks HTTP/2, and clients of it, for tests. */
import { onTestFinished } from "vitest";
import { createAuthority } from "#bin/certs/x509.ts";
import type { HttpsMaterial } from "#gateway/http/https.ts";
import { type HttpServer, type HttpServerLimits, startHttpServer } from "#gateway/server.ts";
import { type TestGateway, testGateway } from "./gateway.ts";
import { Http2Client } from "./http2-client.ts";
import { FrameClient } from "./http2-frames.ts";

const HOST = "127.0.0.1";
export const testAuthority = createAuthority("test");

export function testMaterial(): HttpsMaterial {
  const { cert, key } = testAuthority.issue("gateway", [HOST, "localhost"]);
  return { cert, key, clientCa: undefined };
}

const material = testMaterial();

export type Http2Server = {
  readonly server: HttpServer;
  readonly gateway: TestGateway;
  client(): Http2Client;
  frames(hello?: Buffer | ""): Promise<FrameClient>;
  /** Holds storage calls until what it returns is called. */
  hold(): () => void;
};

/** Its clients and itself are closed when the test ends. */
export async function startHttp2(
  limits: Partial<HttpServerLimits> = {},
  app?: Parameters<typeof testGateway>[0],
): Promise<Http2Server> {
  const gateway = testGateway(app);
  const server = await startHttpServer({
    app: gateway.app,
    listen: { host: HOST, port: 0 },
    limits: { checkIntervalMs: 20, lingerTimeoutMs: 100, ...limits },
    tls: material,
  });
  onTestFinished(() => void server.close(0));
  return {
    ...{ server, gateway },
    client() {
      const client = new Http2Client(server.url, testAuthority.ca);
      onTestFinished(() => client.close());
      return client;
    },
    async frames(hello) {
      const client = await FrameClient.open(server.address.port, testAuthority.ca, hello);
      onTestFinished(() => void client.socket.destroy());
      return client;
    },
    hold() {
      let release = (): void => undefined;
      gateway.storage.gate = new Promise((resolve) => {
        release = resolve;
      });
      return () => release();
    },
  };
}
