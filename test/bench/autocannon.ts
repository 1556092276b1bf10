/**
 * Load by autocannon, where wrk is not installed.
 *
 * It runs on this process's thread and draws each request as it is due. It needs more processor time
 * per request than some servers do, so its figures compare two servers only where both are slower
 * than it is; the report says which generator was used.
 */
import autocannon, { type AutocannonRequest, type AutocannonResult } from "autocannon";
import manifest from "autocannon/package.json" with { type: "json" };
import { SeededRandom } from "#shared/random.ts";
import { authorityOf } from "./client.ts";
import { keyAt } from "./dataset.ts";
import {
  batchKeys,
  KEYS_PER_REQUEST,
  LOAD_TIMEOUT_S,
  type LoadGenerator,
  type LoadOrder,
  type LoadResult,
  WRITE_SHARE,
} from "./load.ts";
import type { HttpRequest } from "./protocol.ts";

export function autocannonGenerator(): LoadGenerator {
  return {
    description: `autocannon ${manifest.version}`,
    run: async (order, signal) => {
      signal.throwIfAborted();
      const instance = autocannon({
        url: `http://${authorityOf(order.target)}`,
        connections: order.connections,
        duration: order.durationS,
        timeout: LOAD_TIMEOUT_S,
        requests: [{ setupRequest: requestDrawer(order) }],
      });
      const stop = (): void => instance.stop();
      signal.addEventListener("abort", stop, { once: true });
      const result = await instance;
      signal.removeEventListener("abort", stop);
      signal.throwIfAborted();
      return toLoadResult(result);
    },
  };
}

/** Draws the next request. `given` carries defaults of autocannon that every request must keep. */
export function requestDrawer(order: LoadOrder): (given: AutocannonRequest) => AutocannonRequest {
  const random = new SeededRandom(order.seed);
  return (given) => {
    const request = nextRequest(order, random);
    const { body: _given, ...defaults } = given;
    return {
      ...defaults,
      method: request.method,
      path: request.path,
      headers: { ...request.headers },
      ...(request.body === undefined ? {} : { body: request.body }),
    };
  };
}

function nextRequest({ dataset, target, work }: LoadOrder, random: SeededRandom): HttpRequest {
  const { protocol } = target;
  const start = random.below(dataset.keyCount);
  const anyValue = (): Buffer => dataset.values[random.below(dataset.values.length)]!;
  if (work === "scan") return protocol.scan(keyAt(start), KEYS_PER_REQUEST);
  if (work === "batch") {
    const keys = batchKeys(start, dataset.keyCount);
    return protocol.batch(keys.map((index) => ({ key: keyAt(index), value: anyValue() })));
  }
  const share = WRITE_SHARE[work];
  const writes = share === 1 || (share > 0 && random.float() < share);
  const key = keyAt(start);
  return writes ? protocol.put({ key, value: anyValue() }) : protocol.get(key);
}

/** Latency has a resolution of one millisecond. */
export function toLoadResult(result: AutocannonResult): LoadResult {
  return {
    requests: result.requests.total,
    durationMs: result.duration * 1000,
    p50Ms: result.latency.p50,
    p90Ms: result.latency.p90,
    p99Ms: result.latency.p99,
    p999Ms: result.latency.p99_9,
    maxMs: result.latency.max,
    errors: {
      status: result.non2xx,
      // Timeouts are counted among the errors there.
      socket: Math.max(0, result.errors - result.timeouts),
      timeout: result.timeouts,
    },
  };
}
