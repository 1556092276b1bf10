/**
 * One connection of HTTP/2: its streams, and what it may cost.
 *
 * Node's library holds bounds of frames that are wrong, of settings and acknowledgements that pile up and of
 * its own memory. It has none for a client that keeps to the protocol and wastes: here are those of streams
 * that are opened and reset, of frames that carry nothing, of bodies and readers that are slow, and of
 * connections that are idle. What exceeds them gets GOAWAY with ENHANCE_YOUR_CALM, or its stream reset.
 */
import {
  constants,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import { requestTooSlow } from "#gateway/http/request-refusals.ts";
import { TokenBucket } from "#gateway/limits/token-bucket.ts";
import {
  HTTP2_CONNECTION_WINDOW_BYTES,
  HTTP2_HEADER_LIST_BYTES_MAX,
  HTTP2_HEADERS_MAX,
  HTTP2_INVALID_FRAMES_MAX,
  HTTP2_OVERHEAD_BYTES_BURST,
  HTTP2_OVERHEAD_BYTES_PER_SECOND,
  HTTP2_REJECTED_STREAMS_MAX,
  HTTP2_RESETS_BURST,
  HTTP2_RESETS_PER_SECOND,
  HTTP2_RUNNING_MAX,
  HTTP2_SENT_BYTES_PER_OVERHEAD_BYTE,
  HTTP2_SESSION_MEMORY_MB_MAX,
  HTTP2_SETTINGS_ENTRIES_MAX,
  HTTP2_STREAM_WINDOW_BYTES,
  HTTP2_STREAMS_MAX,
} from "#shared/limits.ts";
import { Http2Exchange, type Http2ExchangeHost } from "./http2-exchange.ts";
import { RequestHead } from "./request-head.ts";

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_REFUSED_STREAM } = constants;

const SESSION_OPTIONS = {
  settings: {
    enablePush: false,
    maxConcurrentStreams: HTTP2_STREAMS_MAX,
    maxHeaderListSize: HTTP2_HEADER_LIST_BYTES_MAX,
    initialWindowSize: HTTP2_STREAM_WINDOW_BYTES,
  },
  maxHeaderListPairs: HTTP2_HEADERS_MAX,
  maxSettings: HTTP2_SETTINGS_ENTRIES_MAX,
  maxSessionMemory: HTTP2_SESSION_MEMORY_MB_MAX,
  maxSessionInvalidFrames: HTTP2_INVALID_FRAMES_MAX,
  maxSessionRejectedStreams: HTTP2_REJECTED_STREAMS_MAX,
  // The library's own bound says INTERNAL_ERROR. Ours is met first, except by what one read holds.
  streamResetBurst: 16 * HTTP2_RESETS_BURST,
  streamResetRate: 16 * HTTP2_RESETS_PER_SECOND,
  // An answer says over HTTP/2 what it says over HTTP/1.1, which takes a header twice.
  strictSingleValueFields: false,
  // What begins or ends with white space would be dropped without a word, a condition among it. Seen, it is refused.
  strictFieldWhitespaceValidation: false,
};

export type Http2Timeouts = {
  /** From the handshake until the client has confirmed the settings. */
  readonly headersTimeoutMs: number;
  /** From a request's headers to the end of its body. */
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** From a GOAWAY to the end of the socket. */
  readonly lingerTimeoutMs: number;
};

export type Http2ConnectionOptions = {
  readonly socket: TLSSocket;
  readonly timeouts: Http2Timeouts;
  readonly host: Http2ExchangeHost;
  readonly nowMs: () => number;
  /** Answers a request; resolves when its handler has come to its end. Never rejects. */
  readonly serve: (exchange: Http2Exchange) => Promise<void>;
  /** Told of each request whose stream has closed. */
  readonly onEnd: (exchange: Http2Exchange) => void;
  readonly onClose: () => void;
};

