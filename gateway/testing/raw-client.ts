/**
 * An HTTP client of raw bytes, for what well-behaved clients never send: odd paths, broken
 * framing, half requests. Sends what it is told and parses answers that have a Content-Length.
 */
import { connect, type Socket } from "node:net";

export type RawResponse = {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
};

const HEAD_END = "\r\n\r\n";

export class RawClient {
  readonly socket: Socket;
  /** Resolves when the connection has closed in both directions. */
  readonly closed: Promise<void>;
  #received = "";
  /** Of what has to be received before it is worth looking at it again. */
  #neededLength = 0;
  #isClosed = false;
  #wake: () => void = () => undefined;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.setEncoding("latin1");
    this.socket.on("data", (text: string) => {
      this.#received += text;
      this.#wake();
    });
    // A reset or a refusal is one of the expected ends.
    this.socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.once("close", () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
  }

  /** Sends text of one character per byte. */
  send(text: string): void {
    this.socket.write(text, "latin1");
  }

  /** Sends a request with a Host header and, when there is a body, its length. */
  request(method: string, target: string, headers: readonly string[] = [], body = ""): void {
    const length = body === "" ? [] : [`Content-Length: ${body.length}`];
    const lines = [`${method} ${target} HTTP/1.1`, "Host: localhost", ...length, ...headers];
    this.send(`${lines.join("\r\n")}${HEAD_END}${body}`);
  }

  /**
   * The next answer, interim ones included. `hasBody` false for an answer to HEAD.
   *
   * @throws Error when the connection closes before a whole answer.
   */
  async response(hasBody = true): Promise<RawResponse> {
    for (;;) {
      const response = this.#parse(hasBody);
      if (response !== undefined) return response;
      if (this.#isClosed) throw new Error(`closed after ${JSON.stringify(this.#received)}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What has arrived behind the answers read so far. */
  get rest(): string {
    return this.#received;
  }

  #parse(hasBody: boolean): RawResponse | undefined {
    if (this.#received.length < this.#neededLength) return undefined;
    const end = this.#received.indexOf(HEAD_END);
    if (end < 0) return undefined;
    const [statusLine, ...lines] = this.#received.slice(0, end).split("\r\n");
    const headers = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(":");
      headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    const bodyStart = end + HEAD_END.length;
    const bodyLength = hasBody ? Number(headers.get("content-length") ?? 0) : 0;
    this.#neededLength = bodyStart + bodyLength;
    if (this.#received.length < this.#neededLength) return undefined;
    this.#neededLength = 0;
    const body = this.#received.slice(bodyStart, bodyStart + bodyLength);
    this.#received = this.#received.slice(bodyStart + bodyLength);
    return { status: Number(statusLine!.split(" ")[1]), headers, body };
  }
}
