/**
 * An exchange over a stream of HTTP/2: what `node-exchange.ts` is over HTTP/1.1.
 *
 * A stream ends in many ways: by its answer, by a reset from either side, with its connection. All of them
 * end in its `close` event, where whatever the exchange holds is let go, once. An answer to a stream that has
 * gone is dropped. Every stream has a listener for `error`, which says nothing that `close` does not.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import { answerOverloaded, bodyOverloaded, bodyTooLarge } from "#gateway/http/body-refusals.ts";
import { drained } from "#gateway/http/drained.ts";
import {
  type Answer,
  type BodyStream,
  type Exchange,
  isBodyStream,
  isPushBody,
  type PushBody,
} from "#gateway/http/exchange.ts";
import { NodeBodyReader } from "#gateway/http/node-body.ts";
import type { NodeExchangeHost } from "#gateway/http/node-exchange.ts";
import { RequestRefused, refusalAnswer } from "#gateway/http/problem.ts";
import { stopNotedStream } from "#gateway/http/routed-stream.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import {
  GATEWAY_ANSWER_COUNTED_BYTES_MIN,
  HTTP_LINGER_BYTES_MAX,
  HTTP2_PIECE_BYTES,
} from "#shared/limits.ts";
import type { RequestTrace } from "#shared/tracing.ts";
import { answerHead } from "./answer-head.ts";
import { declaredBytesOf, type RequestHead } from "./request-head.ts";

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = constants;

export type Http2ExchangeHost = Pick<
  NodeExchangeHost,
  "requestIds" | "bodyBudget" | "answerBudget" | "headers" | "cors" | "lingerTimeoutMs"
>;

export type Http2ExchangeOptions = {
  readonly host: Http2ExchangeHost;
  readonly stream: ServerHttp2Stream;
  readonly head: RequestHead;
  readonly peerAddress: string;
  readonly nowMs: number;
  /** Told that bytes of the body have arrived. */
  readonly onBodyBytes: (sizeBytes: number) => void;
};

/** Of the request's body. */
type Reading = "none" | "to come" | "received";

export class Http2Exchange implements Exchange {
  readonly method: string;
  readonly target: string;
  readonly peerAddress: string;
  readonly head: RequestHead;
  readonly stream: ServerHttp2Stream;
  /** Of this stream alone: others of its connection run beside it. */
  readonly cancellation = new Cancellation();
  onUnannouncedBody: ((sizeBytes: number) => void) | undefined = undefined;
  trace: RequestTrace | undefined = undefined;
  readonly startedMs: number;
  /** Number of its route in the figures; 0 while none is known. */
  route = 0;
  /** Of the answer; 0 before there is one. */
  status = 0;
  /** Whether the answer lasts as long as its reader likes. */
  isEndless = false;
  readonly #host: Http2ExchangeHost;
  readonly #onBodyBytes: (sizeBytes: number) => void;
  #requestId: string | undefined;
  #body: NodeBodyReader | undefined;
  #reading: Reading;
  /** The answer's body while it is being sent. */
  #sending: BodyStream | PushBody | undefined;
  #isStopping = false;
  #isAnswered = false;
  /** When it was first seen that all of the answer has left. */
  #answeredMs: number | undefined;
  #countedBytes = 0;
  /** Pieces that the client's window has taken, and how many they were when one was last taken. */
  #takenCount = 0;
  #seenCount = 0;
  #movedMs: number;