export class Http2Connection {
  readonly #socket: TLSSocket;
  readonly #session: ServerHttp2Session;
  readonly #options: Http2ConnectionOptions;
  readonly #peerAddress: string;
  readonly #exchanges = new Set<Http2Exchange>();
  readonly #resets: TokenBucket;
  readonly #overhead: TokenBucket;
  /** Handlers that have not come to their end, those of streams that are gone among them. */
  #runningCount = 0;
  /** Whether the client has confirmed the settings, and with them the bounds that they name. */
  #isAgreed = false;
  #isEnding = false;
  #isCalmed = false;
  readonly #startedMs: number;
  #idleSinceMs: number;
  /** Of the socket, and of what was read those that were headers or bodies. */
  #readBytes = 0;
  #sentBytes = 0;
  #usefulBytes = 0;
  /** What may still arrive of bodies that nobody waits for any more. */
  #unreadBytes = 0;

  constructor(options: Http2ConnectionOptions) {
    const { socket, nowMs } = options;
    this.#options = options;
    this.#socket = socket;
    this.#peerAddress = socket.remoteAddress ?? "";
    const startMs = nowMs();
    this.#startedMs = startMs;
    this.#idleSinceMs = startMs;
    this.#resets = new TokenBucket(HTTP2_RESETS_PER_SECOND, HTTP2_RESETS_BURST, startMs);
    this.#overhead = new TokenBucket(
      HTTP2_OVERHEAD_BYTES_PER_SECOND,
      HTTP2_OVERHEAD_BYTES_BURST,
      startMs,
    );
    const session = performServerHandshake(socket, SESSION_OPTIONS);
    this.#session = session;
    // Both say nothing that `close` does not, and without a listener would end the process.
    session.on("error", () => undefined);
    session.on("frameError", () => undefined);
    session.once("localSettings", () => {
      this.#isAgreed = true;
    });
    session.on("stream", this.#onStream);
    session.setLocalWindowSize(HTTP2_CONNECTION_WINDOW_BYTES);
    socket.once("close", () => options.onClose());
  }

