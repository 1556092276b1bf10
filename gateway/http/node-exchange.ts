/**
 * An exchange straight on Node's request and response: the hot path.
 *
 * It also keeps the promises that need the socket: `100 Continue` is sent only when the handler
 * starts to read the body, so a request that is refused gets its final status instead; and an
 * answer that comes before the end of a large body is followed by a short reading on, because
 * closing at once would make the kernel reset the connection and lose the answer.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Cancellation } from "#gateway/storage/cancellation.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import {
  GATEWAY_ANSWER_COUNTED_BYTES_MIN,
  HTTP_LINGER_BYTES_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import type { RequestTrace } from "#shared/tracing.ts";
import type { BodyBudget } from "./body-budget.ts";
import { answerOverloaded, bodyOverloaded, bodyTooLarge } from "./body-refusals.ts";
import type { Cors } from "./cors.ts";
import { drained } from "./drained.ts";
import {
  type Answer,
  type BodyStream,
  type Exchange,
  isBodyStream,
  isPushBody,
  type PushBody,
} from "./exchange.ts";
import { NodeBodyReader } from "./node-body.ts";
import { type RequestRefused, refusalAnswer } from "./problem.ts";
import type { RequestIds } from "./request-id.ts";
import { originForm } from "./request-target.ts";
import { stopNotedStream } from "./routed-stream.ts";

/** Up to here a body of bytes leaves in one piece with its head; about 1 KiB it no longer pays. */
const JOINED_BODY_SIZE_BYTES_MAX = 512;

/** What an exchange needs of its connection and server. */
export type NodeExchangeHost = {
  readonly requestIds: RequestIds;
  readonly bodyBudget: BodyBudget;
  readonly answerBudget: BodyBudget;
  readonly lingerTimeoutMs: number;
  /** Of every answer; names and values in turn. */
  readonly headers: readonly string[];
  readonly cors: Cors;
};

export type NodeExchangeOptions = {
  readonly host: NodeExchangeHost;
  /** Of the connection. */
  readonly cancellation: Cancellation;
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** The client waits for `100 Continue` before it sends its body. */
  readonly expectsContinue: boolean;
};

export class NodeExchange implements Exchange {
  readonly method: string;
  readonly target: string;
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly cancellation: Cancellation;
  onUnannouncedBody: ((sizeBytes: number) => void) | undefined = undefined;
  trace: RequestTrace | undefined = undefined;
  /** When it was begun. */
  readonly startedMs = performance.now();
  /** Number of its route in the figures; 0 while none is known. */
  route = 0;
  /** The answer lasts as long as its reader likes. */
  isPushed = false;
  readonly #host: NodeExchangeHost;
  readonly #expectsContinue: boolean;
  #requestId: string | undefined;
  #body: NodeBodyReader | undefined;
  /** The answer's body while it is being sent. */
  #stream: BodyStream | PushBody | undefined;
  #isStopping = false;
  /** The whole answer is with the socket, ahead of the end of the request. */
  #isAnsweredEarly = false;

  constructor(options: NodeExchangeOptions) {
    const { incoming } = options;
    this.method = incoming.method ?? "GET";
    this.target = originForm(incoming.url ?? "/");
    this.incoming = incoming;
    this.outgoing = options.outgoing;
    this.#host = options.host;
    this.cancellation = options.cancellation;
    this.#expectsContinue = options.expectsContinue;
  }

  get requestId(): string {
    return (this.#requestId ??= this.#host.requestIds(this.header("x-request-id")));
  }

  get peerAddress(): string {
    return this.incoming.socket.remoteAddress ?? "";
  }

  header(name: string): string | undefined {
    // Only `set-cookie` would be a list, and it is no request header.
    return this.incoming.headers[name] as string | undefined;
  }

  get originIsNamed(): boolean {
    const origin = this.header("origin");
    return origin !== undefined && this.#host.cors.isNamed(origin);
  }

  /** The answer to a preflight request of a page that may send others; undefined for what is none. */
  preflight(): Answer | undefined {
    return this.method === "OPTIONS" ? this.#host.cors.preflight(this) : undefined;
  }

  /** The answer's own headers and those of every answer, as Node takes them. */
  #headersOf({ headers }: Answer): string[] {
    const { headers: common, cors } = this.#host;
    if (!cors.isOn) return headers.concat(common);
    return headers.concat(common, cors.headersFor(this.header("origin")));
  }

