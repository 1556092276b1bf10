/**
 * The watches of a gateway.
 *
 * Watches with the same query are a group and share bytes; what the groups have is written together, every 10 ms while
 * there is something, and less often where writing takes long. No watch has a timer: one tick a second looks
 * after heartbeats and progress of all.
 *
 * A watch begins where the feed stands, which is before each write that will be begun later. One that brings
 * a token goes through what it has missed first (`catch-up.ts`), as does one whose client has more waiting than it
 * may: it is told `resync` with the token of where it stands.
 */
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Cancellation } from "#gateway/storage/cancellation.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId, VshardId } from "#shared/ids.ts";
import {
  WATCH_CATCH_UPS_MAX,
  WATCH_CLIENT_BYTES_MAX,
  WATCH_CLIENTS_BYTES_MAX,
  WATCH_PROGRESS_MS,
  WATCH_RECENT_BYTES_MAX,
  WATCH_SSE_HEARTBEAT_TICKS,
  WATCH_TICK_MS,
  WATCH_WS_HEARTBEAT_TICKS,
  WATCHES_PER_GATEWAY_MAX,
  WATCHES_PER_TENANT_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { CatchUp, type CatchUpContext } from "./catch-up.ts";
import { ChangeFeed } from "./change-feed.ts";
import type { ChangeLog, LiveChanges } from "./change-source.ts";
import { Dispatcher, type DispatcherOptions } from "./dispatcher.ts";
import { Flusher } from "./flusher.ts";
import { heartbeatOf, type NamedEvent } from "./framing.ts";
import { Group, progressData, RESYNC_DATA } from "./group.ts";
import { LogPieces } from "./log-pieces.ts";
import { LogReach } from "./log-reach.ts";
import { nameOf, scopeOf } from "./query.ts";
import {
  decodeToken,
  encodePosition,
  encodeToken,
  type ResumeToken,
  tokenBinding,
  tokenOf,
} from "./resume-token.ts";
import { Session, type SessionOwner } from "./session.ts";
import { Slots } from "./slots.ts";
import { EventValues, type EventValuesOptions } from "./values.ts";
import type { Watch, WatchClient, WatchEnding, Watches, WatchQuery } from "./watches.ts";

export type HubOptions = EventValuesOptions & {
  readonly log: ChangeLog;
  readonly live: LiveChanges;
  /** Undefined until a cluster map is known. */
  readonly clusterId: () => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly onTraced?: DispatcherOptions["onTraced"];
  /** What groups had was written to their watches. */
  readonly onFlushed?: (() => void) | undefined;
  readonly bounds?: WatchBounds;
};

/** Smaller ones in tests. */
export type WatchBounds = { readonly recentBytes: number; readonly clientBytes: number };

const BOUNDS: WatchBounds = {
  recentBytes: WATCH_RECENT_BYTES_MAX,
  clientBytes: WATCH_CLIENT_BYTES_MAX,
};

type OpenFrom = { readonly since: ResumeToken | undefined; readonly isReconnect: boolean };

export class Hub implements Watches {
  readonly #options: HubOptions;
  readonly #bounds: WatchBounds;
  readonly #feed: ChangeFeed;
  readonly #dispatcher: Dispatcher;
  readonly #values: EventValues;
  readonly #reach: LogReach;
  readonly #pieces: LogPieces;
  readonly #catchUps: CatchUpContext;
  readonly #owner: SessionOwner;
  readonly #flusher: Flusher;
  readonly #groups = new Map<string, Group>();
  readonly #sessions = new Set<Session>();
  /** Also those that are being opened. */
  readonly #tenantCounts = new Map<TenantId, number>();
  #count = 0;
  /** Of clients that are blocked. */
  #waitingBytes = 0;
  /** The text of the present position of all vshards, until it moves. */
  #allBody: string | undefined;
  #cancelTick: (() => void) | undefined;
  #ticks = 0;
  #lagMs = 0;
  #isDraining = false;
  readonly #counters = { bytesWritten: 0, writes: 0, resyncs: 0, opened: 0, resumed: 0 };

  constructor(options: HubOptions) {
    this.#options = options;
    this.#bounds = options.bounds ?? BOUNDS;
    const { log, live, clock, random } = options;
    this.#values = new EventValues(options);
    this.#dispatcher = new Dispatcher(
      {
        ...{ values: this.#values, clock, random, onTraced: options.onTraced },
        groups: () => this.#groups.values(),
        resume: (vshard) => this.#feed.resume(vshard),
        onNews: (group) => this.#flusher.add(group),
        onMoved: () => {
          this.#allBody = undefined;
        },
      },
      this.#bounds.recentBytes,
    );
    this.#feed = new ChangeFeed({ log, live, clock, random, sink: this.#dispatcher });
    this.#reach = new LogReach(log, clock);
    this.#pieces = new LogPieces(log, clock);
    this.#catchUps = {
      ...{ dispatcher: this.#dispatcher, pieces: this.#pieces, values: this.#values },
      ...{ clock, random },
      slots: new Slots(WATCH_CATCH_UPS_MAX),
      write: (session, bytes) => this.#write(session, bytes),
      join: (session) => this.#join(session),
    };
    this.#flusher = new Flusher({
      ...{ clock, onFlushed: options.onFlushed },
      tokenOf: (group) => this.#tokenOf(group),
      stampOf: (group) => this.#stampOf(group),
      positionsOf: ({ scope }) =>
        Float64Array.from(scope, (vshard) => this.#dispatcher.positions[vshard]!),
      write: (session, bytes) => this.#writeLive(session, bytes),
      fallBehind: (session, start) => this.#fallBehind(session, start),
    });
    this.#owner = {
      onDrained: (session) => this.#drained(session),
      finish: (session, ending) => this.#finish(session, ending),
      remove: (session) => this.#remove(session),
    };
  }

  async open(
    query: WatchQuery,
    from: OpenFrom,
    client: WatchClient,
    deadlineMs: number,
    cancellation?: Cancellation,
  ): Promise<Watch> {
    const { tenant } = query;
    const clusterId = this.#options.clusterId();
    if (this.#isDraining) throw new KvError("UNAVAILABLE", "the gateway is stopping");
    if (clusterId === undefined) {
      throw new KvError("UNAVAILABLE", "the cluster map is not known yet");
    }
    this.#admit(tenant);
    const scope = scopeOf(query);
    const binding = tokenBinding(clusterId, tenant, query);
    const since = from.since && decodeToken(from.since, binding, scope.length);
    this.#tenantCounts.set(tenant, (this.#tenantCounts.get(tenant) ?? 0) + 1);
    this.#count++;
    this.#feed.need(scope);
    try {
      if (!this.#feed.isKnown(scope)) {
        await this.#feed.whenKnown(scope, deadlineMs, cancellation);
      }
      if (since !== undefined && !from.isReconnect) {
        await this.#assertKept(scope, since, deadlineMs);
      }
      if (this.#isDraining) throw new KvError("UNAVAILABLE", "the gateway is stopping");
    } catch (error) {
      this.#forget(tenant, scope);
      throw error;
    }
    const name = nameOf(query);
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = new Group({ name, query, scope, binding });
      this.#groups.set(name, group);
      this.#dispatcher.index.add(group);
    }
    return this.#begin(group, since, client);
  }

  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    for (const session of [...this.#sessions]) {
      if (session.state === "ended") continue;
      this.#finish(session, { kind: "drain" });
      session.client.end();
    }
  }

  async close(): Promise<void> {
    this.drain();
    this.#flusher.close();
    this.#cancelTick?.();
    for (const session of [...this.#sessions]) session.close();
    this.#pieces.close();
    await this.#feed.close();
  }

  figures() {
    let behind = 0;
    for (const { state } of this.#sessions) if (state === "behind") behind++;
    return {
      ...{ watches: this.#sessions.size, watchesBehind: behind, groups: this.#groups.size },
      ...{ waitingBytes: this.#waitingBytes, lagMs: this.#lagMs },
      ...this.#counters,
      ...this.#feed.figures(),
      ...this.#dispatcher.figures(),
      ...this.#values.figures(),
    };
  }

  /** @throws RequestRefused OVERLOADED */
  #admit(tenant: TenantId): void {
    if (this.#count >= WATCHES_PER_GATEWAY_MAX) {
      throw new RequestRefused("OVERLOADED", "this gateway has as many watches as it may", {
        limit: WATCHES_PER_GATEWAY_MAX,
      });
    }
    if ((this.#tenantCounts.get(tenant) ?? 0) < WATCHES_PER_TENANT_MAX) return;
    throw new RequestRefused("OVERLOADED", "the tenant has as many watches here as it may", {
      limit: WATCHES_PER_TENANT_MAX,
    });
  }

  /** @throws RequestRefused COMPACTED */
  async #assertKept(
    scope: readonly VshardId[],
    since: Float64Array,
    deadlineMs: number,
  ): Promise<void> {
    const { positions, recent } = this.#dispatcher;
    const doubtful: Promise<boolean>[] = [];
    for (const [place, vshard] of scope.entries()) {
      const position = since[place]!;
      if (position >= positions[vshard]! || recent.covers(vshard, position)) continue;
      doubtful.push(this.#reach.hasAllBehind(vshard, position, deadlineMs));
    }
    if (doubtful.length === 0 || (await Promise.all(doubtful)).every(Boolean)) return;
    throw new RequestRefused(
      "COMPACTED",
      "the change log does not reach back to the position of the resume token any more",
    );
  }

  #begin(group: Group, since: Float64Array | undefined, client: WatchClient): Session {
    const slots =
      group.query.format === "sse" ? WATCH_SSE_HEARTBEAT_TICKS : WATCH_WS_HEARTBEAT_TICKS;
    const session = new Session(this.#owner, group, client, this.#counters.opened++ % slots);
    group.sessionCount++;
    this.#sessions.add(session);
    this.#tickLater();
    if (since === undefined) {
      this.#join(session, this.#tokenOf(group));
      return session;
    }
    this.#counters.resumed++;
    const { positions } = this.#dispatcher;
    // A token may be ahead of what is known here; then it begins where others stand, and repeats.
    const start = since.map((revision, place) =>
      Math.min(revision, positions[group.scope[place]!]!),
    );
    session.catchUp = new CatchUp(this.#catchUps, session, start);
    // Behind the end of `open`: the route has not got the watch yet.
    this.#options.clock.after(0, () => {
      if (session.state !== "behind") return;
      const data = progressData(this.#options.clock.nowMs());
      session.catchUp?.tell({ name: "progress", data });
      void session.catchUp?.run();
    });
    return session;
  }

  /** From here on it gets what its group gets. */
  #join(session: Session, token?: ResumeToken): void {
    const { group } = session;
    session.state = "live";
    session.catchUp = undefined;
    if (group.liveCount === 0) {
      group.stamp = this.#stampOf(group);
      group.toldAtMs = this.#options.clock.monotonicMs();
    }
    group.join(session, token);
    this.#flusher.add(group);
  }

  /** Whether it may stay with its group. */
  #writeLive(session: Session, bytes: Uint8Array): boolean {
    this.#write(session, bytes);
    const { isBlocked, waitingBytes } = session;
    if (!isBlocked || session.state !== "live") return true;
    const isTooMuch = waitingBytes > this.#bounds.clientBytes;
    return !isTooMuch && this.#waitingBytes <= WATCH_CLIENTS_BYTES_MAX;
  }

  /** It has been given all that its group has been given, and goes on from there by itself. */
  #fallBehind(session: Session, start: Float64Array): void {
    session.group.leave(session);
    session.state = "behind";
    this.#counters.resyncs++;
    session.catchUp = new CatchUp(this.#catchUps, session, start);
    session.catchUp.tell({ name: "resync", data: RESYNC_DATA });
  }

  #write(session: Session, bytes: Uint8Array): void {
    if (session.state === "ended") return;
    this.#counters.writes++;
    this.#counters.bytesWritten += bytes.length;
    const takesMore = session.client.write(bytes);
    if (takesMore && !session.isBlocked) return;
    if (session.group.sessionCount === 0 || !this.#sessions.has(session)) return;
    session.isBlocked = true;
    session.waitingBytes += bytes.length;
    this.#waitingBytes += bytes.length;
  }

  #drained(session: Session): void {
    this.#waitingBytes -= session.waitingBytes;
    session.waitingBytes = 0;
    session.isBlocked = false;
    if (session.state === "behind") void session.catchUp?.run();
  }

  #finish(session: Session, ending: WatchEnding): void {
    const { group, catchUp } = session;
    const last: NamedEvent = { name: ending.kind, data: endingData(ending) };
    if (catchUp !== undefined) catchUp.tell(last);
    else {
      // It may not have had its part of what is being handed out.
      this.#flusher.finish(group);
      const nowMs = this.#options.clock.nowMs();
      this.#write(session, group.rest(session, [last], this.#tokenOf(group), nowMs));
    }
    session.state = "ended";
    group.leave(session);
  }

  #remove(session: Session): void {
    if (!this.#sessions.delete(session)) return;
    const { group } = session;
    session.state = "ended";
    session.catchUp = undefined;
    this.#waitingBytes -= session.waitingBytes;
    session.waitingBytes = 0;
    group.leave(session);
    this.#forget(group.query.tenant, group.scope);
    if (--group.sessionCount > 0) return;
    this.#groups.delete(group.name);
    this.#flusher.remove(group);
    this.#dispatcher.index.remove(group);
  }

  #forget(tenant: TenantId, scope: readonly VshardId[]): void {
    this.#feed.release(scope);
    this.#count--;
    const count = this.#tenantCounts.get(tenant)! - 1;
    if (count === 0) this.#tenantCounts.delete(tenant);
    else this.#tenantCounts.set(tenant, count);
  }

  /** Where all watches of the group stand that are not behind. */
  #tokenOf({ binding, scope }: Group): ResumeToken {
    const { positions } = this.#dispatcher;
    if (scope.length === 1) return encodeToken(binding, [positions[scope[0]!]!]);
    this.#allBody ??= encodePosition(positions);
    return tokenOf(binding, this.#allBody);
  }

  /** Changes when the position of the group does. */
  #stampOf({ scope }: Group): number {
    const { positions, moves } = this.#dispatcher;
    return scope.length === 1 ? positions[scope[0]!]! : moves;
  }

  #tickLater(): void {
    this.#cancelTick ??= this.#options.clock.after(WATCH_TICK_MS, () => {
      this.#cancelTick = undefined;
      this.#tick();
      if (this.#sessions.size > 0) this.#tickLater();
    });
  }

  #tick(): void {
    const { clock } = this.#options;
    this.#ticks++;
    this.#lagMs = this.#dispatcher.takeLagMs();
    const nowMs = clock.monotonicMs();
    for (const group of this.#groups.values()) {
      const isTold = nowMs - group.toldAtMs < WATCH_PROGRESS_MS;
      if (isTold || group.liveCount === 0 || group.stamp === this.#stampOf(group)) continue;
      group.add({ name: "progress", data: progressData(clock.nowMs()) });
      this.#flusher.add(group);
    }
    const sseSlot = this.#ticks % WATCH_SSE_HEARTBEAT_TICKS;
    const wsSlot = this.#ticks % WATCH_WS_HEARTBEAT_TICKS;
    for (const session of this.#sessions) {
      const { format } = session.group.query;
      if (session.slot !== (format === "sse" ? sseSlot : wsSlot)) continue;
      if (!session.isBlocked) this.#write(session, heartbeatOf(format));
    }
  }
}

const endingData = (ending: WatchEnding): Buffer =>
  Buffer.from(JSON.stringify(ending.kind === "revoke" ? { reason: ending.reason } : {}));
