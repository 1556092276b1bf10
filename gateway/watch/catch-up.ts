/**
 * A watch that is behind: it resumed from an old position, or its client was too slow. It has positions of its own, and
 * goes through what it has missed at the pace of its client, from recent events where these reach back and from
 * the log else, vshard after vshard. When nothing is left, it joins its group again.
 *
 * The last pass finds nothing that it would have to wait for. So nothing happens between its end and the joining, and
 * no event is left out or given twice.
 */
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import { latin1 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision } from "#shared/ids.ts";
import {
  FEED_BACKOFF_MS_MAX,
  FEED_BACKOFF_MS_MIN,
  WATCH_CATCH_UP_BYTES,
  WATCH_CATCH_UP_VALUE_BYTES_MAX,
  WATCH_PROGRESS_MS,
  WATCH_RECENT_EVENTS_IN_ONE_GO,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { WatchEvent } from "./event.ts";
import { matches } from "./filter-index.ts";
import { frame, type NamedEvent } from "./framing.ts";
import { COMPACTED_DATA, progressData } from "./group.ts";
import type { LogPieces } from "./log-pieces.ts";
import { encodeToken } from "./resume-token.ts";
import type { Session } from "./session.ts";
import type { Slots } from "./slots.ts";
import type { EventValues } from "./values.ts";

export type CatchUpContext = {
  readonly dispatcher: Dispatcher;
  readonly pieces: LogPieces;
  readonly values: EventValues;
  /** For reads of the log. */
  readonly slots: Slots;
  readonly clock: Clock;
  readonly random: Random;
  readonly write: (session: Session, bytes: Uint8Array) => void;
  /** The watch stands where its group does. */
  readonly join: (session: Session) => void;
};

/** Recent events that are looked at in one go. */
const STEP_EVENTS = 512;

export class CatchUp {
  readonly #context: CatchUpContext;
  readonly #session: Session;
  /** In the order of the group's scope. */
  readonly #positions: Float64Array;
  #events: NamedEvent[] = [];
  #bytes = 0;
  #toldAtMs: number;
  #isRunning = false;
  #backoffMs = FEED_BACKOFF_MS_MIN;

  constructor(context: CatchUpContext, session: Session, positions: Float64Array) {
    this.#context = context;
    this.#session = session;
    this.#positions = positions;
    this.#toldAtMs = context.clock.monotonicMs();
  }

  /** Tells something beside the changes, with the position. */
  tell(event: NamedEvent): void {
    this.#add(event);
    this.#flush();
  }

  /** Goes on, unless it does. */
  async run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    let isDone = false;
    while (!isDone && this.#isActive) {
      const pass = this.#pass();
      isDone = pass === undefined;
      if (pass !== undefined) await pass;
    }
    this.#isRunning = false;
    if (isDone && this.#isActive) this.#context.join(this.#session);
  }

  get #isActive(): boolean {
    return this.#session.state === "behind" && !this.#session.isBlocked;
  }

  #isBehind(place: number): boolean {
    const vshard = this.#session.group.scope[place]!;
    return this.#positions[place]! < this.#context.dispatcher.positions[vshard]!;
  }

  /**
   * Takes what is there. Returns what has to be waited for before another pass; undefined when there is nothing
   * to wait for, and nothing left unless the client is blocked.
   */
  #pass(): Promise<void> | undefined {
    const { scope } = this.#session.group;
    let looked = 0;
    for (let place = 0; place < scope.length; place++) {
      while (this.#isActive && this.#isBehind(place)) {
        const recent = this.#context.dispatcher.recent.after(
          scope[place]!,
          this.#positions[place]!,
          STEP_EVENTS,
        );
        if (recent === undefined || recent.length === 0) {
          this.#flush();
          return this.#isActive ? this.#readLog(place) : undefined;
        }
        const waiting = this.#takeRecent(place, recent);
        if (waiting !== undefined) return waiting;
        looked += recent.length;
        const isLong = looked >= WATCH_RECENT_EVENTS_IN_ONE_GO;
        if (!isLong && this.#bytes < WATCH_CATCH_UP_BYTES) continue;
        this.#flush();
        // Others have their turn.
        return this.#isActive ? this.#pause(0) : undefined;
      }
      if (!this.#isActive) return undefined;
    }
    this.#flush();
    return undefined;
  }

  /** Up to the first one whose value has to be waited for. */
  #takeRecent(place: number, events: readonly WatchEvent[]): Promise<void> | undefined {
    for (const event of events) {
      if (this.#wants(event)) {
        // The shared event is as large as it was settled to be: a value is fetched for this watch alone.
        const { values } = this.#session.group.query;
        const isReady = event.isReady(values);
        const own = isReady ? event : new WatchEvent(event.vshard, event.record);
        const fetching = isReady ? undefined : this.#context.values.fetch(own, "behind");
        if (fetching !== undefined) return fetching.then(() => this.#take(place, own, true));
        this.#take(place, own, true);
      } else this.#take(place, event, false);
      if (this.#bytes >= WATCH_CATCH_UP_BYTES) return undefined;
    }
    return undefined;
  }

  #wants(event: WatchEvent): boolean {
    const { group } = this.#session;
    if (!event.isOfClients || !group.wants(event.op)) return false;
    return matches(group.query, event.record);
  }

  #take(place: number, event: WatchEvent, isWanted: boolean): void {
    this.#positions[place] = event.record.revision;
    if (!isWanted) return;
    const data = event.json(this.#session.group.query.values);
    this.#add({ name: event.op, data });
  }

  async #readLog(place: number): Promise<void> {
    const { pieces, slots } = this.#context;
    const vshard = this.#session.group.scope[place]!;
    const before = this.#positions[place]! as Revision;
    await slots.take(this.#session.group.query.tenant);
    try {
      if (!this.#isActive) return;
      const piece = await pieces.read(vshard, before);
      if (piece.kind === "changes") {
        if (piece.batch.previousRevision <= before)
          await this.#takePiece(place, piece.batch.changes);
      } else if (piece.oldestRevision - 1 > before) {
        this.#positions[place] = piece.oldestRevision - 1;
        this.#add({ name: "compacted", data: COMPACTED_DATA });
      }
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
    } finally {
      slots.give();
    }
    if (this.#positions[place]! > before) {
      this.#backoffMs = FEED_BACKOFF_MS_MIN;
      return;
    }
    await this.#pause(this.#backoffMs * (0.5 + this.#context.random.float() / 2));
    this.#backoffMs = Math.min(this.#backoffMs * 2, FEED_BACKOFF_MS_MAX);
  }

  /**
   * Up to where the group stands: what lies behind that, it will be given by the group. Values are not in the log, and
   * may be a thousand times larger than what is: so many are had at once as are few bytes.
   */
  async #takePiece(place: number, changes: readonly ChangeRecord[]): Promise<void> {
    const vshard = this.#session.group.scope[place]!;
    const until = this.#context.dispatcher.positions[vshard]!;
    const fresh = changes.filter(
      ({ revision }) => revision > this.#positions[place]! && revision <= until,
    );
    // A key that changes again within the piece has another value by now.
    const newest = new Map<string, Revision>();
    for (const { key, revision } of fresh) newest.set(latin1(key), revision);
    let next = 0;
    while (next < fresh.length && this.#isActive) {
      const events: WatchEvent[] = [];
      const fetching: Promise<void>[] = [];
      let bytes = 0;
      while (next < fresh.length && bytes < WATCH_CATCH_UP_VALUE_BYTES_MAX) {
        const record = fresh[next++]!;
        const event = new WatchEvent(vshard, record);
        events.push(event);
        if (!this.#session.group.query.values || !this.#wants(event)) continue;
        if (newest.get(latin1(record.key)) !== record.revision) event.value ??= "none";
        const fetched = this.#context.values.fetch(event, "behind");
        if (event.value !== "none") bytes += record.valueSizeBytes;
        if (fetched !== undefined) fetching.push(fetched);
      }
      await Promise.all(fetching);
      for (const event of events) this.#take(place, event, this.#wants(event));
      if (this.#bytes >= WATCH_CATCH_UP_BYTES) this.#flush();
    }
  }

  #add(event: NamedEvent): void {
    this.#events.push(event);
    this.#bytes += event.data.length;
  }

  #flush(): void {
    const { clock, write } = this.#context;
    const nowMs = clock.monotonicMs();
    if (this.#events.length === 0) {
      if (nowMs - this.#toldAtMs < WATCH_PROGRESS_MS) return;
      this.#add({ name: "progress", data: progressData(clock.nowMs()) });
    }
    const events = this.#events;
    this.#events = [];
    this.#bytes = 0;
    this.#toldAtMs = nowMs;
    const { binding, query } = this.#session.group;
    write(this.#session, frame(query.format, events, 0, encodeToken(binding, this.#positions)));
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#context.clock.after(delayMs, resolve);
    });
  }
}
