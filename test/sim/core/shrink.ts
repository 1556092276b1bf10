/**
 * Makes a failing run short: fewer events, without whole kinds of events, then without single ones, as
 * long as the same rule is broken. Each event throws its own dice, so the rest stays much the same.
 */
import { FAULT_EVENTS } from "./options.ts";
import { type RunFailure, type RunOptions, type RunSpec, run } from "./run.ts";

export type Shrunk = {
  readonly spec: RunSpec;
  readonly failure: RunFailure;
  readonly runs: number;
};

export type ShrinkOptions = Pick<RunOptions, "makeDisk"> & {
  /** That may be spent. */
  readonly runsMax: number;
};

export function shrink(spec: RunSpec, failure: RunFailure, options: ShrinkOptions): Shrunk {
  const shrinking = new Shrinking(spec, failure, options);
  shrinking.cutEnd();
  shrinking.dropKinds();
  shrinking.dropEvents();
  return shrinking.best;
}

class Shrinking {
  #spec: RunSpec;
  #failure: RunFailure;
  readonly #runsMax: number;
  readonly #options: RunOptions;
  #runs = 0;

  constructor(spec: RunSpec, failure: RunFailure, { runsMax, ...options }: ShrinkOptions) {
    this.#spec = spec;
    this.#failure = failure;
    this.#runsMax = runsMax;
    this.#options = options;
  }

  get best(): Shrunk {
    return { spec: this.#spec, failure: this.#failure, runs: this.#runs };
  }

  #try(spec: RunSpec): boolean {
    if (this.#runs >= this.#runsMax) return false;
    this.#runs++;
    const { failure } = run(spec, this.#options);
    if (failure?.violation.rule !== this.#failure.violation.rule) return false;
    this.#spec = spec;
    this.#failure = failure;
    return true;
  }

  /** What comes behind the failing event had no part in it; what healing broke may break earlier. */
  cutEnd(): void {
    this.#try({ ...this.#spec, events: this.#failure.event + 1 });
    let step = this.#failure.event >>> 1;
    while (step > 0) {
      const events = (this.#spec.events ?? this.#failure.event) - step;
      if (events <= 0 || !this.#try({ ...this.#spec, events })) step >>>= 1;
    }
  }

  dropKinds(): void {
    for (const kind of FAULT_EVENTS) {
      const without = new Set([...(this.#spec.without ?? []), kind]);
      this.#try({ ...this.#spec, without });
    }
  }

  /** Delta debugging: parts of the remaining events are left out, large ones first. */
  dropEvents(): void {
    const end = Math.min(this.#spec.events ?? this.#failure.event + 1, this.#failure.event + 1);
    let kept = Array.from({ length: end }, (_, i) => i);
    if (this.#spec.only !== undefined) kept = kept.filter((event) => this.#spec.only!.has(event));
    for (let size = kept.length >>> 1; size >= 1; size >>>= 1) {
      for (let at = 0; at < kept.length && this.#runs < this.#runsMax; ) {
        const rest = [...kept.slice(0, at), ...kept.slice(at + size)];
        if (this.#try({ ...this.#spec, only: new Set(rest) })) kept = rest;
        else at += size;
      }
    }
  }
}
