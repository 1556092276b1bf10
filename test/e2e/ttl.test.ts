/** Time to live over real processes and real time: short ones, and nothing asserted about speed. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { expectProblem, HttpClient } from "./http-client.ts";
import { removeAll } from "./many-client.ts";

const SPELLINGS = [
  ["Minikv-TTL", "/v1/kv/header", { "Minikv-TTL": "1" }],
  ["X-Minikv-TTL", "/v1/kv/old-header", { "X-Minikv-TTL": "1" }],
  ["?ttl=", "/v1/kv/parameter?ttl=1", {}],
] as const;

describeEachDeployment("time to live", (start) => {
  let server: Deployment;
  let client: HttpClient;

  beforeAll(async () => {
    server = await start();
    client = new HttpClient(server.url);
  });
  beforeEach(() => removeAll(client));
  afterAll(() => client.close());

  it("in all three spellings ends the value, and an ended one is never returned", async () => {
    await Promise.all(
      SPELLINGS.map(async ([, target, headers]) => {
        const putMs = Date.now();
        expect((await client.put(target, "v", headers)).status).toBe(201);
        const path = target.split("?")[0]!;
        let expiresAtMs = 0;
        for (;;) {
          const askedMs = Date.now();
          const got = await client.get(path);
          if (got.status === 404) break;
          expect(got.status).toBe(200);
          expiresAtMs = Date.parse(String(got.headers["minikv-expires-at"]));
          expect(expiresAtMs).toBeGreaterThanOrEqual(putMs + 1_000);
          // Asked after its end on the same clock, it must not be there.
          expect(askedMs).toBeLessThan(expiresAtMs);
          await sleep(10);
        }
        expect(Date.now()).toBeGreaterThanOrEqual(putMs + 1_000);
        expectProblem(await client.get(path), "KEY_NOT_FOUND");
        expect((await client.send("HEAD", path)).status).toBe(404);
        expectProblem(await client.delete(path), "KEY_NOT_FOUND", "not_applied");
        const created = await client.put(path, "new", { "If-None-Match": "*" });
        expect(created.status).toBe(201);
      }),
    );
  });

  it("does not outlive a PUT without it", async () => {
    const path = "/v1/kv/kept";
    await client.put(path, "1", { "Minikv-TTL": "1" });
    const other = "/v1/kv/witness";
    await client.put(other, "1", { "Minikv-TTL": "1" });
    await client.put(path, "2");
    await expect.poll(async () => (await client.get(other)).status, { timeout: 20_000 }).toBe(404);
    const kept = await client.get(path);
    expect([kept.status, kept.body.toString()]).toEqual([200, "2"]);
    expect(kept.headers["minikv-expires-at"]).toBeUndefined();
  });

  it.each(["0", "-1", "1.5", "5s", "", "99999999999999"])("of %j is refused", async (ttl) => {
    const headers = { "Minikv-TTL": ttl };
    expectProblem(await client.put("/v1/kv/bad", "v", headers), "INVALID_ARGUMENT", "not_applied");
    const inQuery = await client.put(`/v1/kv/bad?ttl=${ttl}`, "v");
    expectProblem(inQuery, "INVALID_ARGUMENT", "not_applied");
    expect((await client.get("/v1/kv/bad")).status).toBe(404);
  });
});
