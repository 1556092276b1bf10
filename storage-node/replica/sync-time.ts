/**
 * How long a log batch takes until it is durable, smoothed: what makes a node slow in the eyes of the
 * cluster, which then lets others lead.
 *
 * It ages. A node that was paused, or whose disk stalled for a moment, leads nothing afterwards, and may
 * have nothing more to sync: by its last measurement alone it would be slow for ever. And a batch that does
 * not end counts before it ends, because a disk that hangs measures nothing.
 */
const SMOOTHING = 1 / 16;
/** A second without any log batch is nothing unusual; a minute says that the measurement is old. */
const HALF_LIFE_MS = 10_000;
/** Beyond so many half-lives nothing is left of it. */
const HALVES_MAX = 32;

export class SyncTime {
  #micros = 0;
  /** When `#micros` was that. */
  #measuredMs = 0;
  #outstanding = 0;
  /** Since when batches are outstanding and none of them has ended. */
  #waitingSinceMs = 0;

  /** A batch is handed over. Answers its start, for `end`. */
  begin(nowMs: number): number {
    if (this.#outstanding++ === 0) this.#waitingSinceMs = nowMs;
    return nowMs;
  }

  /** A batch that began at `startedMs` is durable. */
  end(startedMs: number, nowMs: number): void {
    this.#outstanding--;
    this.#waitingSinceMs = nowMs;
    const before = this.#aged(startedMs);
    this.#micros = before + SMOOTHING * (1000 * (nowMs - startedMs) - before);
    this.#measuredMs = nowMs;
  }

  micros(nowMs: number): number {
    const waiting = this.#outstanding === 0 ? 0 : 1000 * (nowMs - this.#waitingSinceMs);
    if (waiting <= this.#micros) return this.#aged(nowMs);
    const before = this.#aged(this.#waitingSinceMs);
    return before + SMOOTHING * (waiting - before);
  }

  /** For how long batches have been outstanding without any of them ending; 0 when none is. */
  stalledMs(nowMs: number): number {
    return this.#outstanding === 0 ? 0 : nowMs - this.#waitingSinceMs;
  }

  #aged(nowMs: number): number {
    const halves = Math.max(0, nowMs - this.#measuredMs) / HALF_LIFE_MS;
    return halves > HALVES_MAX ? 0 : this.#micros * 2 ** -halves;
  }
}
