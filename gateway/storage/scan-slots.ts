/**
 * How many calls scans may have under way: a scan asks up to 256 vshards at once, and without a bound
 * of their own a few dozen scans would leave the streams' windows to nobody else. The bound also holds
 * down the memory of all of them together. Who finds no room waits in line, until its deadline.
 *
 * Scans of one vshard have slots of their own: a vshard without a leader holds up every scan over all
 * of them, and must not hold up these.
 */
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { SCAN_CALLS_MAX, SCAN_CALLS_OF_ONE_VSHARD_MAX, SCANS_WAITING_MAX } from "#shared/limits.ts";
import type { CallOptions, ScanQuery } from "./storage.ts";

/** The slots of a client's scans. */
export class ScanLanes {
  readonly #ofAll: ScanSlots;
  readonly #ofOne: ScanSlots;

  constructor(clock: Clock) {
    this.#ofAll = new ScanSlots(clock, SCAN_CALLS_MAX);
    this.#ofOne = new ScanSlots(clock, SCAN_CALLS_OF_ONE_VSHARD_MAX);
  }

  of({ vshard }: ScanQuery): ScanSlots {
    return vshard === undefined ? this.#ofAll : this.#ofOne;
  }
}

type Waiting = { readonly calls: number; readonly begin: () => void };

export class ScanSlots {
  readonly #clock: Clock;
  readonly #callsMax: number;
  readonly #line = new Set<Waiting>();
  #taken = 0;

  constructor(clock: Clock, callsMax: number) {
    this.#clock = clock;
    this.#callsMax = callsMax;
  }

  /**
   * Resolves when `calls` may be under way; they have to be given back.
   *
   * @throws KvError OVERLOADED, DEADLINE_EXCEEDED, CANCELLED
   */
  async take(calls: number, options: CallOptions): Promise<void> {
    assert(calls <= this.#callsMax, "a scan asks no more than all scans together");
    if (this.#line.size === 0 && this.#taken + calls <= this.#callsMax) {
      this.#taken += calls;
      return;
    }
    if (this.#line.size >= SCANS_WAITING_MAX) {
      throw new KvError("OVERLOADED", "too many scans wait for storage");
    }
    await this.#wait(calls, options);
  }

  giveBack(calls: number): void {
    this.#taken -= calls;
    for (const waiting of this.#line) {
      if (this.#taken + waiting.calls > this.#callsMax) return;
      this.#line.delete(waiting);
      this.#taken += waiting.calls;
      waiting.begin();
    }
  }

  #wait(calls: number, { deadlineMs, cancellation }: CallOptions): Promise<void> {
    const clock = this.#clock;
    return new Promise((resolve, reject) => {
      let cancelTimer = (): void => {};
      const end = (): void => {
        cancelTimer();
        cancellation?.release();
      };
      const waiting: Waiting = {
        calls,
        begin: () => {
          end();
          resolve();
        },
      };
      const giveUp = (error: KvError): void => {
        this.#line.delete(waiting);
        end();
        reject(error);
      };
      if (cancellation?.isCancelled) {
        reject(new KvError("CANCELLED", "the caller went away"));
        return;
      }
      this.#line.add(waiting);
      cancellation?.listen(() => giveUp(new KvError("CANCELLED", "the caller went away")));
      cancelTimer = clock.after(Math.max(0, deadlineMs - clock.nowMs()), () => {
        const detail = "the deadline passed while other scans were served";
        giveUp(new KvError("DEADLINE_EXCEEDED", detail));
      });
    });
  }
}
