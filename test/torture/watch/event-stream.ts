/**
 * A reader of `text/event-stream` over node:http: one connection, from its request to its end.
 * The format: HTML Living Standard, section 9.2.6.
 */
import { type ClientRequest, type IncomingMessage, request } from "node:http";

export type StreamEvent = {
  /** "message" when the stream names none. */
  readonly event: string;
  readonly data: string;
  /** Of this event or of an earlier one on this connection; empty before the first. */
  readonly lastId: string;
};

export type StreamEnd =
  /** The server answered with something else than a stream. */
  | { readonly kind: "refused"; readonly status: number; readonly body: string }
  /** It broke off, ended, or said nothing for too long. */
  | { readonly kind: "over"; readonly reason: string };

export type EventStreamOptions = {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly onEvent: (event: StreamEvent) => void;
  /** Called once. */
  readonly onEnd: (end: StreamEnd) => void;
  /** Without a single byte for so long, comments included, the connection is given up. */
  readonly silenceMsMax: number;
};

const BODY_BYTES_MAX = 64 * 1024;

export class EventStream {
  readonly #options: EventStreamOptions;
  readonly #request: ClientRequest;
  #incoming: IncomingMessage | undefined;
  #isOver = false;
  #rest = "";
  #event = "";
  #data: string[] = [];
  #lastId = "";

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#request = request(options.url, {
      agent: false,
      headers: { Accept: "text/event-stream", ...options.headers },
      timeout: options.silenceMsMax,
    });
    this.#request.on("timeout", () => this.#end({ kind: "over", reason: "silence" }));
    this.#request.on("error", (error) => this.#end({ kind: "over", reason: error.message }));
    this.#request.on("response", (incoming) => this.#respond(incoming));
    this.#request.end();
  }

  /** Takes nothing more until `resume`: what a reader that is slow does. */
  pause(): void {
    this.#incoming?.pause();
  }

  resume(): void {
    this.#incoming?.resume();
  }

  close(): void {
    this.#end({ kind: "over", reason: "closed" });
  }

  #respond(incoming: IncomingMessage): void {
    this.#incoming = incoming;
    const { statusCode: status = 0, headers } = incoming;
    incoming.setEncoding("utf8");
    incoming.on("error", (error) => this.#end({ kind: "over", reason: error.message }));
    incoming.on("close", () => this.#end({ kind: "over", reason: "it ended" }));
    if (status === 200 && headers["content-type"]?.startsWith("text/event-stream") === true) {
      incoming.on("data", (text: string) => this.#take(text));
      return;
    }
    let body = "";
    incoming.on("data", (text: string) => {
      if (body.length < BODY_BYTES_MAX) body += text;
    });
    incoming.on("end", () => this.#end({ kind: "refused", status, body }));
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (this.#isOver) return;
      this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
    }
  }

  #line(line: string): void {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#lastId = value;
  }

  #dispatch(): void {
    const event = this.#event === "" ? "message" : this.#event;
    const data = this.#data;
    this.#event = "";
    this.#data = [];
    if (data.length === 0) return;
    this.#options.onEvent({ event, data: data.join("\n"), lastId: this.#lastId });
  }

  #end(end: StreamEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#request.destroy();
    this.#options.onEnd(end);
  }
}
