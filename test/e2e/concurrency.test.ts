/**
 * Many clients on the same keys: no update is lost, and what they saw fits into one order.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { recordHistory } from "./history.ts";
import { HttpClient } from "./http-client.ts";
import { isLinearizable } from "./linearizability.ts";

const COUNTER_CLIENTS = 16;
const INCREMENTS_PER_CLIENT = 4;

describeEachDeployment("concurrent clients", (start) => {
  let server: Deployment;
  let client: HttpClient;

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
    const histories = await recordHistory({
      client,
      random: new SeededRandom(1),
      keys: ["/v1/kv/history-a", "/v1/kv/history-b", "/v1/kv/history-c"],
      clients: 12,
      operationsPerClient: 60,
    });
    let count = 0;
    let swapped = 0;
    for (const [path, history] of histories) {
      expect(history.every(({ endedAt }) => Number.isFinite(endedAt))).toBe(true);
      expect([path, isLinearizable(history)]).toEqual([path, true]);
      count += history.length;
      for (const { operation } of history) {
        if (operation.kind === "swap" && operation.succeeded) swapped++;
      }
    }
    expect(count).toBe(12 * 60);
    // Otherwise the history would say little.
    expect(swapped).toBeGreaterThan(10);
  });
});
