/**
 * A streamed answer that is given out only as long as its reader would still be let in: it may last for
 * longer than the key or token with which it was asked for.
 */
import type { BodyStream } from "./exchange.ts";

export class RenewedStream implements BodyStream {
  readonly #inner: BodyStream;
  readonly #renew: () => Promise<void>;

  /** @param renew rejects when its reader is to get no more; the connection then breaks off */
  constructor(inner: BodyStream, renew: () => Promise<void>) {
    this.#inner = inner;
    this.#renew = renew;
  }

  async next(): Promise<Uint8Array | undefined> {
    const piece = await this.#inner.next();
    // Behind the wait for it, which may have been long.
    if (piece !== undefined) await this.#renew();
    return piece;
  }

  stop(): void {
    this.#inner.stop();
  }

  close(): void {
    this.#inner.close();
  }
}
