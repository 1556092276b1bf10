/**
 * Traces of real processes, as a collector receives them: one connected trace over gateway and storage
 * nodes, nothing of keys and values in it, and a collector that fails disturbs nobody.
 */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SERVES_HTTP } from "#test/processes/minikv.ts";
import { type Cluster, startCluster } from "./cluster-harness.ts";
import { spawnMinikv, temporaryDirectory } from "./harness.ts";
import { OtlpReceiver, type ReceivedSpan } from "./otlp-receiver.ts";

/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 60_000, interval: 50 };
const TEST_TIMEOUT_MS = 300_000;
/** After which a write is taken to be one that has not all spans. */
const AGAIN = { timeout: 10_000, interval: 50 };
const ATTEMPTS_MAX = 20;
/** What clocks of processes on one machine, read at different moments, may differ by. */
const SKEW_MS = 25;

const KEY = "a-key-that-nobody-else-may-read";
const VALUE = "a-value-that-nobody-else-may-read";
const CLIENT_SPAN = "00f067aa0ba902b7";

/** All that were asked for. A test that is run once more asks for another one. */
const asked = new Set<string>();

function newTrace(): string {
  const trace = randomBytes(16).toString("hex");
  asked.add(trace);
  return trace;
}

let receiver: OtlpReceiver;
beforeAll(async () => {
  receiver = await OtlpReceiver.start();
});
afterAll(() => receiver.close());

const PATIENT = { "Minikv-Timeout": "25s" };

const headersOf = (trace: string) => ({
  traceparent: `00-${trace}-${CLIENT_SPAN}-01`,
  ...PATIENT,
});

const spansOf = (trace: string) => receiver.spans.filter(({ traceId }) => traceId === trace);

/** As `name` or, for what a member did as a follower, `follower name`. */
const nameOf = ({ name, attributes }: ReceivedSpan) =>
  attributes["minikv.raft.role"] === "follower" ? `follower ${name}` : name;

