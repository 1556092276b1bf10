/** Clients of watches for end-to-end tests: what arrives, in its order. */
import { get } from "node:http";
import WebSocket from "ws";

export type WatchedEvent = {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly token: string | undefined;
};

export class WatchClient {
  readonly events: WatchedEvent[] = [];
  status: number | undefined;
  isEnded = false;
  /** Of a WebSocket. */
  closeCode: number | undefined;
  #close: () => void = () => undefined;

  /** Resolves when the answer has begun, whatever its status. */
  static sse(url: string, headers: Readonly<Record<string, string>> = {}): Promise<WatchClient> {
    const client = new WatchClient();
    return new Promise((resolve, reject) => {
      const request = get(url, { headers, agent: false }, (answer) => {
        client.status = answer.statusCode;
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
          const blocks = text.split("\n\n");
          text = blocks.pop()!;
          for (const block of blocks) client.#take(block);
        });
        answer.on("close", () => {
          client.isEnded = true;
        });
        answer.on("error", () => undefined);
        resolve(client);
      });
      request.on("error", reject);
      client.#close = () => request.destroy();
    });
  }

  /** Resolves when the handshake is done. @throws Error when it was refused */
  static socket(url: string, headers: Readonly<Record<string, string>> = {}): Promise<WatchClient> {
    const client = new WatchClient();
    return new Promise((resolve, reject) => {
      const ws = new WebSocket(url.replace("http:", "ws:"), { headers });
      ws.on("message", (data) => client.events.push(JSON.parse(String(data)) as WatchedEvent));
      ws.on("close", (code) => {
        client.closeCode = code;
        client.isEnded = true;
      });
      ws.on("error", reject);
      ws.on("open", () => resolve(client));
      client.#close = () => ws.terminate();
    });
  }

  #take(block: string): void {
    const fields = new Map<string, string>();
    for (const line of block.split("\n")) {
      const [, name = "", value = ""] = /^([a-z]+): (.*)$/.exec(line) ?? [];
      if (name !== "") fields.set(name, value);
    }
    const event = fields.get("event");
    if (event === undefined) return;
    const data = JSON.parse(fields.get("data") ?? "{}") as WatchedEvent["data"];
    this.events.push({ event, data, token: fields.get("id") });
  }

  /** Keys and operations of changes, such as `put a`. */
  get changes(): readonly string[] {
    return this.events
      .filter(({ data }) => data.op !== undefined)
      .map(({ event, data }) => `${event} ${String(data.key)}`);
  }

  get last(): WatchedEvent | undefined {
    return this.events.at(-1);
  }

  /** To go on from. */
  get token(): string | undefined {
    return this.events.findLast(({ token }) => token !== undefined)?.token;
  }

  close(): void {
    this.#close();
  }
}
