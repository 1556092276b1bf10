/**
 * The values of events: those that came with the change are opened, others are read, and count only if the key
 * still has the revision of the event.
 *
 * Who is behind waits in a line of his own: an event that all watches wait for holds back whatever comes behind it in
 * its vshard, of other tenants as well, and must not wait for what others missed long ago.
 *
 * An event whose value cannot be had in time goes out without one: watchers learn of the change all the same,
 * and read the key if they need it.
 */
import type { KeyRef, Storage } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import { WATCH_VALUE_READS_MAX, WATCH_VALUE_TIMEOUT_MS } from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { OpenedValue, WatchEvent } from "./event.ts";
import { Slots } from "./slots.ts";

/** Gives what the client stored. @throws KvError */
export type OpenValue = (
  ref: KeyRef,
  stored: {
    readonly value: Uint8Array;
    readonly encoding: number;
    readonly valueSizeBytes: number;
  },
  deadlineMs: number,
) => MaybePromise<Uint8Array>;

export type EventValuesOptions = {
  readonly open: OpenValue;
  /** In which values are plain. */
  readonly storage: Pick<Storage, "get">;
  readonly clock: Clock;
};

/** For all watches, or for one that is behind. */
export type ValueReader = "live" | "behind";

export class EventValues {
  readonly #options: EventValuesOptions;
  readonly #slots = {
    live: new Slots(WATCH_VALUE_READS_MAX),
    behind: new Slots(WATCH_VALUE_READS_MAX),
  };
  #reads = 0;
  #missed = 0;

  constructor(options: EventValuesOptions) {
    this.#options = options;
  }

  /** Sees to `event.value`. Undefined when that is done. */
  fetch(event: WatchEvent, who: ValueReader): Promise<void> | undefined {
    if (event.value !== undefined) return undefined;
    if (event.fetching !== undefined) return event.fetching;
    const opened = this.#opened(event, who);
    if (!isPromise(opened)) {
      event.value = opened;
      return undefined;
    }
    event.fetching = opened.then((value) => {
      event.value = value;
      event.fetching = undefined;
    });
    return event.fetching;
  }

  figures(): { readonly valueReads: number; readonly valuesMissed: number } {
    return { valueReads: this.#reads, valuesMissed: this.#missed };
  }

  #opened(event: WatchEvent, who: ValueReader): MaybePromise<OpenedValue | "none"> {
    const { ref, record } = event;
    const stored = record.value;
    if (stored === undefined) return this.#read(event, this.#slots[who]);
    const { encoding, contentType, value } = stored;
    const deadlineMs = this.#options.clock.nowMs() + WATCH_VALUE_TIMEOUT_MS;
    const fresh = { value, encoding, valueSizeBytes: record.valueSizeBytes };
    try {
      const opened = this.#options.open(ref, fresh, deadlineMs);
      if (!isPromise(opened)) return { value: opened, contentType };
      return opened.then(
        (plain) => ({ value: plain, contentType }),
        () => this.#miss(),
      );
    } catch {
      return this.#miss();
    }
  }

  async #read({ ref, record }: WatchEvent, slots: Slots): Promise<OpenedValue | "none"> {
    await slots.take(record.tenant);
    this.#reads++;
    try {
      const deadlineMs = this.#options.clock.nowMs() + WATCH_VALUE_TIMEOUT_MS;
      const stored = await this.#options.storage.get(ref, { deadlineMs });
      if (stored === undefined || stored.revision !== record.revision) return "none";
      return { value: stored.value, contentType: stored.contentType };
    } catch {
      return this.#miss();
    } finally {
      slots.give();
    }
  }

  /** Whatever the reason: one value that cannot be read must not end the watches of all others. */
  #miss(): "none" {
    this.#missed++;
    return "none";
  }
}