  constructor(options: Http2ExchangeOptions) {
    const { head, stream } = options;
    this.head = head;
    this.method = head.method;
    this.target = head.target;
    this.stream = stream;
    this.peerAddress = options.peerAddress;
    this.startedMs = options.nowMs;
    this.#movedMs = options.nowMs;
    this.#host = options.host;
    this.#onBodyBytes = options.onBodyBytes;
    this.#reading = stream.endAfterHeaders ? "none" : "to come";
    stream.once("close", this.#onClose);
    if (this.#reading === "to come") {
      stream.once("end", () => {
        if (!stream.closed) this.#reading = "received";
      });
    }
  }

  get requestId(): string {
    return (this.#requestId ??= this.#host.requestIds(this.header("x-request-id")));
  }

  header(name: string): string | undefined {
    return name === "host" ? this.head.authority : this.head.header(name);
  }

  get originIsNamed(): boolean {
    const origin = this.header("origin");
    return origin !== undefined && this.#host.cors.isNamed(origin);
  }

  /** The answer to a preflight request of a page that may send others; undefined for what is none. */
  preflight(): Answer | undefined {
    return this.method === "OPTIONS" ? this.#host.cors.preflight(this) : undefined;
  }

  /** Whether the request has a body, empty ones of unknown length among them. */
  get hasBody(): boolean {
    return this.#reading !== "none";
  }

  get isBodyUnannounced(): boolean {
    return this.hasBody && this.header("content-length") === undefined;
  }

  async readBody(sizeBytesMax: number): Promise<Uint8Array> {
    const declaredBytes = declaredBytesOf(this, this.hasBody);
    if (declaredBytes === 0) return EMPTY_BYTES;
    const { bodyBudget: budget } = this.#host;
    if (declaredBytes !== undefined) {
      if (declaredBytes > sizeBytesMax) throw bodyTooLarge(sizeBytesMax, declaredBytes);
      if (!budget.hasRoom(declaredBytes)) throw bodyOverloaded();
    }
    this.continueBody();
    const incoming = this.stream;
    // What has closed tells nobody any more.
    if (incoming.destroyed) throw new RequestRefused("CANCELLED", "the client has gone");
    incoming.on("data", this.countBody);
    // A stream that is reset in the middle of its body emits `end` too.
    const wasCut = (): boolean => incoming.closed;
    const body = new NodeBodyReader({ incoming, sizeBytesMax, declaredBytes, budget, wasCut });
    this.#body = body;
    if (declaredBytes !== undefined || this.onUnannouncedBody === undefined) return body.read();
    try {
      return await body.read();
    } finally {
      this.onUnannouncedBody(body.receivedBytes);
    }
  }

  /** For whoever reads the body. */
  readonly countBody = (chunk: Buffer): void => this.#onBodyBytes(chunk.length);

  /** Whether the client may have sent more of its body than was read. */
  get isUnread(): boolean {
    return this.#reading === "to come";
  }

  /** Lets a client that waits for it send the body. */
  continueBody(): void {
    const { stream } = this;
    if (!this.head.expectsContinue || stream.headersSent || stream.closed) return;
    stream.additionalHeaders({ ":status": 100 });
  }

  /** Whether the client still owes a part of its body. */
  get isReceiving(): boolean {
    return this.#reading === "to come" && !(this.#body?.isComplete ?? false) && !this.#isAnswered;
  }

  /** Ends a request whose body comes too slowly: by an answer where a handler reads it. */
  failBody(error: RequestRefused): void {
    if (!(this.#body?.fail(error) ?? false)) this.reset();
  }

  /** Whether the client has taken the answer, all of it: to be asked when the stream has closed. */
  get isTaken(): boolean {
    const { stream } = this;
    return this.#isAnswered && stream.rstCode === NGHTTP2_NO_ERROR && stream.writableFinished;
  }

  /** Since when the client takes nothing of what waits for it; undefined when it does, or need not. */
  stalledSinceMs(nowMs: number): number | undefined {
    const isMoving = this.#takenCount !== this.#seenCount || this.stream.writableLength === 0;
    this.#seenCount = this.#takenCount;
    if (isMoving) this.#movedMs = nowMs;
    return isMoving ? undefined : this.#movedMs;
  }

  get wasReset(): boolean {
    return this.stream.closed && this.stream.rstCode !== NGHTTP2_NO_ERROR;
  }

  /** The client must not take what it has for all there is. */
  reset(code = NGHTTP2_CANCEL): void {
    this.stream.close(code);
  }

  /** After an answer that came before the end of its request: nobody waits for the rest of that for long. */
  endRequest(nowMs: number): void {
    if (!this.#isAnswered || !this.stream.writableFinished) return;
    this.#answeredMs ??= nowMs;
    if (nowMs - this.#answeredMs > this.#host.lingerTimeoutMs) this.stream.close(NGHTTP2_NO_ERROR);
  }

  /** Lets a streamed answer end early, because the server stops. */
  stopStream(): void {
    this.#isStopping = true;
    this.#sending?.stop();
    stopNotedStream(this);
  }

  /**
   * Sends the answer.
   *
   * @param more headers beside those of the answer, names and values in turn
   * @throws what Node says of headers that cannot be sent; nothing was sent then
   */
  send(answer: Answer, more: readonly string[] = this.commonHeaders()): void {
    const { stream } = this;
    this.#body?.release();
    const { body } = answer;
    if (stream.destroyed || stream.closed) {
      if (isBodyStream(body) || isPushBody(body)) body.close();
      return;
    }
    const isEmpty = hasNothing(body) || this.#takesNoBody(answer.status);
    if (!isEmpty && body instanceof Uint8Array && !this.#countAnswer(body.length)) {
      this.send(refusalAnswer(this.requestId, answerOverloaded(), false), more);
      return;
    }
    stream.respond(answerHead(answer, more), { endStream: isEmpty });
    this.status = answer.status;
    if (this.isUnread) this.#dropRest();
    if (isBodyStream(body)) {
      if (isEmpty) body.close();
      else void this.#sendStream(body);
    } else if (isPushBody(body)) {
      if (isEmpty) body.close();
      else this.#sendPush(body);
    } else {
      this.#isAnswered = true;
      if (!isEmpty) this.#sendBytes(typeof body === "string" ? Buffer.from(body) : body!);
    }
    if (isEmpty) this.#isAnswered = true;
  }

  /** Those of every answer. */
  commonHeaders(): readonly string[] {
    const { headers, cors } = this.#host;
    return cors.isOn ? headers.concat(cors.headersFor(this.header("origin"))) : headers;
  }

  #takesNoBody(status: number): boolean {
    return this.method === "HEAD" || status === 204 || status === 304;
  }

  /** In pieces, so that a client that takes them slowly is told from one that takes none. */
  #sendBytes(bytes: Uint8Array): void {
    const { stream } = this;
    let at = 0;
    const next = (): void => {
      if (at > 0) this.#takenCount++;
      while (!stream.destroyed && !stream.writableEnded) {
        const piece = bytes.subarray(at, at + HTTP2_PIECE_BYTES);
        at += HTTP2_PIECE_BYTES;
        if (at >= bytes.length) stream.end(piece);
        else if (!stream.write(piece)) return;
      }
    };
    if (bytes.length > HTTP2_PIECE_BYTES) stream.on("drain", next);
    next();
  }

  /** Piece by piece, each when the client has taken most of the one before. Never rejects. */
  async #sendStream(body: BodyStream): Promise<void> {
    const { stream } = this;
    this.#sending = body;
    if (this.#isStopping) body.stop();
    try {
      while (!stream.destroyed && !stream.closed) {
        const piece = await body.next();
        if (piece === undefined) break;
        if (!stream.destroyed && !stream.write(piece, this.#onTaken)) await drained(stream);
      }
      this.#isAnswered = true;
      if (!stream.destroyed) stream.end();
    } catch {
      this.reset(NGHTTP2_INTERNAL_ERROR);
    } finally {
      this.#sending = undefined;
      body.close();
    }
  }

  #sendPush(body: PushBody): void {
    const { stream } = this;
    this.#sending = body;
    this.isEndless = true;
    stream.on("drain", () => body.drained());
    stream.once("close", () => {
      this.#sending = undefined;
      body.close();
    });
    body.start({
      // Nobody waits for what a stream says to writes after its end.
      write: (bytes) =>
        stream.destroyed || stream.writableEnded || stream.write(bytes, this.#onTaken),
      end: () => {
        this.#isAnswered = true;
        if (!stream.destroyed) stream.end();
      },
    });
    if (this.#isStopping) body.stop();
  }

  readonly #onTaken = (): void => {
    this.#takenCount++;
  };

  /** Counts a large answer until the client has taken it or has gone. False when there is no room. */
  #countAnswer(sizeBytes: number): boolean {
    if (sizeBytes < GATEWAY_ANSWER_COUNTED_BYTES_MIN) return true;
    if (!this.#host.answerBudget.take(sizeBytes)) return false;
    this.#countedBytes = sizeBytes;
    return true;
  }

  /**
   * The rest of a body that is answered already is dropped, for a while: many clients do not look at an answer
   * before they have sent all, and some lose it when their stream is reset meanwhile. Then they are told that
   * nobody listens (RFC 9113, 8.1). Had nobody begun to read, the library would tell them at once.
   */
  #dropRest(): void {
    const { stream } = this;
    let droppedBytes = 0;
    stream.on("data", (chunk: Buffer) => {
      if (this.#body === undefined) this.countBody(chunk);
      droppedBytes += chunk.length;
      if (droppedBytes > HTTP_LINGER_BYTES_MAX) stream.close(NGHTTP2_NO_ERROR);
    });
    stream.resume();
  }

  readonly #onClose = (): void => {
    this.#body?.release();
    this.#host.answerBudget.giveBack(this.#countedBytes);
    this.#countedBytes = 0;
    this.cancellation.cancel();
  };
}

const hasNothing = (body: Answer["body"]): boolean =>
  body === undefined || body === "" || (body instanceof Uint8Array && body.length === 0);
