/**
 * Which requests are traced, and the ids of their traces.
 *
 * A client that says `sampled` is followed, as W3C Trace Context expects, or its trace would have a hole
 * here. But anybody can say so, and a trace costs more than its request. So of requests whose trace is
 * a client's, so many are traced per second and no more. With a ratio of 1 the operator wants
 * all of them, and there is nothing to protect.
 *
 * A trace id made here agrees with the decision: its 32 bits behind byte 9 are the number that was drawn,
 * so whoever decides by the same ratio over the trace id comes to the same result.
 */
import type { Clock } from "./clock.ts";
import { TRACE_CONTEXT_SIZE_BYTES, TRACE_SPANS_PER_REQUEST_MAX } from "./limits.ts";
import type { Random } from "./random.ts";
import { isSampled, type RequestTrace, type TraceContext } from "./tracing.ts";

export type SamplerOptions = {
  /** Of requests without a trace, from 0 to 1. */
  readonly ratio: number;
  /** Whether a client's decision is followed; else each request is decided by its trace id. */
  readonly isParentBased: boolean;
  readonly clientTracesPerSecondMax: number;
  readonly clock: Clock;
  readonly random: Random;
};

const RANDOMNESS_AT = 9;

export class TraceSampler {
  readonly #options: SamplerOptions;
  /** A number from here on, of 32 bits, is sampled. */
  readonly #threshold: number;
  #tokens: number;
  #filledMs: number;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.#threshold = Math.round((1 - options.ratio) * 2 ** 32);
    this.#tokens = options.clientTracesPerSecondMax;
    this.#filledMs = options.clock.monotonicMs();
  }

  sample(parent: TraceContext | undefined): RequestTrace | undefined {
    const { random, isParentBased, ratio } = this.#options;
    if (parent === undefined) {
      const drawn = random.below(2 ** 32);
      return drawn < this.#threshold ? undefined : this.#trace(undefined, drawn);
    }
    const wanted = isParentBased
      ? isSampled(parent)
      : viewOf(parent).getUint32(RANDOMNESS_AT) >= this.#threshold;
    if (!wanted || (ratio < 1 && !this.#takeToken())) return undefined;
    return this.#trace(parent, 0);
  }

  childOf(parent: TraceContext): TraceContext {
    const context = new Uint8Array(TRACE_CONTEXT_SIZE_BYTES);
    this.#options.random.fill(context.subarray(16, 24));
    context.set(parent.subarray(0, 16));
    context[24] = 1;
    return context;
  }

  #trace(parent: TraceContext | undefined, drawn: number): RequestTrace {
    const { random, clock } = this.#options;
    let context: TraceContext;
    if (parent === undefined) {
      context = random.fill(new Uint8Array(TRACE_CONTEXT_SIZE_BYTES));
      viewOf(context).setUint32(RANDOMNESS_AT, drawn);
      context[24] = 1;
    } else {
      context = this.childOf(parent);
    }
    const startMs = clock.monotonicMs();
    return { context, parent, startMs, spansLeft: TRACE_SPANS_PER_REQUEST_MAX, tenant: undefined };
  }

  #takeToken(): boolean {
    const { clock, clientTracesPerSecondMax } = this.#options;
    const nowMs = clock.monotonicMs();
    const filled = ((nowMs - this.#filledMs) / 1000) * clientTracesPerSecondMax;
    this.#tokens = Math.min(clientTracesPerSecondMax, this.#tokens + filled);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

const viewOf = ({ buffer, byteOffset, length }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, length);