  /** To be called now and then. */
  check(): void {
    const nowMs = this.#options.nowMs();
    const { timeouts } = this.#options;
    this.#checkOverhead(nowMs);
    for (const exchange of this.#exchanges) {
      if (exchange.isReceiving && nowMs - exchange.startedMs > timeouts.requestTimeoutMs) {
        exchange.failBody(requestTooSlow());
      }
      const stalledMs = exchange.stalledSinceMs(nowMs);
      if (stalledMs !== undefined && nowMs - stalledMs > timeouts.stallTimeoutMs) {
        // A socket that takes not even the reset is of no use for any stream.
        if (exchange.wasReset) this.cut();
        else exchange.reset();
      }
      exchange.endRequest(nowMs);
    }
    if (!this.#isAgreed && nowMs - this.#startedMs > timeouts.headersTimeoutMs) this.cut();
    const isIdle = this.#exchanges.size === 0;
    if (isIdle && nowMs - this.#idleSinceMs > timeouts.keepAliveTimeoutMs) this.endAfterRunning();
  }

  /**
   * Takes no more requests, and closes behind the last one that runs. GOAWAY names that one: of what the
   * client has sent behind it, it knows that nothing was carried out.
   */
  endAfterRunning(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#session.close();
    if (this.#exchanges.size === 0) this.#closeWithin(this.#options.timeouts.stallTimeoutMs);
  }

  /** Whether a request runs here. */
  get isBusy(): boolean {
    return this.#exchanges.size > 0;
  }

  /** Lets streamed answers end early, because the server stops. */
  stopStreams(): void {
    for (const exchange of this.#exchanges) exchange.stopStream();
  }

  /** At once, whatever runs. */
  cut(): void {
    this.#socket.destroy();
  }

  /**
   * A client that wastes is told so, and cut a little later: closing with bytes unread would reset the
   * connection, and the client would not know why. Until then the library drops what is new.
   */
  #calm(): void {
    if (this.#isCalmed) return;
    this.#isCalmed = true;
    setImmediate(() => {
      if (!this.#session.destroyed) this.#session.goaway(NGHTTP2_ENHANCE_YOUR_CALM);
      this.#closeWithin(this.#options.timeouts.lingerTimeoutMs);
    });
  }

  /**
   * The library has ended its side, or is about to, and the client closes. At once would be too early:
   * windows that it still opens would then reset the connection, and lose the end of an answer. But a socket
   * that takes nothing would never close by itself.
   */
  #closeWithin(timeoutMs: number): void {
    const timer = setTimeout(() => this.#socket.destroy(), timeoutMs);
    this.#socket.once("close", () => clearTimeout(timer));
  }

  #checkOverhead(nowMs: number): void {
    const { bytesRead, bytesWritten } = this.#socket;
    const read = bytesRead - this.#readBytes;
    const excused =
      this.#usefulBytes + (bytesWritten - this.#sentBytes) / HTTP2_SENT_BYTES_PER_OVERHEAD_BYTE;
    this.#readBytes = bytesRead;
    this.#sentBytes = bytesWritten;
    this.#usefulBytes = 0;
    // Less than nothing where bodies are counted later than they were read from the socket.
    this.#overhead.charge(read - excused - this.#forgive(read - excused), nowMs);
    // What waited in streams that have ended since was charged when it was read, and not held against the client then.
    this.#overhead.charge(-this.#forgive(-this.#overhead.level(nowMs)), nowMs);
    const buffered = this.#exchanges.values().filter(({ isUnread }) => isUnread);
    const bufferedBytes = HTTP2_STREAM_WINDOW_BYTES * buffered.reduce((count) => count + 1, 0);
    if (this.#overhead.level(nowMs) + bufferedBytes < 0) this.#calm();
  }

  /** So many of the bytes may be of bodies that nobody waited for. */
  #forgive(sizeBytes: number): number {
    const unread = Math.min(Math.max(sizeBytes, 0), this.#unreadBytes);
    this.#unreadBytes -= unread;
    return unread;
  }

  readonly #onBodyBytes = (sizeBytes: number): void => {
    this.#usefulBytes += sizeBytes;
  };

  readonly #onStream = (
    stream: ServerHttp2Stream,
    _headers: unknown,
    _flags: number,
    raw: string[],
  ): void => {
    stream.on("error", () => undefined);

    if (this.#session.destroyed) return;
    if (this.#isCalmed) {
      stream.close(NGHTTP2_REFUSED_STREAM);
      return;
    }
    // Some are reset in the same breath.
    if (stream.destroyed || this.#runningCount >= HTTP2_RUNNING_MAX) {
      stream.close(NGHTTP2_REFUSED_STREAM);
      this.#countReset();
      return;
    }
    const head = new RequestHead(raw);
    this.#usefulBytes += head.sizeBytes;
    const { host, nowMs, serve } = this.#options;
    const exchange = new Http2Exchange({
      ...{ host, stream, head },
      peerAddress: this.#peerAddress,
      nowMs: nowMs(),
      onBodyBytes: this.#onBodyBytes,
    });
    this.#exchanges.add(exchange);
    this.#runningCount++;
    stream.once("close", () => this.#onStreamClosed(exchange));
    void serve(exchange).then(() => {
      this.#runningCount--;
    });
  };

  #onStreamClosed(exchange: Http2Exchange): void {
    this.#exchanges.delete(exchange);
    this.#options.onEnd(exchange);
    if (exchange.isUnread) {
      const atOnceMax = HTTP2_STREAMS_MAX * HTTP2_STREAM_WINDOW_BYTES;
      this.#unreadBytes = Math.min(this.#unreadBytes + HTTP2_STREAM_WINDOW_BYTES, atOnceMax);
    }
    if (!exchange.isTaken) this.#countReset();
    if (this.#exchanges.size > 0) return;
    this.#idleSinceMs = this.#options.nowMs();
    if (this.#isEnding) this.#closeWithin(this.#options.timeouts.stallTimeoutMs);
  }

  /** By whichever side: a client can make this one reset its streams. */
  #countReset(): void {
    if (!this.#resets.take(1, this.#options.nowMs())) this.#calm();
  }
}
