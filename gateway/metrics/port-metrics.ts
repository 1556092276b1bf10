/**
 * Figures of the storage node in the same process, which runs in another thread: asked over the control
 * port. When it does not answer in time the gateway's own figures are told alone, for a scrape must not
 * hang on what it is to find out.
 */
import type { Clock } from "#shared/clock.ts";
import { METRICS_THREAD_TIMEOUT_MS } from "#shared/limits-telemetry.ts";
import type { MetricFamily } from "#shared/runtime/metrics.ts";

/** From the gateway's thread. */
export type MetricsAsk = { readonly kind: "askMetrics"; readonly id: number };
/** To the gateway's thread. */
export type MetricsAnswer = {
  readonly kind: "metrics";
  readonly id: number;
  readonly families: readonly MetricFamily[];
};

/** Never rejects. */
export async function answerMetrics(
  read: () => Promise<readonly MetricFamily[]>,
  { id }: MetricsAsk,
): Promise<MetricsAnswer> {
  try {
    return { kind: "metrics", id, families: await read() };
  } catch {
    return { kind: "metrics", id, families: [] };
  }
}

export class PortMetrics {
  readonly #post: (ask: MetricsAsk) => void;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, (families: readonly MetricFamily[]) => void>();
  #lastId = 0;

  constructor(options: { readonly post: (ask: MetricsAsk) => void; readonly clock: Clock }) {
    this.#post = options.post;
    this.#clock = options.clock;
  }

  /** Empty when there is no answer. */
  read(): Promise<readonly MetricFamily[]> {
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      const end = (families: readonly MetricFamily[]): void => {
        this.#waiting.delete(id);
        cancelTimer();
        resolve(families);
      };
      const cancelTimer = this.#clock.after(METRICS_THREAD_TIMEOUT_MS, () => end([]));
      this.#waiting.set(id, end);
      this.#post({ kind: "askMetrics", id });
    });
  }

  /** To be called with each answer that comes; one that comes too late is dropped. */
  receive({ id, families }: MetricsAnswer): void {
    this.#waiting.get(id)?.(families);
  }
}
