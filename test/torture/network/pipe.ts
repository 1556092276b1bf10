/**
 * One direction of a proxied connection: what one socket says, to the other, as the link's rule has it.
 *
 * Order is kept, and nothing is lost or changed: a rule holds bytes back, and the end of the connection
 * too. Bytes held back are bounded: beyond that the sender is not read any more, and TCP holds it up.
 */
import type { Socket } from "node:net";
import type { LinkRule } from "./rules.ts";

const HELD_BYTES_MAX = 256 * 1024;

type Item = { readonly dueMs: number; readonly chunk: Buffer | "end" | "destroy" };

export class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #rule: () => LinkRule;
  readonly #queue: Item[] = [];
  #queuedBytes = 0;
  /** When the link is free for the next byte. */
  #freeMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #peerIsFull = false;

  constructor(from: Socket, to: Socket, rule: () => LinkRule) {
    this.#from = from;
    this.#to = to;
    this.#rule = rule;
    from.on("data", (chunk: Buffer) => this.#push(chunk));
    from.on("end", () => this.#push("end"));
    from.on("close", () => this.#push("destroy"));
    to.on("drain", () => {
      this.#peerIsFull = false;
      this.refresh();
    });
    to.on("close", () => clearTimeout(this.#timer));
    this.refresh();
  }

  /** The rule may have changed. */
  refresh(): void {
    this.#pump();
    const isHeldUp =
      this.#peerIsFull || this.#queuedBytes >= HELD_BYTES_MAX || this.#rule().block !== undefined;
    if (isHeldUp) this.#from.pause();
    else if (!this.#from.destroyed) this.#from.resume();
  }

  #push(chunk: Item["chunk"]): void {
    const { delayMs = 0, bytesPerSecond } = this.#rule();
    const nowMs = performance.now();
    const sizeBytes = typeof chunk === "string" ? 0 : chunk.length;
    const sendingMs = bytesPerSecond === undefined ? 0 : (sizeBytes / bytesPerSecond) * 1000;
    this.#freeMs = Math.max(this.#freeMs, nowMs) + sendingMs;
    // Never before what was sent earlier, whatever the rule was then.
    const dueMs = Math.max(this.#freeMs + delayMs, this.#queue.at(-1)?.dueMs ?? 0);
    this.#queue.push({ dueMs, chunk });
    this.#queuedBytes += sizeBytes;
    this.refresh();
  }

  #pump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#to.destroyed) this.#queue.length = 0;
    while (this.#queue.length > 0 && this.#rule().block === undefined) {
      const { dueMs, chunk } = this.#queue[0]!;
      const waitMs = dueMs - performance.now();
      if (waitMs > 0.5) {
        this.#timer = setTimeout(() => this.refresh(), waitMs);
        return;
      }
      this.#queue.shift();
      this.#deliver(chunk);
    }
  }

  #deliver(chunk: Item["chunk"]): void {
    if (chunk === "end") this.#to.end();
    else if (chunk === "destroy") this.#to.destroy();
    else {
      this.#queuedBytes -= chunk.length;
      if (!this.#to.write(chunk)) this.#peerIsFull = true;
    }
  }
}