/** Names that no span of the trace has, or too few; others may be there, such as of another attempt. */
function missingOf(names: readonly string[], trace: string): readonly string[] {
  const left = spansOf(trace).map(nameOf);
  return names.filter((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

/** Every span but the first one is below another one of the trace, and does not begin before it. */
function expectConnected(spans: readonly ReceivedSpan[]): void {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  for (const { name, parentSpanId, startMs, endMs } of spans) {
    expect(endMs, name).toBeGreaterThanOrEqual(startMs);
    if (parentSpanId === CLIENT_SPAN) continue;
    const parent = byId.get(parentSpanId ?? "");
    expect(parent, `the parent of ${name}`).toBeDefined();
    expect(startMs, name).toBeGreaterThanOrEqual(parent!.startMs - SKEW_MS);
  }
  expect(spans.filter(({ parentSpanId }) => parentSpanId === CLIENT_SPAN)).toHaveLength(1);
}

/**
 * Writes until one of the writes has all these spans, and says under which trace. Not every one has: a gateway reads
 * from the change log, which keeps no contexts, what came before its follow stood or while it heard nothing of
 * the vshard for seconds. That a watch is open says nothing of its follow.
 */
async function writeUntilTraced(url: string, names: readonly string[]): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const trace = newTrace();
    const answer = await fetch(url, { method: "PUT", body: VALUE, headers: headersOf(trace) });
    expect(answer.ok).toBe(true);
    try {
      await expect.poll(() => missingOf(names, trace), AGAIN).toEqual([]);
      return trace;
    } catch (error) {
      if (attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

describe("a cluster with traces on", { timeout: TEST_TIMEOUT_MS }, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    const env = { ...receiver.environment(), OTEL_TRACES_SAMPLER: "parentbased_always_off" };
    cluster = await startCluster({ nodes: 3, gateways: 2, env });
  }, TEST_TIMEOUT_MS);
  afterAll(() => cluster?.close());

  it("makes one trace of a write, from the gateway to each node and to who watches elsewhere", async () => {
    const [gateway, other] = cluster.gateways;
    const watching = new AbortController();
    const watch = `${other!.url}/v1/watch?prefix=${KEY}`;
    const events = await fetch(watch, { signal: watching.signal, headers: PATIENT });
    expect(events.status).toBe(200);
    const expected = [
      ...["PUT /v1/kv/{key}", "append", "apply", "commit", "deliver"],
      ...["follower append", "follower append", "follower apply", "follower apply"],
      ...["operate put", "propose", "reply", "storage put"],
    ];
    const trace = await writeUntilTraced(`${gateway!.url}/v1/kv/${KEY}`, expected);
    const spans = spansOf(trace);
    expectConnected(spans);
    const gateways = spans.filter(({ service }) => service === "minikv-gateway");
    const nodes = spans.filter(({ service }) => service === "minikv-storage-node");
    expect(new Set(gateways.map(({ instance }) => instance)).size).toBe(2);
    expect(new Set(nodes.map(({ instance }) => instance)).size).toBe(3);
    expect(new Set(nodes.map(({ attributes }) => attributes["minikv.node.id"])).size).toBe(3);
    const ids = (name: string) =>
      spans.filter((span) => span.name === name).map(({ spanId }) => spanId);
    const delivery = spans.find(({ name }) => name === "deliver")!;
    expect(ids("operate put")).toContain(delivery.links![0]!.spanId);
    watching.abort();
  });

  it("traces reads, batches and retries alike, within bounds", async () => {
    const trace = newTrace();
    const url = cluster.gateways[1]!.url;
    const ops = Array.from({ length: 200 }, (_, i) => ({ op: "get", key: `${KEY}-${i}` }));
    const headers = { ...headersOf(trace), "Content-Type": "application/json" };
    const body = JSON.stringify({ ops });
    expect((await fetch(`${url}/v1/batch`, { method: "POST", body, headers })).status).toBe(200);
    const expected = ["POST /v1/batch", "storage get", "operate get"];
    await expect.poll(() => missingOf(expected, trace), BUSY).toEqual([]);
    expect(spansOf(trace).filter(({ name }) => name === "storage get").length).toBeLessThan(33);
  });

  it("traces nothing that nobody asks for, and tells nobody of keys and values", async () => {
    // A test that is run once more finds it stopped.
    await cluster.restart();
    const trace = newTrace();
    for (const { url } of cluster.gateways) {
      await fetch(`${url}/v1/kv/${KEY}`, { method: "PUT", body: VALUE });
      await fetch(`${url}/v1/kv/${KEY}?consistency=stale`);
      await fetch(`${url}/v1/kv?prefix=${KEY}`, { headers: headersOf(trace) });
    }
    await expect.poll(() => spansOf(trace).map(nameOf), BUSY).toContain("GET /v1/kv");
    // Whoever stops delivers what is left.
    expect(await cluster.stop()).toBe(0);
    for (const { traceId } of receiver.spans) expect(asked).toContain(traceId);
    const received = Buffer.concat(receiver.bodies).toString("latin1");
    expect(received).toContain("/v1/kv/{key}");
    for (const secret of [KEY, VALUE]) {
      for (const form of [secret, btoa(secret).slice(0, -4), Buffer.from(secret).toHex()]) {
        expect(received).not.toContain(form);
      }
    }
  });
});

describe("the all-in-one", { timeout: TEST_TIMEOUT_MS }, () => {
  const start = (env: Record<string, string>) => {
    const settings = ["--listen", "127.0.0.1:0", "--data-dir", temporaryDirectory()];
    return spawnMinikv(["dev", ...settings], env);
  };

  it("serves and stops as ever when the collector is gone, and says so once per thread", async () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY: "1" };
    const server = start({ ...env, OTEL_EXPORTER_OTLP_TIMEOUT: "200" });
    const url = await server.printed(SERVES_HTTP);
    const failures = () =>
      server.logRecords().filter(({ msg }) => msg === "traces cannot be delivered").length;
    for (let i = 0; i < 20; i++) {
      const put = await fetch(`${url}/v1/kv/${i}`, { method: "PUT", body: "v" });
      expect(put.status).toBe(201);
    }
    await expect.poll(failures, BUSY).toBe(2);
    expect((await server.stop()).code).toBe(0);
    expect(failures()).toBe(2);
  });

  it("does not start with a variable that cannot be used, and names it", async () => {
    const server = start({ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" });
    expect((await server.waitForExit()).code).toBe(2);
    expect(server.stderr).toContain("OTEL_EXPORTER_OTLP_ENDPOINT is no URL");
  });
});
