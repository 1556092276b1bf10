/**
 * Writes what groups have to their watches: together, every 10 ms while there is something, and less often where
 * writing takes long.
 *
 * In slices, between which others have their turn, also in the middle of a group's watches: one event may concern
 * thousands of groups, or one group of thousands. Events gather meanwhile for the next round.
 */
import type { Clock } from "#shared/clock.ts";
import {
  WATCH_FLUSH_BYTES_MAX,
  WATCH_FLUSH_MS_MAX,
  WATCH_FLUSH_MS_MIN,
  WATCH_FLUSH_PART,
  WATCH_FLUSH_SLICE_MS,
} from "#shared/limits.ts";
import type { Group } from "./group.ts";
import type { ResumeToken } from "./resume-token.ts";
import type { Session } from "./session.ts";

export type FlusherOptions = {
  readonly clock: Clock;
  /** Where all watches of the group stand that are not behind. */
  readonly tokenOf: (group: Group) => ResumeToken;
  readonly positionsOf: (group: Group) => Float64Array;
  /** Changes when the position of the group does. */
  readonly stampOf: (group: Group) => number;
  /** Whether the watch stays with its group; else too much waits for its client. */
  readonly write: (session: Session, bytes: Uint8Array) => boolean;
  /** It stands at `start`, which is its own. */
  readonly fallBehind: (session: Session, start: Float64Array) => void;
  /** A round has ended. */
  readonly onFlushed: (() => void) | undefined;
};

export class Flusher {
  readonly #options: FlusherOptions;
  readonly #dirty = new Set<Group>();
  /** Of the round that runs: groups that have not had theirs, the next one last. */
  #round: Group[] = [];
  #roundMs = 0;
  /** The next one, when it is in the middle of its watches; and where it stood when it began with them. */
  #suspended: { readonly group: Group; readonly positions: Float64Array } | undefined;
  #cancelTimer: (() => void) | undefined;
  #flushMs = WATCH_FLUSH_MS_MIN;

  constructor(options: FlusherOptions) {
    this.#options = options;
  }

  /** The group has something for its watches. */
  add(group: Group): void {
    this.#dirty.add(group);
    if (group.pendingBytes > WATCH_FLUSH_BYTES_MAX) {
      this.finish(group);
      this.#begin(group);
      this.finish(group);
    }
    this.#flushLater();
  }

  /** Nobody is left in it. */
  remove(group: Group): void {
    this.#dirty.delete(group);
  }

  /** Those that have not had their part of what is being handed out get it at once. */
  finish(group: Group): void {
    this.#deliver(group, Number.POSITIVE_INFINITY);
  }

  close(): void {
    this.#cancelTimer?.();
  }

  #flushLater(): void {
    this.#cancelTimer ??= this.#options.clock.after(this.#flushMs, () => this.#flush());
  }

  #flush(): void {
    this.#cancelTimer = undefined;
    const { clock, onFlushed } = this.#options;
    const beginMs = clock.monotonicMs();
    if (this.#round.length === 0) this.#round = [...this.#dirty].reverse();
    let tookMs = 0;
    while (this.#round.length > 0 && tookMs < WATCH_FLUSH_SLICE_MS) {
      const group = this.#round.at(-1)!;
      if (this.#suspended?.group !== group) this.#begin(group);
      if (this.#deliver(group, beginMs + WATCH_FLUSH_SLICE_MS)) this.#round.pop();
      tookMs = clock.monotonicMs() - beginMs;
    }
    this.#roundMs += tookMs;
    if (this.#round.length > 0) {
      this.#cancelTimer = clock.after(0, () => this.#flush());
      return;
    }
    onFlushed?.();
    const stretchedMs = Math.max(WATCH_FLUSH_MS_MIN, this.#roundMs * WATCH_FLUSH_PART);
    this.#flushMs = Math.min(stretchedMs, WATCH_FLUSH_MS_MAX);
    this.#roundMs = 0;
    if (this.#dirty.size > 0) this.#flushLater();
  }

  #begin(group: Group): void {
    this.#dirty.delete(group);
    if (!group.hasNews) return;
    const { clock, stampOf, tokenOf } = this.#options;
    group.stamp = stampOf(group);
    group.toldAtMs = clock.monotonicMs();
    group.flush(tokenOf(group), clock.nowMs());
  }

  /** Whether all watches have theirs. */
  #deliver(group: Group, untilMs: number): boolean {
    const { clock, write, fallBehind, positionsOf } = this.#options;
    const isSuspended = this.#suspended?.group === group;
    // What has come since the delivery began is not in it.
    const begunAt = isSuspended ? this.#suspended!.positions : undefined;
    const isThrough = group.deliver(
      (session, bytes) => {
        if (!write(session, bytes)) fallBehind(session, begunAt?.slice() ?? positionsOf(group));
      },
      () => clock.monotonicMs() >= untilMs,
    );
    if (!isThrough) this.#suspended = { group, positions: begunAt ?? positionsOf(group) };
    else if (isSuspended) this.#suspended = undefined;
    return isThrough;
  }
}