  /** For an answer that is made elsewhere. */
  setCommonHeaders(): void {
    const { headers: common, cors } = this.#host;
    const all = common.concat(cors.headersFor(this.header("origin")));
    for (let at = 0; at < all.length; at += 2) this.outgoing.setHeader(all[at]!, all[at + 1]!);
  }

  get isBodyUnannounced(): boolean {
    return this.incoming.headers["transfer-encoding"] !== undefined;
  }

  async readBody(sizeBytesMax: number): Promise<Uint8Array> {
    const declaredBytes = this.#declaredBytes();
    if (declaredBytes === 0) return EMPTY_BYTES;
    if (declaredBytes !== undefined) {
      if (declaredBytes > sizeBytesMax) throw bodyTooLarge(sizeBytesMax, declaredBytes);
      if (!this.#host.bodyBudget.hasRoom(declaredBytes)) throw bodyOverloaded();
    }
    if (this.#expectsContinue) this.outgoing.writeContinue();
    const { incoming } = this;
    const { bodyBudget: budget } = this.#host;
    const body = new NodeBodyReader({ incoming, sizeBytesMax, declaredBytes, budget });
    this.#body = body;
    if (declaredBytes !== undefined || this.onUnannouncedBody === undefined) return body.read();
    try {
      return await body.read();
    } finally {
      this.onUnannouncedBody(body.receivedBytes);
    }
  }

  /** Undefined for a chunked body; 0 when there is none. */
  #declaredBytes(): number | undefined {
    const declared = this.incoming.headers["content-length"];
    if (declared !== undefined) return Number(declared);
    return this.incoming.headers["transfer-encoding"] === undefined ? 0 : undefined;
  }

  /** Whether nothing of the request is still to come. */
  get isReceived(): boolean {
    return this.incoming.complete || (this.#body?.isComplete ?? false);
  }

  get isAnsweredEarly(): boolean {
    return this.#isAnsweredEarly;
  }

  /** Makes a body that is being read fail. @returns false when none is. */
  failBody(error: RequestRefused): boolean {
    return this.#body?.fail(error) ?? false;
  }

  /** Sends the answer and calls `done` when the connection may go on to its next request. */
  send(answer: Answer, done: () => void): void {
    const { outgoing } = this;
    this.#body?.release();
    const { body } = answer;
    if (isBodyStream(body)) {
      if (this.#isMuchUnread()) outgoing.shouldKeepAlive = false;
      void this.#sendStream(answer, body).then(done);
      return;
    }
    if (isPushBody(body)) {
      this.#sendPush(answer, body, done);
      return;
    }
    if (this.#isMuchUnread()) {
      this.#sendAndLinger(answer, body, done);
      return;
    }
    if (body instanceof Uint8Array && body.length >= GATEWAY_ANSWER_COUNTED_BYTES_MIN) {
      if (!this.#countAnswer(body.length)) {
        this.send(refusalAnswer(this.requestId, answerOverloaded(), false), done);
        return;
      }
    }
    if (!outgoing.destroyed) {
      outgoing.writeHead(answer.status, this.#headersOf(answer));
      // Node sends a string and the head in one piece, but bytes as a second piece behind it. One
      // character per byte loses nothing, and copying little is cheaper than a list of pieces.
      if (body instanceof Uint8Array && body.length <= JOINED_BODY_SIZE_BYTES_MAX) {
        const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
        outgoing.end(bytes.toString("latin1"), "latin1");
      } else {
        outgoing.end(body);
      }
    }
    done();
  }

  /** Lets a streamed answer end early, because the server stops. */
  stopStream(): void {
    this.#isStopping = true;
    this.#stream?.stop();
    stopNotedStream(this.outgoing);
  }

  /** Piece by piece, each when the client has taken most of the one before. Never rejects. */
  async #sendStream(answer: Answer, stream: BodyStream): Promise<void> {
    const { outgoing } = this;
    this.#stream = stream;
    if (this.#isStopping) stream.stop();
    try {
      if (!outgoing.destroyed) outgoing.writeHead(answer.status, this.#headersOf(answer));
      while (!outgoing.destroyed) {
        const piece = await stream.next();
        if (piece === undefined) break;
        if (!outgoing.write(piece)) await drained(outgoing);
      }
      outgoing.end();
    } catch {
      // The client must not take what it has for all there is.
      this.incoming.socket.destroy();
    } finally {
      stream.close();
      this.#stream = undefined;
    }
  }

  /**
   * Lets the body write straight to the connection, which ends with it: framing each piece as a chunk would
   * cost three writes for one, a thousand times over when a thousand clients get the same bytes.
   */
  #sendPush(answer: Answer, body: PushBody, done: () => void): void {
    const { outgoing } = this;
    if (outgoing.destroyed) {
      body.close();
      done();
      return;
    }
    this.#stream = body;
    this.isPushed = true;
    outgoing.useChunkedEncodingByDefault = false;
    outgoing.writeHead(answer.status, this.#headersOf(answer));
    const { socket } = this.incoming;
    let hasBegun = false;
    const onDrain = (): void => body.drained();
    socket.on("drain", onDrain);
    outgoing.once("close", () => {
      socket.off("drain", onDrain);
      this.#stream = undefined;
      body.close();
      done();
    });
    body.start({
      write: (bytes) => {
        // A destroyed response would answer each write with an error that nobody awaits.
        if (outgoing.destroyed) return true;
        // The response sends its head with the first bytes, and before its turn on the connection it keeps what it
        // is given. From then on it would only hold each piece back for a turn, which costs as much again.
        if (hasBegun && outgoing.socket !== null) return socket.write(bytes);
        hasBegun = true;
        return outgoing.write(bytes);
      },
      end: () => outgoing.end(),
    });
    if (this.#isStopping) body.stop();
  }

  /** Counts a large answer until the client has taken it or has gone. False when there is no room. */
  #countAnswer(sizeBytes: number): boolean {
    const { answerBudget } = this.#host;
    if (this.outgoing.destroyed) return true;
    if (!answerBudget.take(sizeBytes)) return false;
    this.outgoing.once("close", () => answerBudget.giveBack(sizeBytes));
    return true;
  }

  /**
   * Whether the client may still be sending, and what it sends is not simply received: because it
   * is much, or because the connection ends anyway.
   */
  #isMuchUnread(): boolean {
    if (this.isReceived || this.outgoing.destroyed) return false;
    const declaredBytes = this.#declaredBytes();
    if (declaredBytes === 0) return false;
    if (!this.outgoing.shouldKeepAlive || this.#expectsContinue) return true;
    return declaredBytes === undefined || declaredBytes > VALUE_SIZE_BYTES_MAX;
  }

  #sendAndLinger(answer: Answer, body: Uint8Array | string | undefined, done: () => void): void {
    const { incoming, outgoing } = this;
    outgoing.shouldKeepAlive = false;
    outgoing.writeHead(answer.status, this.#headersOf(answer));
    // The whole answer leaves now; `end` waits, because Node closes the socket with it.
    if (body === undefined) outgoing.flushHeaders();
    else outgoing.write(body);
    this.#isAnsweredEarly = true;
    let droppedBytes = 0;
    let ended = false;
    const end = (): void => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      outgoing.end();
      done();
    };
    const timer = setTimeout(end, this.#host.lingerTimeoutMs);
    incoming.on("data", (chunk: Buffer) => {
      droppedBytes += chunk.length;
      if (droppedBytes > HTTP_LINGER_BYTES_MAX) end();
    });
    incoming.on("end", end);
    incoming.on("close", end);
    incoming.resume();
  }
}
