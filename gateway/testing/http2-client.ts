/** A well-behaved HTTP/2 client that shows an answer as `RawClient` does. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
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

/** May send a header twice that should be there once, and many large bodies at once. */
const optionsWith = (ca: Buffer): SecureClientSessionOptions =>
  ({ ca, strictSingleValueFields: false, maxSessionMemory: 64 }) as SecureClientSessionOptions;

export class Http2Client {
  readonly session: ClientHttp2Session;
  readonly closed: Promise<void>;
  goawayCode: number | undefined;

  constructor(url: string, ca: Buffer) {
    this.session = connect(url, optionsWith(ca));
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
    stream.once("response", (answered) => heads.set(stream, answered));
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

/** Of answers that have begun, maybe before anybody waited for them. */
const heads = new WeakMap<ClientHttp2Stream, IncomingHttpHeaders>();

export function responseOf(stream: ClientHttp2Stream): Promise<Http2Response> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let wasContinued = false;
    let isEnded = false;
    stream.on("continue", () => {
      wasContinued = true;
    });
    stream.on("data", (piece: Buffer) => pieces.push(piece));
    stream.on("end", () => {
      isEnded = true;
    });
    stream.on("close", () => {
      const head = heads.get(stream);
      if (head === undefined || !isEnded || stream.rstCode !== 0) {
        reject(new Error(`the stream was closed with code ${stream.rstCode}`));
        return;
      }
      const named = Object.entries(head).filter(([name]) => !name.startsWith(":"));
      const headers = new Map(named.map(([name, value]) => [name, String(value)]));
      const status = Number(head[":status"]);
      resolve({ status, headers, body: Buffer.concat(pieces), wasContinued });
    });
  });
}
