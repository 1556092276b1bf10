/** A watch as the body of an answer: Server-Sent Events, as the hub writes them. */
import type { PushBody, PushWriter } from "#gateway/http/exchange.ts";
import { utf8 } from "#shared/bytes.ts";
import type { WatchSession } from "./watch-session.ts";

export class SseBody implements PushBody {
  readonly #session: WatchSession;
  readonly #retryMs: number;

  /** @param retryMs what a browser is to wait before it connects again */
  constructor(session: WatchSession, retryMs: number) {
    this.#session = session;
    this.#retryMs = retryMs;
  }

  start(writer: PushWriter): void {
    // At once: proxies and clients see that the stream is open when there is something in it.
    writer.write(utf8(`retry: ${this.#retryMs}\n: watching\n\n`));
    this.#session.attach({ write: (bytes) => writer.write(bytes), end: () => writer.end() });
  }

  drained(): void {
    this.#session.drained();
  }

  stop(): void {
    this.#session.finish({ kind: "drain" });
  }

  close(): void {
    this.#session.close();
  }
}
