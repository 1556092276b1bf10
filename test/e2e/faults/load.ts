/**
 * Clients that write without pause until they are stopped or the server is gone: puts of all sizes,
 * overwrites, deletes, conditional puts, and increments of shared counters.
 */
import { SeededRandom } from "#shared/random.ts";
import { Counter } from "./counter.ts";
import type { KvClient } from "./kv-client.ts";
import { Ledger } from "./ledger.ts";

const WRITERS = 6;
const KEYS_PER_WRITER = 12;
const COUNTERS = 2;
const COUNTING_CLIENTS = 3;
const KiB = 1024;

export class Load {
  readonly ledger: Ledger;
  readonly counters: readonly Counter[];
  readonly #random: SeededRandom;
  #running: readonly Promise<void>[] = [];
  #stopped = false;

  constructor(client: KvClient, random: SeededRandom) {
    this.ledger = new Ledger(client);
    this.#random = random;
    this.counters = Array.from(
      { length: COUNTERS },
      (_, i) => new Counter(`counter-${i}`, client, this.ledger),
    );
  }

  /** Starts all clients; each ends at `stop`, or when its keys are all in doubt. */
  start(): void {
    this.#stopped = false;
    const writers = Array.from({ length: WRITERS }, (_, writer) => this.#write(writer));
    const counting = Array.from({ length: COUNTING_CLIENTS }, () => this.#count());
    this.#running = [...writers, ...counting];
    // Whoever awaits `stop` meets the error; until then it must not end the test process.
    for (const client of this.#running) client.catch(() => {});
  }

  /** Waits for the answers that are still to come. @throws what a client met. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  async verify(): Promise<void> {
    await this.ledger.verify();
    for (const counter of this.counters) await counter.verify();
  }

  async #write(writer: number): Promise<void> {
    const random = this.#fork();
    while (!this.#stopped) {
      const key = `writer-${writer}/${random.below(KEYS_PER_WRITER)}`;
      if (!this.ledger.isSettled(key)) {
        await pause();
        continue;
      }
      const isDelete = random.below(8) === 0 && this.ledger.exists(key);
      const conditional = random.below(5) === 0;
      const { result } = isDelete
        ? await this.ledger.delete(key)
        : await this.ledger.put(key, randomSizeBytes(random), conditional);
      // A server that is gone or full answers at once: no need to ask it a thousand times.
      if (result.kind !== "answer" || result.status >= 500) await pause();
    }
  }

  async #count(): Promise<void> {
    const random = this.#fork();
    while (!this.#stopped) {
      const counter = this.counters[random.below(this.counters.length)]!;
      if (!(await counter.increment())) await pause();
    }
  }

  #fork(): SeededRandom {
    return new SeededRandom(this.#random.below(2 ** 32));
  }
}

/** Mostly small, so that there are many batches; some large, so that they are torn. */
function randomSizeBytes(random: SeededRandom): number {
  const kind = random.below(100);
  if (kind < 70) return 40 + random.below(500);
  if (kind < 94) return random.below(16 * KiB);
  return kind < 99 ? random.below(128 * KiB) : random.below(512 * KiB);
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
