/** The part of autocannon 9 that the benchmark uses; the package brings no types. */
declare module "autocannon" {
  import type { EventEmitter } from "node:events";

  namespace autocannon {
    type AutocannonRequest = {
      method: string;
      path: string;
      headers: Record<string, string>;
      body?: Buffer;
    };

    type AutocannonResult = {
      /** Seconds. */
      duration: number;
      latency: { p50: number; p90: number; p99: number; p99_9: number; max: number };
      requests: { total: number };
      non2xx: number;
      /** Timeouts are among them. */
      errors: number;
      timeouts: number;
    };

    type AutocannonInstance = EventEmitter & PromiseLike<AutocannonResult> & { stop(): void };
  }

  function autocannon(options: {
    url: string;
    connections: number;
    /** Seconds. */
    duration: number;
    /** Seconds. */
    timeout: number;
    requests: {
      setupRequest: (request: autocannon.AutocannonRequest) => autocannon.AutocannonRequest;
    }[];
  }): autocannon.AutocannonInstance;

  export = autocannon;
}
