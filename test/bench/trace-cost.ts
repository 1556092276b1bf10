/**
 * What a traced request costs: processor time to make and to deliver its spans, in all threads together, and
 * what one costs that is not traced. Processor time, since it means the same on a machine that is busy.
 *
 *   node test/bench/trace-cost.ts
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock } from "#shared/clock.ts";
import { systemRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { type OpenTracing, openTracing } from "#shared/runtime/tracing.ts";

const TRACES_PER_ROUND = 200;
const ROUNDS = 11;
const UNSAMPLED = 500_000;
/** In a gateway and in the three nodes of its vshard. */
const SPANS_OF_A_PUT = 12;

const cpuMicros = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

/** Makes the spans of one put with attributes as they are. */
function recordPut(tracing: OpenTracing): void {
  const trace = tracing.sample(undefined);
  if (trace === undefined) return;
  const { context: root } = trace;
  const attributes = { "minikv.vshard": 17, "minikv.node.id": 2, "minikv.raft.role": "leader" };
  for (let span = 0; span < SPANS_OF_A_PUT; span++) {
    const context = span === 0 ? root : tracing.childOf(root);
    const parent = span === 0 ? undefined : root;
    const times = { startMs: trace.startMs, endMs: trace.startMs + 2 };
    tracing.record({ name: "append", kind: "internal", context, parent, ...times, attributes });
  }
}

function opened(ratio: string, port: number): Promise<OpenTracing> {
  return openTracing({
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_TRACES_SAMPLER: "traceidratio",
      OTEL_TRACES_SAMPLER_ARG: ratio,
      OTEL_BSP_SCHEDULE_DELAY: "0",
      OTEL_BSP_MAX_QUEUE_SIZE: String(TRACES_PER_ROUND * SPANS_OF_A_PUT),
    },
    ...{ service: "minikv-gateway", version: "0", clientTracesPerSecondMax: 0 },
    ...{ clock: systemClock(), random: systemRandom() },
    logger: createLogger({ level: "fatal", program: "bench" }),
  });
}

async function traceMicros(tracing: OpenTracing): Promise<number> {
  const exported = () => {
    const { spansExported, spansLost } = tracing.figures();
    return spansExported + spansLost;
  };
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const until = exported() + TRACES_PER_ROUND * SPANS_OF_A_PUT;
    const before = cpuMicros();
    for (let i = 0; i < TRACES_PER_ROUND; i++) recordPut(tracing);
    while (exported() < until) await new Promise((resolve) => setTimeout(resolve, 5));
    rounds.push((cpuMicros() - before) / TRACES_PER_ROUND);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1]!;
}

function unsampledNanos(tracing: OpenTracing): number {
  let sampled = 0;
  const before = cpuMicros();
  for (let i = 0; i < UNSAMPLED; i++) if (tracing.sample(undefined) !== undefined) sampled++;
  if (sampled > 0) throw new Error("nothing was to be sampled");
  return ((cpuMicros() - before) * 1000) / UNSAMPLED;
}

// Its reading of what is sent counts as well: it runs in this process.
const collector = createServer((request, response) => {
  request.resume();
  request.on("end", () => response.end());
});
await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
const { port } = collector.address() as AddressInfo;
const on = await opened("1", port);
const off = await opened("0", port);
unsampledNanos(off);
const unsampled = unsampledNanos(off);
const traced = await traceMicros(on);
process.stdout.write(
  `traced: ${traced.toFixed(0)} µs of processor time for ${SPANS_OF_A_PUT} spans, delivered; ` +
    `at 1 %: ${(traced / 100).toFixed(1)} µs a request\n` +
    `not traced: ${unsampled.toFixed(0)} ns\n`,
);
await Promise.all([on.close(1_000), off.close(1_000)]);
collector.closeAllConnections();
collector.close();
