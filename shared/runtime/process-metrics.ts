/**
 * Metrics that every program has: its build, its process, its memory, its event loop.
 *
 * In the all-in-one two threads share a process. What is of the process comes from one of them; what is of
 * a thread (event loop, heap, collections) carries the label `thread`, which is the same everywhere.
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import type { Counter, Registry } from "prom-client";
import type { CertificateDates } from "./certificate-dates.ts";
import {
  joinMetrics,
  type MetricDescription,
  type MetricFamily,
  type MetricReaders,
  readMetrics,
} from "./metrics.ts";
import { VERSION } from "./version.ts";

export const PROCESS_METRICS = {
  buildInfo: {
    name: "minikv_build_info",
    type: "gauge",
    labels: ["version", "node_version", "program"],
    help: "1; the version of minikv, of Node.js, and the program.",
  },
  eventLoopDelay: {
    name: "minikv_event_loop_delay_seconds",
    type: "summary",
    labels: ["quantile", "thread"],
    help: "How late timers of the event loop ran, over the last whole window of 15 seconds.",
  },
  eventLoopActive: {
    name: "minikv_event_loop_active_seconds_total",
    type: "counter",
    labels: ["thread"],
    help: "Time that the event loop was busy and not waiting for events.",
  },
  certificateExpiry: {
    name: "minikv_tls_certificate_expiry_timestamp_seconds",
    type: "gauge",
    labels: ["use"],
    help: "Until when a certificate in use is valid, since the Unix epoch: https or cluster.",
    optional: true,
  },
  slowOperations: {
    name: "minikv_slow_operations_total",
    type: "counter",
    labels: ["thread"],
    help: "Operations that took longer than --slow-operation, whether a line was written or not.",
  },
} as const satisfies Record<string, MetricDescription>;

/** Of those that prom-client has; the others repeat what stands above, or tell of nothing here. */
export const CLIENT_METRICS_OF_PROCESS: readonly string[] = [
  "process_cpu_user_seconds_total",
  "process_cpu_system_seconds_total",
  "process_cpu_seconds_total",
  "process_start_time_seconds",
  "process_resident_memory_bytes",
  "process_open_fds",
  "process_max_fds",
];
export const CLIENT_METRICS_OF_THREAD: readonly string[] = [
  "nodejs_heap_size_total_bytes",
  "nodejs_heap_size_used_bytes",
  "nodejs_external_memory_bytes",
  "nodejs_gc_duration_seconds",
];

const QUANTILES = [0.5, 0.99, 1] as const;
const WINDOW_MS = 15_000;
/** Timers of the monitor, which are in what it measures. */
const RESOLUTION_MS = 100;
/** prom-client has a monitor of its own, whose figures are not told: its timer must not wake anybody. */
const UNUSED_RESOLUTION_MS = 3_600_000;

/** Quantiles of the last window that has ended; of the first one while it runs. */
class EventLoopDelay {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #timer: NodeJS.Timeout;
  #last: readonly number[] | undefined;

  constructor() {
    this.#histogram.enable();
    this.#timer = setInterval(() => {
      this.#last = this.#quantiles();
      this.#histogram.reset();
    }, WINDOW_MS);
    this.#timer.unref();
  }

  /** In seconds, in the order of QUANTILES. Not by who asks: several may. */
  get quantiles(): readonly number[] {
    return this.#last ?? this.#quantiles();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }

  #quantiles(): readonly number[] {
    // Without measurements the monitor answers its greatest number.
    if (this.#histogram.count === 0) return QUANTILES.map(() => 0);
    return QUANTILES.map((quantile) => {
      const delayMs = this.#histogram.percentile(quantile * 100) / 1e6 - RESOLUTION_MS;
      return Math.max(0, delayMs / 1000);
    });
  }
}

