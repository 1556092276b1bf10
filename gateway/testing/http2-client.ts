/** A well-behaved HTTP/2 client that shows an answer as `RawClient` does. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type OutgoingHttpHeaders,
} from "node:http2";

export type Http2Response = {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
  /** Whether the interim `100 Continue` came first. */
  readonly wasContinued: boolean;
};

export type Http2Request = {
  readonly method?: string;
  readonly path: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array | undefined;
};

export class Http2Client {
  readonly session: ClientHttp2Session;
  readonly closed: Promise<void>;
  goawayCode: number | undefined;

  constructor(url: string, ca: Buffer) {
    this.session = connect(url, { ca });
    this.session.on("error", () => undefined);
    this.session.on("goaway", (code) => {
      this.goawayCode = code;
    });
    this.closed = new Promise((resolve) => this.session.once("close", () => resolve()));
  }

  /** Begins a request; its body is still to be written, unless there is none. */
  open({ method = "GET", path, headers = {} }: Http2Request, endStream = true): ClientHttp2Stream {
    const head = { ":method": method, ":path": path, ...headers };
    const stream = this.session.request(head, { endStream });
    stream.on("error", () => undefined);
    return stream;
  }

  /** @throws Error when the stream ends without an answer, or with less than all of it */
  ask(request: Http2Request): Promise<Http2Response> {
    const { body } = request;
    const stream = this.open(request, body === undefined);
    if (body !== undefined) stream.end(body);
    return responseOf(stream);
  }

  close(): void {
    this.session.destroy();
  }
}

export function responseOf(stream: ClientHttp2Stream): Promise<Http2Response> {
  return new Promise((resolve, reject) => {
    let status = 0;
    const headers = new Map<string, string>();
    const pieces: Buffer[] = [];
    let wasContinued = false;
    let isEnded = false;
    stream.on("continue", () => {
      wasContinued = true;
    });
    stream.on("response", (head) => {
      status = Number(head[":status"]);
      for (const [name, value] of Object.entries(head)) {
        if (!name.startsWith(":")) headers.set(name, String(value));
      }
    });
    stream.on("data", (piece: Buffer) => pieces.push(piece));
    stream.on("end", () => {
      isEnded = true;
    });
    stream.on("close", () => {
      if (status === 0 || !isEnded || stream.rstCode !== 0) {
        reject(new Error(`the stream was closed with code ${stream.rstCode}`));
      } else resolve({ status, headers, body: Buffer.concat(pieces), wasContinued });
    });
  });
}
