/**
 * Bounds the calls that wait for their next attempt.
 *
 * What is in flight to a node is bounded by its stream's window. Calls between two attempts are in no
 * window: those for vshards that nobody leads would gather until they used up all the calls that a
 * gateway may have, and with them what the healthy vshards need. So they have a room of their own, and
 * whoever finds it full is told what its last attempt was told.
 */
import { assert } from "#shared/assert.ts";

export type WaitingRoomLimits = {
  readonly callsMax: number;
  readonly bytesMax: number;
};

export class WaitingRoom {
  readonly #limits: WaitingRoomLimits;
  #calls = 0;
  #bytes = 0;

  constructor(limits: WaitingRoomLimits) {
    this.#limits = limits;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Whether there was room. A single call may be larger than the room. */
  enter(bytes: number): boolean {
    const { callsMax, bytesMax } = this.#limits;
    if (this.#calls >= callsMax) return false;
    if (this.#calls > 0 && this.#bytes + bytes > bytesMax) return false;
    this.#calls++;
    this.#bytes += bytes;
    return true;
  }

  leave(bytes: number): void {
    this.#calls--;
    this.#bytes -= bytes;
    assert(this.#calls >= 0 && this.#bytes >= 0, "only what entered leaves");
  }
}
