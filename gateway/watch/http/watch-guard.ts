/**
 * Ends watches whose client would not be let in any more: a key revoked, expired or with less rights, a token
 * at its end, a tenant suspended.
 *
 * A watch lasts for hours, and the credentials of one who only listens are never shown again. So all of them
 * are asked about twice a second, and at once when the directory tells of a change, by one timer and one
 * subscription for all. Asking is a look at rows in memory (`Gate.whyEnded`): ten thousand watches take some
 * milliseconds of each second. What a gateway has heard of takes effect on all its watches in that moment, and
 * every gateway hears of a change within a second.
 *
 * A gateway that has heard nothing for too long could have missed a revocation: it sends its clients away
 * without saying that anything is wrong with them, and lets nobody in by the same rule.
 */
import type { Caller, Operation } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import type { WatchEnding } from "#gateway/watch/watches.ts";
import type { Clock } from "#shared/clock.ts";
import { WATCH_RECHECK_DELAY_MS, WATCH_RECHECK_INTERVAL_MS } from "#shared/limits-watch-http.ts";

export type WatchGuardOptions = {
  readonly gate: Pick<Gate, "whyEnded">;
  readonly directory: Pick<Directory, "subscribe" | "silenceMs">;
  /** How long the directory may be silent before what rests on it is no longer believed. */
  readonly stalenessMaxMs: number;
  readonly clock: Clock;
};

/** A watch, and what was allowed for it. */
export type GuardedWatch = {
  readonly caller: Caller;
  readonly exchange: Exchange;
  readonly operations: readonly Operation[];
  readonly finish: (ending: WatchEnding) => void;
};

/** Rows that say who may do what. Others change all the time. */
const ROWS = ["key/", "root", "tenant/", "signing-key/"] as const;

export class WatchGuard {
  readonly #options: WatchGuardOptions;
  readonly #watches = new Set<GuardedWatch>();
  readonly #unsubscribe: readonly (() => void)[];
  #cancelTimer: (() => void) | undefined;
  #isSoon = false;

  constructor(options: WatchGuardOptions) {
    this.#options = options;
    const onChange = (): void => this.#lookSoon();
    this.#unsubscribe = ROWS.map((rows) => options.directory.subscribe(rows, onChange));
  }

  get size(): number {
    return this.#watches.size;
  }

  /** From now on it is looked at. What changed since its client was let in is seen at the next look. */
  add(watch: GuardedWatch): void {
    this.#watches.add(watch);
    this.#cancelTimer ??= this.#timer(WATCH_RECHECK_INTERVAL_MS);
  }

  remove(watch: GuardedWatch): void {
    this.#watches.delete(watch);
    if (this.#watches.size > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#isSoon = false;
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#watches.clear();
  }

  /** A change of many rows is one look. */
  #lookSoon(): void {
    if (this.#isSoon || this.#watches.size === 0) return;
    this.#isSoon = true;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#timer(WATCH_RECHECK_DELAY_MS);
  }

  #timer(delayMs: number): () => void {
    return this.#options.clock.after(delayMs, () => {
      this.#isSoon = false;
      this.#cancelTimer = undefined;
      this.#look();
      if (this.#watches.size > 0) this.#cancelTimer ??= this.#timer(WATCH_RECHECK_INTERVAL_MS);
    });
  }

  #look(): void {
    const { gate, directory, stalenessMaxMs } = this.#options;
    const isStale = directory.silenceMs() > stalenessMaxMs;
    // One that ends leaves the set while this goes through it, which a Set allows.
    for (const watch of this.#watches) {
      const { caller, exchange, operations } = watch;
      const reason = gate.whyEnded(caller, exchange, operations);
      if (reason !== undefined) watch.finish({ kind: "revoke", reason });
      else if (isStale && caller.principal.basis !== undefined) watch.finish({ kind: "drain" });
    }
  }
}
