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
  const { dataset, target, work } = order;
  const random = new SeededRandom(order.seed);
  const share = WRITE_SHARE[work];
  return (given) => {
    const key = keyAt(random.below(dataset.keyCount));
    const writes = share === 1 || (share > 0 && random.float() < share);
    const request: HttpRequest = writes
      ? target.protocol.put({ key, value: dataset.values[random.below(dataset.values.length)]! })
      : target.protocol.get(key);
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
