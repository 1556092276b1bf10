/**
 * Between the feeds and the groups of watches: takes the changes of each vshard in their order, sees to values, and
 * gives each event to the groups that want it.
 *
 * `positions` says how far each vshard has come: all watches that are not behind stand there. An event that waits for
 * its value holds back those behind it in its vshard, so that nothing is reordered; when many are held back, or too
 * many bytes in all vshards, the feed of the vshard pauses.
 */
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import type { Clock } from "#shared/clock.ts";
import { type Revision, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import {
  WATCH_EVENTS_HELD_BYTES_MAX,
  WATCH_EVENTS_HELD_MAX,
  WATCH_VALUES_AHEAD_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { EVENT_OVERHEAD_BYTES, WatchEvent } from "./event.ts";
import { FilterIndex } from "./filter-index.ts";
import type { Group } from "./group.ts";
import { RecentEvents } from "./recent-events.ts";
import type { EventValues } from "./values.ts";
import type { FeedSink } from "./vshard-feed.ts";
import type { WatchOp } from "./watches.ts";

/** The log does not have what lies before this revision. */
type Hole = { readonly compactedTo: Revision };

type Lane = {
  readonly queue: (WatchEvent | Hole)[];
  heldBytes: number;
  isWaiting: boolean;
  isPaused: boolean;
};

export type DispatcherOptions = {
  readonly values: EventValues;
  readonly clock: Clock;
  readonly random: Random;
  readonly groups: () => Iterable<Group>;
  /** The vshard's feed may go on. */
  readonly resume: (vshard: VshardId) => void;
  /** The group has an event to be flushed. */
  readonly onNews: (group: Group) => void;
  /** Some watches stand elsewhere than before. */
  readonly onMoved: () => void;
  /** An event of a write that is traced goes to so many watches. */
  readonly onTraced: ((record: ChangeRecord, watches: number) => void) | undefined;
};

export class Dispatcher implements FeedSink {
  readonly #options: DispatcherOptions;
  readonly index: FilterIndex<Group>;
  readonly recent: RecentEvents;
  /** By vshard, up to which revision watches have been given events. */
  readonly positions = new Float64Array(VSHARD_COUNT);
  readonly #lanes = new Map<VshardId, Lane>();
  /** Grows with each change and hole: something has moved. */
  moves = 0;
  #lagMs = 0;
  /** Of all events, each once. */
  readonly #lags = new LatencyHistogram();
  /** Of which somebody was told. */
  readonly #events: Record<WatchOp, number> = { put: 0, delete: 0, expire: 0 };
  /** Of all lanes. */
  #heldBytes = 0;
  // Finding groups is synchronous and never re-entered: one list serves all events.
  readonly #found: Group[] = [];

  constructor(options: DispatcherOptions, recentBytesMax: number) {
    this.#options = options;
    this.index = new FilterIndex(options.random);
    this.recent = new RecentEvents(recentBytesMax);
  }

  onStart(vshard: VshardId, position: Revision): void {
    this.#lanes.set(vshard, { queue: [], heldBytes: 0, isWaiting: false, isPaused: false });
    this.#moveTo(vshard, position);
  }

  onChanges(vshard: VshardId, changes: readonly ChangeRecord[]): boolean {
    const lane = this.#lanes.get(vshard)!;
    for (const record of changes) {
      const event = new WatchEvent(vshard, record);
      if (lane.queue.length === 0 && this.#dispatch(event, lane)) continue;
      lane.queue.push(event);
      const { key, value } = record;
      this.#hold(event, lane, EVENT_OVERHEAD_BYTES + key.length + (value?.value.length ?? 0));
    }
    const isFull = this.#heldBytes > WATCH_EVENTS_HELD_BYTES_MAX;
    lane.isPaused = lane.queue.length > (isFull ? 0 : WATCH_EVENTS_HELD_MAX);
    return !lane.isPaused;
  }

  onCompacted(vshard: VshardId, position: Revision): void {
    const lane = this.#lanes.get(vshard)!;
    if (lane.queue.length === 0) this.#skip(vshard, position);
    else lane.queue.push({ compactedTo: position });
  }

  onStop(vshard: VshardId): void {
    this.#heldBytes -= this.#lanes.get(vshard)!.heldBytes;
    this.#lanes.delete(vshard);
    this.recent.reset(vshard, this.positions[vshard]!);
  }

  /** The largest time between a write and its event since this was last asked. */
  takeLagMs(): number {
    const lagMs = this.#lagMs;
    this.#lagMs = 0;
    return lagMs;
  }

  figures() {
    let eventsHeld = 0;
    for (const { queue } of this.#lanes.values()) eventsHeld += queue.length;
    const { bytes: recentBytes } = this.recent;
    const heldBytes = this.#heldBytes;
    return { eventsMatched: this.#events, eventsHeld, heldBytes, recentBytes, lags: this.#lags };
  }

  /** Whether the event is out; else it waits for its value. */
  #dispatch(event: WatchEvent, lane: Lane): boolean {
    const { record, vshard } = event;
    const found = this.#found;
    found.length = 0;
    if (event.isOfClients) {
      this.index.find(record.tenant, record.key, found);
      if (found.length > 0 && this.#waitsForValue(event, lane)) return false;
    }
    // Before groups have it: what they are told with it stands behind it.
    this.positions[vshard] = record.revision;
    this.moves++;
    this.#options.onMoved();
    if (found.length > 0) this.#give(event, found);
    event.settle();
    this.recent.add(event);
    return true;
  }

  #waitsForValue(event: WatchEvent, lane: Lane): boolean {
    if (event.value !== undefined) return false;
    if (!this.#found.some((group) => group.query.values && group.wants(event.op))) return false;
    const fetching = this.#fetch(event, lane);
    if (fetching === undefined) return false;
    if (!lane.isWaiting) {
      lane.isWaiting = true;
      void fetching.then(() => {
        lane.isWaiting = false;
        this.#pump(event.vshard, lane);
      });
    }
    return true;
  }

  #fetch(event: WatchEvent, lane: Lane): Promise<void> | undefined {
    const isNew = event.fetching === undefined;
    const fetching = this.#options.values.fetch(event, "live");
    if (isNew && fetching !== undefined) this.#hold(event, lane, event.record.valueSizeBytes);
    return fetching;
  }

  #hold(event: WatchEvent, lane: Lane, bytes: number): void {
    event.heldBytes += bytes;
    lane.heldBytes += bytes;
    this.#heldBytes += bytes;
  }

  #give(event: WatchEvent, found: readonly Group[]): void {
    let watches = 0;
    for (const group of found) {
      if (group.liveCount === 0 || !group.wants(event.op)) continue;
      watches += group.liveCount;
      group.append(event);
      this.#options.onNews(group);
    }
    if (watches === 0) return;
    const { clock, onTraced } = this.#options;
    this.#events[event.op]++;
    const lagMs = clock.nowMs() - event.record.timeMs;
    this.#lagMs = Math.max(this.#lagMs, lagMs);
    this.#lags.observe(Math.max(0, lagMs));
    if (event.record.traceContext.length > 0) onTraced?.(event.record, watches);
  }

  /** Goes on where an event waited for its value. */
  #pump(vshard: VshardId, lane: Lane): void {
    // The vshard was given up meanwhile.
    if (this.#lanes.get(vshard) !== lane) return;
    const { queue } = lane;
    let next = 0;
    for (; next < queue.length; next++) {
      const first = queue[next]!;
      if ("compactedTo" in first) this.#skip(vshard, first.compactedTo);
      else if (!this.#dispatch(first, lane)) break;
    }
    for (const gone of queue.splice(0, next)) {
      if (!("compactedTo" in gone)) this.#hold(gone, lane, -gone.heldBytes);
    }
    this.#fetchAhead(lane);
    if (!lane.isPaused || queue.length > 0) return;
    lane.isPaused = false;
    this.#options.resume(vshard);
  }

  #fetchAhead(lane: Lane): void {
    let ahead = 0;
    for (const event of lane.queue) {
      if (ahead >= WATCH_VALUES_AHEAD_MAX) return;
      if (this.#heldBytes > WATCH_EVENTS_HELD_BYTES_MAX) return;
      if ("compactedTo" in event || event.value !== undefined || !event.isOfClients) continue;
      this.#found.length = 0;
      this.index.find(event.record.tenant, event.record.key, this.#found);
      if (!this.#found.some((group) => group.query.values && group.wants(event.op))) continue;
      void this.#fetch(event, lane);
      ahead++;
    }
  }

  #skip(vshard: VshardId, position: Revision): void {
    this.#moveTo(vshard, position);
    for (const group of this.#options.groups()) {
      const isConcerned = group.scope.length > 1 || group.scope[0] === vshard;
      if (!isConcerned || group.liveCount === 0) continue;
      group.addCompacted();
      this.#options.onNews(group);
    }
  }

  #moveTo(vshard: VshardId, position: Revision): void {
    this.positions[vshard] = position;
    this.moves++;
    this.#options.onMoved();
    this.recent.reset(vshard, position);
  }
}
