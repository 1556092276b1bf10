/**
 * Many clients on the same keys: no update is lost, and what they saw fits into one order.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { checkKey, explain } from "#test/linearizability/check.ts";
import { Workload } from "#test/torture/load/workload.ts";
import { type Deployment, describeEachDeployment, WITH_CLUSTER } from "./harness.ts";
import { HttpClient } from "./http-client.ts";

const COUNTER_CLIENTS = 16;
const INCREMENTS_PER_CLIENT = 4;
const HISTORY_OPERATIONS = 720;
/** Of them some are swaps that succeed; how many is chance, and where they are too few it goes on up to here. */
const HISTORY_OPERATIONS_MAX = 4 * HISTORY_OPERATIONS;
/** With fewer the history would say little. */
const SWAPS_MIN = 11;

function swapsIn(workload: Workload): number {
  let swaps = 0;
  for (const history of workload.histories.values()) {
    for (const { action, outcome } of history) {
      if (action.kind === "put" && action.condition && outcome.kind === "stored") swaps++;
    }
  }
  return swaps;
}

describeEachDeployment(
  "concurrent clients",
  (start) => {
    let server: Deployment;
    let client: HttpClient;
    let runs = 0;

    beforeAll(async () => {
      server = await start();
      client = new HttpClient(server.url);
    });
    afterAll(() => client.close());

    it("count to the sum of their increments by compare and swap", async () => {
      const path = "/v1/kv/counter";
      await client.put(path, "0");
      const increment = async (): Promise<void> => {
        for (;;) {
          const got = await client.get(path);
          const next = String(Number(got.body.toString()) + 1);
          const put = await client.put(path, next, { "If-Match": got.headers.etag! });
          if (put.status === 200) return;
          expect(put.status).toBe(412);
        }
      };
      const clients = Array.from({ length: COUNTER_CLIENTS }, async () => {
        for (let count = 0; count < INCREMENTS_PER_CLIENT; count++) await increment();
      });
      await Promise.all(clients);
      const sum = COUNTER_CLIENTS * INCREMENTS_PER_CLIENT;
      expect((await client.get(path)).body.toString()).toBe(String(sum));
    });

    it("see a linearizable history of gets, puts, swaps and deletes", async () => {
      const workload = new Workload({
        urls: [server.url],
        seed: 1,
        // A run that is tried again must not find what the one before it has left.
        name: `history-${++runs}`,
        clients: 12,
        hotKeys: 3,
        coldKeys: 0,
        thinkMsMax: 0,
        timeoutsMs: [10_000],
      });
      await workload.run(() => {
        const { operations } = workload;
        if (operations >= HISTORY_OPERATIONS_MAX) return true;
        return operations >= HISTORY_OPERATIONS && swapsIn(workload) >= SWAPS_MIN;
      });
      for (const [key, history] of workload.histories) {
        expect([key, explain(history, checkKey(history))]).toEqual([key, "linearizable"]);
      }
      expect(workload.complaints).toEqual([]);
      expect(swapsIn(workload)).toBeGreaterThanOrEqual(SWAPS_MIN);
    });
  },
  WITH_CLUSTER,
);
