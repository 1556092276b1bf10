/**
 * One client's connections to gateways, kept alive, over node:http: it tells an answer from a request that
 * was certainly never sent and from one whose fate is unknown. Nothing is retried.
 */
import { Agent, type IncomingMessage, request } from "node:http";

export type Reply =
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly etag: string | undefined;
      readonly body: Buffer;
    }
  /** No connection came about: no server has seen the request. */
  | { readonly kind: "notSent"; readonly reason: string }
  /** The connection broke, or nothing came in time; the request may have been carried out. */
  | { readonly kind: "lost"; readonly reason: string };

export type Request = {
  readonly method: "GET" | "PUT" | "DELETE" | "POST";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  /** Then the connection is cut. */
  readonly timeoutMs: number;
};

export class ClientConnection {
  readonly #agent: Agent;

  /** @param socketsMax requests at once to one gateway. */
  constructor(socketsMax = 1) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: socketsMax });
  }

  send(url: string, { method, path, headers, body, timeoutMs }: Request): Promise<Reply> {
    return new Promise((resolve) => {
      let isConnected = false;
      const length =
        body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) };
      const sent = request(`${url}${path}`, {
        method,
        headers: { ...headers, ...length },
        agent: this.#agent,
      });
      const timer = setTimeout(() => sent.destroy(new Error("no answer in time")), timeoutMs);
      const settle = (reply: Reply): void => {
        clearTimeout(timer);
        resolve(reply);
      };
      sent.on("socket", (socket) => {
        if (socket.connecting) socket.once("connect", () => (isConnected = true));
        else isConnected = true;
      });
      sent.on("response", (incoming) => receive(incoming, settle));
      sent.on("error", (error) => {
        settle({ kind: isConnected ? "lost" : "notSent", reason: error.message });
      });
      sent.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function receive(incoming: IncomingMessage, settle: (reply: Reply) => void): void {
  const chunks: Buffer[] = [];
  incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
  incoming.on("error", (error) => settle({ kind: "lost", reason: error.message }));
  incoming.on("end", () => {
    if (!incoming.complete) settle({ kind: "lost", reason: "the answer broke off" });
    else {
      const { statusCode = 0, headers } = incoming;
      settle({
        kind: "answer",
        status: statusCode,
        etag: headers.etag,
        body: Buffer.concat(chunks),
      });
    }
  });
}
