/**
 * Messages on their way, from all replicas to all. Which one arrives next is drawn from a window
 * behind the oldest one: within it messages overtake one another, a window of 1 keeps the order.
 */
import type { ReplicaId } from "#shared/ids.ts";
import type { Message } from "#storage-node/raft/types.ts";

/** Messages that were sent before and may come once more, long after. */
const REMEMBERED = 512;

export class SimNetwork {
  readonly #inFlightMax: number;
  #messages: Message[] = [];
  #head = 0;
  /** The last messages that were sent, in a ring. */
  readonly #sent: Message[] = [];
  #sentCount = 0;
  readonly #cuts = new Set<number>();

  constructor(inFlightMax: number) {
    this.#inFlightMax = inFlightMax;
  }

  get size(): number {
    return this.#messages.length - this.#head;
  }
  get cuts(): number {
    return this.#cuts.size;
  }

  /** False when the queues are full and the message is lost. */
  send(message: Message): boolean {
    if (this.size >= this.#inFlightMax) return false;
    this.#messages.push(message);
    this.#sent[this.#sentCount++ % REMEMBERED] = message;
    return true;
  }

  /** One of the last messages that were sent, whatever has become of it. */
  earlier(drawn: number): Message {
    return this.#sent[drawn % this.#sent.length]!;
  }

  /** The message `offset` places behind the oldest, which takes its place. */
  take(offset: number): Message {
    const messages = this.#messages;
    const message = messages[this.#head + offset]!;
    messages[this.#head + offset] = messages[this.#head]!;
    this.#head++;
    if (this.#head > 256 && this.#head * 2 > messages.length) {
      messages.splice(0, this.#head);
      this.#head = 0;
    }
    return message;
  }

  peek(offset: number): Message {
    return this.#messages[this.#head + offset]!;
  }

  /** Everything on its way, oldest first; nothing is on its way any more. */
  takeAll(): readonly Message[] {
    const all = this.#messages.slice(this.#head);
    this.#messages = [];
    this.#head = 0;
    return all;
  }

  /** Nothing that `from` sends reaches `to` any more. */
  cut(from: ReplicaId, to: ReplicaId): void {
    this.#cuts.add(from * 4096 + to);
  }

  isCut(from: ReplicaId, to: ReplicaId): boolean {
    return this.#cuts.size > 0 && this.#cuts.has(from * 4096 + to);
  }

  heal(): void {
    this.#cuts.clear();
  }
}
