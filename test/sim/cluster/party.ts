/**
 * One life of a simulated process, of a node or of a gateway: its clock, and the door through which the
 * world reaches it. What is brought to a paused process waits; a dead one is reached by nobody.
 */
import type { Clock } from "#shared/clock.ts";
import { violated } from "./violation.ts";

const START_MS = 1_700_000_000_000;
/** Of what waits for a paused process; more is dropped, as sockets and queues would. */
const HELD_MAX = 4000;

type Timer = { readonly dueMs: number; readonly order: number; readonly callback: () => void };

/** Timers that are overdue fire late, once, and see what time it really is: as after a pause. */
export class PartyClock implements Clock {
  readonly #rate: number;
  #skewMs: number;
  #monotonicMs = 0;
  #order = 0;
  readonly #timers = new Set<Timer>();

  /** `rate`: how fast it goes. `startMs`: true time at which it begins. */
  constructor(
    startMs: number,
    { rate, skewMs }: { readonly rate: number; readonly skewMs: number },
  ) {
    this.#rate = rate;
    this.#skewMs = START_MS + startMs + skewMs;
  }

  nowMs(): number {
    return Math.round(this.#skewMs + this.#monotonicMs);
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#monotonicMs + delayMs, order: this.#order++, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  jumpWall(byMs: number): void {
    this.#skewMs += byMs;
  }

  advance(byMs: number): void {
    this.#monotonicMs += byMs * this.#rate;
    const due: Timer[] = [];
    for (const timer of this.#timers) if (timer.dueMs <= this.#monotonicMs) due.push(timer);
    due.sort((a, b) => a.dueMs - b.dueMs || a.order - b.order);
    for (const timer of due) if (this.#timers.delete(timer)) timer.callback();
  }
}

export class Party {
  readonly name: string;
  readonly clock: PartyClock;
  isOver = false;
  isPaused = false;
  /** Told once, when it has ended. */
  readonly onOver = new Set<() => void>();
  #held: (() => void)[] = [];
  #missedMs = 0;

  constructor(name: string, clock: PartyClock) {
    this.name = name;
    this.clock = clock;
  }

  /** Now, when it goes on, or never. */
  run(work: () => void): void {
    if (this.isOver) return;
    if (!this.isPaused) work();
    else if (this.#held.length < HELD_MAX) this.#held.push(work);
  }

  /** As `run`, for what must not be dropped while it is paused: answers of its own disk. */
  runSurely(work: () => void): void {
    if (this.isPaused && !this.isOver) this.#held.push(work);
    else this.run(work);
  }

  advance(byMs: number): void {
    if (this.isOver) return;
    if (this.isPaused) this.#missedMs += byMs;
    else this.clock.advance(byMs);
  }

  resume(): void {
    if (!this.isPaused || this.isOver) return;
    this.isPaused = false;
    const held = this.#held;
    this.#held = [];
    const missedMs = this.#missedMs;
    this.#missedMs = 0;
    // Timers first, as the event loop does; then what has arrived.
    this.clock.advance(missedMs);
    for (const work of held) this.run(work);
  }

  end(): void {
    if (this.isOver) violated("simulator", `${this.name} ends twice`);
    this.isOver = true;
    this.#held = [];
    const told = [...this.onOver];
    this.onOver.clear();
    for (const tell of told) tell();
  }
}
