/**
 * Counts the bytes of request bodies that the gateway holds, so that many clients with large
 * values cannot exhaust its memory. Bytes count from their arrival until the answer is sent. They
 * are not reserved ahead from Content-Length: clients that announce much and send nothing would
 * then lock all others out.
 *
 * A second one counts the large bodies of answers, from sending until the client has taken them or has
 * gone: clients that ask for much and read nothing.
 */
import { assert } from "#shared/assert.ts";

export class BodyBudget {
  readonly sizeBytesMax: number;
  #held = 0;

  constructor(sizeBytesMax: number) {
    this.sizeBytesMax = sizeBytesMax;
  }

  get heldBytes(): number {
    return this.#held;
  }

  hasRoom(sizeBytes: number): boolean {
    return this.#held + sizeBytes <= this.sizeBytesMax;
  }

  /** Takes `sizeBytes`, or nothing and answers false. What is taken has to be given back. */
  take(sizeBytes: number): boolean {
    if (!this.hasRoom(sizeBytes)) return false;
    this.#held += sizeBytes;
    return true;
  }

  giveBack(sizeBytes: number): void {
    this.#held -= sizeBytes;
    assert(this.#held >= 0, "more bytes are given back than were taken");
  }
}
