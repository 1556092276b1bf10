/** What the log has written since the start, counted in plain numbers. */
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import type { Batch } from "./batch.ts";

export class WalFigures {
  /** Batches whose writing has begun. */
  begun = 0;
  /** One for each durable batch: from the beginning of its write on. */
  readonly syncs = new LatencyHistogram();
  /** Of durable batches. */
  bytes = 0;
  /** The log's own list. */
  readonly #segments: readonly unknown[];

  constructor(segments: readonly unknown[]) {
    this.#segments = segments;
  }

  /** Segment files now. */
  get segments(): number {
    return this.#segments.length;
  }

  begin(batch: Batch, nowMs: number): void {
    this.begun++;
    batch.begunMs = nowMs;
  }

  durable(batch: Batch, nowMs: number): void {
    this.syncs.observe(nowMs - batch.begunMs);
    this.bytes += batch.sizeBytes;
  }
}
