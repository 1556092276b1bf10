/**
 * A token bucket: lets through at most `rate × time + burst` in any span of time.
 *
 * What costs more than the bucket holds (a large body, or any request where a gateway's share of a rate
 * is a fraction of a token) passes when the bucket is full, and leaves a debt that is paid off first: so
 * nothing is refused for ever, and the bound then has the largest cost in place of the burst.
 *
 * Time is monotonic milliseconds, handed in. An instance is three numbers beside its rate: there is
 * one for each address that was heard of lately.
 */

/** Of sums of fractions, in tokens: a bucket that is full must not seem a little less. */
const ROUNDING = 1e-6;

export class TokenBucket {
  /** Tokens per second. */
  #rate: number;
  #burst: number;
  /** As of `#atMs`; negative while in debt. */
  #level: number;
  #atMs: number;

  /** Begins full. */
  constructor(rate: number, burst: number, nowMs: number) {
    this.#rate = rate;
    this.#burst = burst;
    this.#level = burst;
    this.#atMs = nowMs;
  }

  get rate(): number {
    return this.#rate;
  }

  get burst(): number {
    return this.#burst;
  }

  /**
   * Other bounds from now on. What is in the bucket stays, as far as it fits: more room is no gift, or
   * a share that wanders between gateways would multiply the burst.
   */
  resize(rate: number, burst: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#rate = rate;
    this.#burst = burst;
    if (this.#level > burst) this.#level = burst;
  }

  /** Takes `cost` tokens if they are there, else none. */
  take(cost: number, nowMs: number): boolean {
    if (!this.has(cost, nowMs)) return false;
    this.#level -= cost;
    return true;
  }

  /** Whether `take` would succeed. */
  has(cost: number, nowMs: number): boolean {
    this.#fill(nowMs);
    const enough = cost < this.#burst ? cost : this.#burst;
    return this.#level + ROUNDING >= enough;
  }

  /**
   * Takes `cost` in place of the `taken` that was taken before for the same thing, or nothing more.
   * What costs more than the bucket holds could never pass in two parts.
   */
  takeInstead(taken: number, cost: number, nowMs: number): boolean {
    this.#level += taken;
    if (this.take(cost, nowMs)) return true;
    this.#level -= taken;
    return false;
  }

  /** Leaves at most `level` in it. */
  lower(level: number, nowMs: number): void {
    this.#fill(nowMs);
    if (this.#level > level) this.#level = level;
  }

  /** For what cannot be refused any more. */
  charge(cost: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#level -= cost;
  }

  /** What is left; negative while in debt. */
  level(nowMs: number): number {
    this.#fill(nowMs);
    return this.#level;
  }

  /** Until `take(cost)` succeeds, if nothing else is taken. Infinity without a rate. */
  waitMs(cost: number, nowMs: number): number {
    this.#fill(nowMs);
    const missing = Math.min(cost, this.#burst) - this.#level;
    if (missing <= 0) return 0;
    return this.#rate > 0 ? (missing / this.#rate) * 1000 : Number.POSITIVE_INFINITY;
  }

  isFull(nowMs: number): boolean {
    return this.level(nowMs) + ROUNDING >= this.#burst;
  }

  #fill(nowMs: number): void {
    const passedMs = nowMs - this.#atMs;
    if (passedMs <= 0) return;
    this.#atMs = nowMs;
    const level = this.#level + (passedMs / 1000) * this.#rate;
    this.#level = level < this.#burst ? level : this.#burst;
  }
}
