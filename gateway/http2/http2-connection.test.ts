/** What a connection holds against its client, and what it does not. */
import { once } from "node:events";
import { connect, constants } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import type { TLSSocket } from "node:tls";
import { expect, it, onTestFinished } from "vitest";
import { DEFAULT_LIMITS } from "#gateway/http/node-server.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { Http2Connection } from "./http2-connection.ts";

const STREAMS = 20;
/** Of each body; all of them are within the window of the connection. */
const SENT_BYTES = 50_000;

it("forgives bodies that waited in streams which then ended unread", async () => {
  const { requestIds, bodyBudget, answerBudget, cors } = testGateway().app.gateway;
  const { lingerTimeoutMs } = DEFAULT_LIMITS;
  let connection: Http2Connection | undefined;
  let socket: TLSSocket | undefined;
  let served = 0;
  let ended = 0;
  const server = createServer((accepted) => {
    socket = accepted as TLSSocket;
    connection = new Http2Connection({
      ...{ socket, timeouts: DEFAULT_LIMITS, nowMs: () => 0, onClose: () => undefined },
      host: { requestIds, bodyBudget, answerBudget, lingerTimeoutMs, headers: [], cors },
      // Nobody reads.
      serve: () => {
        served++;
        return new Promise(() => undefined);
      },
      onEnd: () => ended++,
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => void server.close());
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(() => client.destroy());
  const put = () => {
    const stream = client.request({ ":method": "PUT", ":path": "/v1/kv/a" }, { endStream: false });
    stream.on("error", () => undefined);
    return stream;
  };
  const streams = Array.from({ length: STREAMS }, put);
  for (const stream of streams) stream.write(Buffer.alloc(SENT_BYTES));
  await expect.poll(() => socket?.bytesRead).toBeGreaterThan(STREAMS * SENT_BYTES);
  connection!.check();
  for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
  await expect.poll(() => ended).toBe(STREAMS);
  connection!.check();
  // It would be refused.
  put();
  await expect.poll(() => served).toBe(STREAMS + 1);
});
