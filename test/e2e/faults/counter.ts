/**
 * A number under one key that several clients count up with `If-Match`, for lost updates: every
 * acknowledged increment must have a number of its own, and after a crash the number must be that of
 * the acknowledged increments and at most those in doubt.
 */

import type { KvClient } from "./kv-client.ts";
import { fateOf, type Ledger } from "./ledger.ts";
import { makePayload, verifyPayload } from "./payload.ts";

const VALUE_SIZE_BYTES = 64;

export class Counter {
  readonly key: string;
  readonly #client: KvClient;
  readonly #ledger: Ledger;
  /** The number when it was last verified. */
  #verified = 0;
  readonly #acknowledged = new Set<number>();
  #doubts = 0;

  /** `ledger` learns how many changes the counter has made. */
  constructor(key: string, client: KvClient, ledger: Ledger) {
    this.key = key;
    this.#client = client;
    this.#ledger = ledger;
  }

  /** Reads, and writes one more unless somebody else was quicker. @returns whether it answered. */
  async increment(): Promise<boolean> {
    const { key } = this;
    const read = await this.#client.send("GET", key);
    if (read.kind !== "answer") return false;
    if (read.status !== 200 && read.status !== 404) return false;
    const next = (read.status === 404 ? 0 : verifyPayload(key, read.body)) + 1;
    const condition = next === 1 ? { "If-None-Match": "*" } : { "If-Match": `"${read.revision}"` };
    const body = makePayload({ key, sequence: next }, VALUE_SIZE_BYTES);
    const result = await this.#client.send("PUT", key, { body, headers: condition });
    if (result.kind === "answer" && result.status === 412) return true;
    const fate = fateOf(result, [next === 1 ? 201 : 200]);
    if (fate === "unknown") this.#doubts++;
    if (fate !== "applied") return false;
    if (next <= this.#verified || this.#acknowledged.has(next)) {
      throw new Error(`${key}: the increment to ${next} was acknowledged twice`);
    }
    this.#acknowledged.add(next);
    return true;
  }

  /** @throws Error when increments were lost, or came from nowhere. */
  async verify(): Promise<void> {
    const { key } = this;
    const answer = await this.#client.answer("GET", key);
    const found = answer.status === 404 ? 0 : verifyPayload(key, answer.body);
    const least = Math.max(this.#verified, ...this.#acknowledged);
    const count = found - this.#verified;
    if (found < least || count < this.#acknowledged.size) {
      const promised = `${this.#acknowledged.size} increments to at least ${least}`;
      throw new Error(`${key} is ${found}, from ${this.#verified}, after ${promised}`);
    }
    if (count > this.#acknowledged.size + this.#doubts) {
      throw new Error(`${key} is ${found}: more than ${this.#doubts} increments in doubt explain`);
    }
    this.#ledger.countChanges(key, count);
    this.#verified = found;
    this.#acknowledged.clear();
    this.#doubts = 0;
  }
}
