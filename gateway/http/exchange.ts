/**
 * One HTTP request and its answer, without saying who carries them.
 *
 * The key-value route is written against `Exchange`, so that the same handler runs straight on
 * Node's request and response objects (`node-exchange.ts`, the hot path) and behind Hono's
 * Request and Response (`fetch-exchange.ts`, used by `app.request(...)`). Going under Hono's
 * objects serves about a sixth more requests per second.
 *
 * Hono middleware therefore does not run in front of an exchange handler on a socket. What has to
 * run before the key-value route belongs into its handler.
 */
import type { Cancellation } from "#gateway/storage/cancellation.ts";
import type { RequestTrace } from "#shared/tracing.ts";

export interface Exchange {
  /** Upper case, as sent. */
  readonly method: string;
  /**
   * Path and query exactly as the client sent them, beginning with "/". One character per byte.
   * Never normalised: `..`, `%2e` and `\` reach the handler as they are.
   */
  readonly target: string;
  /** Accepted from the client or made; echoed in each answer. */
  readonly requestId: string;
  /** IP address at the other end of the connection, which may be a proxy's. Empty when not known. */
  readonly peerAddress: string;
  /**
   * Whether it comes from a web page whose origin an operator has named as one that may. Absent where no
   * origin is: then none may.
   */
  readonly originIsNamed?: boolean;
  /** Of the client. All requests of a connection share it: they run one by one. */
  readonly cancellation: Cancellation;
  /** Whether it has a body that does not say how large it is. */
  readonly isBodyUnannounced: boolean;
  /** A header's value by its lower-case name; repeated headers joined with ", ". */
  header(name: string): string | undefined;
  /**
   * The whole body; empty when there is none. May be called once. The bytes belong to the caller.
   *
   * @throws RequestRefused PAYLOAD_TOO_LARGE (from Content-Length before anything is read, else as
   * soon as the bytes exceed the bound), OVERLOADED, REQUEST_TIMEOUT, INVALID_ARGUMENT; CANCELLED
   * when the client went away. Nothing of a body that failed may be used.
   */
  readBody(sizeBytesMax: number): Promise<Uint8Array>;
  /**
   * Told the size of a body that did not announce it, when it has been received or has
   * failed. Set by who counts bytes.
   */
  onUnannouncedBody?: ((sizeBytes: number) => void) | undefined;
  /** When the request is traced. */
  trace?: RequestTrace | undefined;
}

/** A body that is made while it is being sent. */
export type BodyStream = {
  /**
   * The next piece, undefined at the end. Asked for when the client has taken most of the one before.
   * Never rejects: what breaks off says so in its last piece.
   */
  next(): Promise<Uint8Array | undefined>;
  /** The server stops: the stream is to end soon, with what its reader needs to go on elsewhere. */
  stop(): void;
  /** Nothing more will be asked. Always called, also after the end. */
  close(): void;
};

/** Takes the bytes of a `PushBody` to the client. */
export type PushWriter = {
  /**
   * Bytes that nobody changes afterwards: many clients may get the same ones, and nothing is copied. False asks
   * for a pause until `PushBody.drained`. What is written nevertheless waits in memory: its bound is the body's.
   */
  write(bytes: Uint8Array): boolean;
  /** Behind the last bytes. */
  end(): void;
};

/** A body whose bytes come when there are some, for as long as client and server like. */
export type PushBody = {
  /** Once, behind the head of the answer. Left out when the client has gone before. */
  start(writer: PushWriter): void;
  /** The client has taken what there was, after `write` had asked for a pause. */
  drained(): void;
  /** The server stops: the body is to end soon, with what its reader needs to go on elsewhere. */
  stop(): void;
  /** Nothing is taken any more: the client has gone, or has got the end. Called always, and once. */
  close(): void;
};

export type Answer = {
  readonly status: number;
  /** Names and values in turn: the form that Node writes fastest. */
  readonly headers: readonly string[];
  /** Left out on the wire for HEAD. */
  readonly body: Uint8Array | string | BodyStream | PushBody | undefined;
  /** For the audit log alone: the API key whose secret is in the body, and until when it works; 0 for ever. */
  readonly shown?: { readonly key: string; readonly untilMs: number };
};

export const isBodyStream = (body: Answer["body"]): body is BodyStream =>
  typeof body === "object" && !(body instanceof Uint8Array) && "next" in body;

export const isPushBody = (body: Answer["body"]): body is PushBody =>
  typeof body === "object" && !(body instanceof Uint8Array) && "start" in body;

/** Answers every request, also with its failures: the promise never rejects. */
export type ExchangeHandler = (exchange: Exchange) => Promise<Answer>;
