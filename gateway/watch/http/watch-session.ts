/**
 * One watch and the connection that carries it. Stands between the hub, which may write as soon as the watch
 * is open, and the connection, which takes bytes only behind the head of its answer.
 */
import type { Watch, WatchClient, WatchEnding } from "#gateway/watch/watches.ts";
import { WATCH_EARLY_BYTES_MAX } from "#shared/limits-watch-http.ts";

/** `busy`: the hub ends the watch by itself, and not because the gateway stops. */
export type SessionEnd = WatchEnding["kind"] | "busy";

export type SessionCarrier = {
  /** As `PushWriter.write`. */
  readonly write: (bytes: Uint8Array) => boolean;
  /** Behind the last bytes. */
  readonly end: (why: SessionEnd) => void;
};

export class WatchSession implements WatchClient {
  readonly #isDraining: () => boolean;
  readonly #onOver: () => void;
  #watch: Watch | undefined;
  #carrier: SessionCarrier | undefined;
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #end: SessionEnd | undefined;
  #isOver = false;

  /** @param onOver runs once, when the watch is closed */
  constructor(options: { readonly isDraining: () => boolean; readonly onOver: () => void }) {
    this.#isDraining = options.isDraining;
    this.#onOver = options.onOver;
  }

  /** The watch is open; the connection may have gone meanwhile. */
  opened(watch: Watch): void {
    if (this.#isOver) watch.close();
    else this.#watch = watch;
  }

  /** From now on bytes go to the connection. */
  attach(carrier: SessionCarrier): void {
    if (this.#isOver) return;
    this.#carrier = carrier;
    let takesMore = true;
    for (const bytes of this.#early) takesMore = carrier.write(bytes);
    const wasFull = this.#earlyBytes >= WATCH_EARLY_BYTES_MAX;
    this.#early = [];
    if (this.#end !== undefined) carrier.end(this.#end);
    else if (wasFull && takesMore) this.drained();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#end !== undefined || this.#isOver) return true;
    if (this.#carrier !== undefined) return this.#carrier.write(bytes);
    this.#early.push(bytes);
    this.#earlyBytes += bytes.length;
    return this.#earlyBytes < WATCH_EARLY_BYTES_MAX;
  }

  /** The hub ends the watch. */
  end(): void {
    this.#endWith(this.#isDraining() ? "drain" : "busy");
  }

  drained(): void {
    if (!this.#isOver) this.#watch?.drained();
  }

  /** With a last event that says why. Nothing when it has ended before. */
  finish(ending: WatchEnding): void {
    if (this.#end !== undefined || this.#isOver) return;
    this.#watch?.finish(ending);
    this.#endWith(ending.kind);
  }

  /** The client has gone, or has got the end. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#early = [];
    this.#watch?.close();
    this.#onOver();
  }

  #endWith(end: SessionEnd): void {
    if (this.#end !== undefined || this.#isOver) return;
    this.#end = end;
    this.#carrier?.end(end);
  }
}
