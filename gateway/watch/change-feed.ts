/**
 * The changes of the vshards that somebody watches: one feed for each of them, which all watches of the gateway
 * share.
 *
 * A vshard of which nothing is heard, neither a change nor that there is none, has its log looked at each
 * second: slower than news, and never wrong. Those of which something is heard have their turn as well, each half
 * minute: what is heard may be of old. Messages of the bus can be sent again by whoever has heard them, sealed ones
 * too, and a head that is true and old looks as that of a vshard in which nothing happens.
 */
import type { Cancellation } from "#gateway/storage/cancellation.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { FEED_AUDIT_TICKS, FEED_LINGER_MS, FEED_LOOK_MS, FEED_SILENCE_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { ChangeLog, LiveChanges } from "./change-source.ts";
import { type FeedCounters, type FeedSink, VshardFeed } from "./vshard-feed.ts";

export type ChangeFeedOptions = {
  readonly log: ChangeLog;
  readonly live: LiveChanges;
  readonly clock: Clock;
  readonly random: Random;
  readonly sink: FeedSink;
};

/** A vshard that is listened to. */
type Listened = {
  readonly feed: VshardFeed;
  /** Called when its position is known. Who waits no longer takes himself out: it may be unknown for long. */
  readonly waiting: Set<() => void>;
  /** Monotonic; undefined while it is needed. */
  unneededSinceMs: number | undefined;
};

export class ChangeFeed {
  readonly #options: ChangeFeedOptions;
  /** By vshard. */
  readonly #listened = new Map<VshardId, Listened>();
  /** By vshard: how many watches need it. */
  readonly #needs = new Uint32Array(VSHARD_COUNT);
  readonly #counters: FeedCounters = {
    changesReceived: 0,
    changesRepeated: 0,
    gaps: 0,
    logReads: 0,
    logReadFailures: 0,
    compactions: 0,
  };
  #looks = 0;
  #cancelLook: (() => void) | undefined;
  #closed = false;

  constructor(options: ChangeFeedOptions) {
    this.#options = options;
    options.live.start({
      onBatch: (batch) => this.#listened.get(batch.vshard)?.feed.onBatch(batch),
      onHead: (vshard, revision) => this.#listened.get(vshard)?.feed.onHead(revision),
    });
  }

  /** One more watch needs these. */
  need(vshards: readonly VshardId[]): void {
    for (const vshard of vshards) {
      this.#needs[vshard]!++;
      const listened = this.#listened.get(vshard);
      if (listened === undefined) this.#listen(vshard);
      else listened.unneededSinceMs = undefined;
    }
    this.#lookLater();
  }

  /** One watch less. */
  release(vshards: readonly VshardId[]): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const vshard of vshards) {
      if (--this.#needs[vshard]! > 0) continue;
      const listened = this.#listened.get(vshard);
      if (listened !== undefined) listened.unneededSinceMs = nowMs;
    }
  }

  isKnown(vshards: readonly VshardId[]): boolean {
    for (const vshard of vshards) if (!this.#listened.get(vshard)?.feed.isKnown) return false;
    return true;
  }

  /**
   * Resolves when the positions of all of them are known; they are to be needed so long.
   *
   * @throws KvError what stands in the way when the deadline has passed
   */
  async whenKnown(
    vshards: readonly VshardId[],
    deadlineMs: number,
    cancellation?: Cancellation,
  ): Promise<void> {
    const { clock } = this.#options;
    if (cancellation?.isCancelled) throw new KvError("CANCELLED", GONE);
    let isLate = false;
    let goOn = (): void => {};
    const end = (): void => {
      isLate = true;
      goOn();
    };
    const cancelTimer = clock.after(Math.max(0, deadlineMs - clock.nowMs()), end);
    cancellation?.listen(end);
    try {
      for (const vshard of vshards) {
        const listened = this.#listened.get(vshard);
        if (listened === undefined) throw new KvError("UNAVAILABLE", STOPPING);
        if (!listened.feed.isKnown && !isLate) {
          const { promise, resolve } = Promise.withResolvers<void>();
          goOn = resolve;
          listened.waiting.add(resolve);
          await promise;
          listened.waiting.delete(resolve);
        }
        if (cancellation?.isCancelled) throw new KvError("CANCELLED", GONE);
        if (this.#closed) throw new KvError("UNAVAILABLE", STOPPING);
        if (!listened.feed.isKnown)
          throw listened.feed.problem ?? new KvError("DEADLINE_EXCEEDED", TOO_LATE);
      }
    } finally {
      cancelTimer();
      cancellation?.release();
    }
  }

  /** The receiver of this vshard takes changes again. */
  resume(vshard: VshardId): void {
    this.#listened.get(vshard)?.feed.resume();
  }

  figures() {
    let lag = 0;
    let vshardsBehind = 0;
    let watchesWaiting = 0;
    for (const { feed, waiting } of this.#listened.values()) {
      watchesWaiting += waiting.size;
      lag = Math.max(lag, feed.lag);
      if (feed.lag > 0) vshardsBehind++;
    }
    const vshardsListened = this.#listened.size;
    return { ...this.#counters, vshardsListened, vshardsBehind, watchesWaiting, lag };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelLook?.();
    for (const { feed, waiting } of this.#listened.values()) {
      feed.close();
      for (const goOn of waiting) goOn();
    }
    this.#listened.clear();
    await this.#options.live.close();
    await this.#options.log.close();
  }

  #listen(vshard: VshardId): void {
    if (this.#closed) return;
    const { log, live, clock, random, sink } = this.#options;
    const waiting = new Set<() => void>();
    const feed = new VshardFeed({
      ...{ vshard, log, sink, clock, random, counters: this.#counters },
      onKnown: () => {
        live.listen(vshard, () => feed.position);
        for (const goOn of waiting) goOn();
      },
    });
    this.#listened.set(vshard, { feed, waiting, unneededSinceMs: undefined });
  }

  #lookLater(): void {
    this.#cancelLook ??= this.#options.clock.after(FEED_LOOK_MS, () => {
      this.#cancelLook = undefined;
      this.#look();
      if (this.#listened.size > 0) this.#lookLater();
    });
  }

  #look(): void {
    const { live, clock, sink } = this.#options;
    const nowMs = clock.monotonicMs();
    const turn = this.#looks++ % FEED_AUDIT_TICKS;
    for (const [vshard, { feed, unneededSinceMs }] of this.#listened) {
      if (unneededSinceMs !== undefined && nowMs - unneededSinceMs >= FEED_LINGER_MS) {
        feed.close();
        this.#listened.delete(vshard);
        if (!feed.isKnown) continue;
        live.unlisten(vshard);
        sink.onStop(vshard);
      } else if (feed.isKnown) {
        const isInTurn = vshard % FEED_AUDIT_TICKS === turn;
        if (isInTurn || live.silenceMs(vshard) > FEED_SILENCE_MS) feed.look();
      }
    }
  }
}

const STOPPING = "the gateway is stopping";
const GONE = "the client has gone";
const TOO_LATE = "the storage nodes did not say in time where their change logs stand";