export type ProcessMetricsOptions = {
  /** As the log says it. */
  readonly program: string;
  /** "gateway" or "storage-node": what the thread does. */
  readonly thread: string;
  /** What was slow in the thread since the start. */
  readonly slow: () => number;
  readonly certificates?: CertificateDates | undefined;
  /** False for a thread whose process another thread tells of. */
  readonly ofProcess: boolean;
};

export class ProcessMetrics {
  readonly #options: ProcessMetricsOptions;
  readonly #delay = new EventLoopDelay();
  #client: Promise<Registry> | undefined;
  readonly #readers: MetricReaders<typeof PROCESS_METRICS>;

  constructor(options: ProcessMetricsOptions) {
    this.#options = options;
    const { program, thread, ofProcess, slow } = options;
    this.#readers = {
      buildInfo: (sink) => {
        if (ofProcess) sink.value(1, { version: VERSION, node_version: process.version, program });
      },
      eventLoopDelay: (sink) => {
        const { quantiles } = this.#delay;
        QUANTILES.forEach((quantile, at) => {
          sink.value(quantiles[at]!, { quantile: String(quantile), thread });
        });
      },
      eventLoopActive: (sink) => {
        sink.value(performance.eventLoopUtilization().active / 1000, { thread });
      },
      certificateExpiry: (sink) => {
        for (const [use, untilMs] of options.certificates?.untilMs ?? []) {
          sink.value(untilMs / 1000, { use });
        }
      },
      slowOperations: (sink) => sink.value(slow(), { thread }),
    };
  }

  async read(): Promise<readonly MetricFamily[]> {
    return joinMetrics([readMetrics(PROCESS_METRICS, this.#readers), await this.#clientMetrics()]);
  }

  close(): void {
    this.#delay.close();
    this.#client?.then(
      (client) => client.clear(),
      () => {},
    );
  }

  async #clientMetrics(): Promise<readonly MetricFamily[]> {
    const { thread, ofProcess } = this.#options;
    this.#client ??= openClient();
    const metrics = await (await this.#client).getMetricsAsJSON();
    return metrics.flatMap((metric): MetricFamily[] => {
      const isThreads = CLIENT_METRICS_OF_THREAD.includes(metric.name);
      const isTold = isThreads || (ofProcess && CLIENT_METRICS_OF_PROCESS.includes(metric.name));
      return isTold ? [familyOf(metric as ClientMetric, isThreads ? { thread } : {})] : [];
    });
  }
}

/**
 * Loaded when somebody reads metrics for the first time, because it brings some ninety modules along. Collections
 * are counted from then on; processor time too, so it gets what was used before.
 */
async function openClient(): Promise<Registry> {
  const { collectDefaultMetrics, Registry } = await import("prom-client");
  const register = new Registry();
  const { user, system } = process.cpuUsage();
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: UNUSED_RESOLUTION_MS });
  const usedMicros = {
    process_cpu_user_seconds_total: user,
    process_cpu_system_seconds_total: system,
    process_cpu_seconds_total: user + system,
  };
  for (const [name, micros] of Object.entries(usedMicros)) {
    (register.getSingleMetric(name) as Counter).inc(micros / 1e6);
  }
  return register;
}

type ClientMetric = {
  readonly name: string;
  readonly help: string;
  readonly type: unknown;
  readonly values: readonly {
    readonly metricName?: string;
    readonly labels: Readonly<Record<string, string | number>>;
    readonly value: number;
  }[];
};

function familyOf(metric: ClientMetric, more: Readonly<Record<string, string>>): MetricFamily {
  const { name, help, type, values } = metric;
  return {
    ...{ name, help: help.endsWith(".") ? help : `${help}.` },
    type: type as MetricFamily["type"],
    samples: values.map(({ metricName = name, labels, value }) => ({
      suffix: metricName.slice(name.length) as "" | "_bucket" | "_sum" | "_count",
      labels: { ...more, ...textLabels(labels) },
      value,
    })),
  };
}

const textLabels = (labels: Readonly<Record<string, string | number>>) =>
  Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]));
