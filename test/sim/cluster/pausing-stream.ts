/** A stream whose transport asks for a pause now and then, as one does whose other end is slow. */
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { SimStream } from "./network.ts";
import type { Party } from "./party.ts";

const PAUSE_CHANCE = 0.15;
const PAUSE_MS_MAX = 1_500;

export class PausingStream implements MessageStream {
  readonly #stream: SimStream;
  readonly #party: Party;
  readonly #random: SeededRandom;
  #onDrain = (): void => {};
  #isPaused = false;

  constructor(stream: SimStream, party: Party, random: SeededRandom) {
    this.#stream = stream;
    this.#party = party;
    this.#random = random;
  }

  listen(listener: StreamListener): void {
    this.#onDrain = listener.onDrain;
    this.#stream.listen(listener);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#party.isOver) return true;
    this.#stream.write(bytes);
    if (!this.#isPaused && this.#random.float() < PAUSE_CHANCE) {
      this.#isPaused = true;
      this.#party.clock.after(this.#random.float() ** 3 * PAUSE_MS_MAX, () => {
        this.#isPaused = false;
        this.#onDrain();
      });
    }
    return !this.#isPaused;
  }

  end(): void {
    if (!this.#party.isOver) this.#stream.end();
  }

  abort(status: StreamStatus): void {
    if (!this.#party.isOver) this.#stream.abort(status);
  }
}
