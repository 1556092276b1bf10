/** Tenants, their rates and quotas, over real processes: what operators do, and what clients then meet. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { type Answer, expectProblem, HttpClient, jsonOf } from "./http-client.ts";

type TenantBody = {
  readonly id: number;
  readonly state: string;
  readonly quotas: Readonly<Record<string, number | null>>;
  readonly usage: { readonly bytes: number; readonly objects: number };
  readonly deletion?: { readonly phase: string; readonly removed_objects: number };
};

describeEachDeployment("tenants", (start) => {
  let server: Deployment;
  let client: HttpClient;

  beforeAll(async () => {
    server = await start({ gatewayArgs: ["--rate-limit-per-ip", "5000"] });
    client = new HttpClient(server.url);
  });
  afterAll(() => client.close());

  const post = (path: string, body: unknown = {}): Promise<Answer> =>
    client.send("POST", path, {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  /** Of a gateway that has just been started: it serves keys before it has heard of tenants. */
  const known = () =>
    expect
      .poll(async () => (await client.get("/admin/tenants")).status, { timeout: 20_000 })
      .toBe(200);
  const tenant = async (name: string) =>
    jsonOf(await client.get(`/admin/tenants/${name}`)) as TenantBody;

  it("are created, suspended, resumed and deleted, and are there after a restart", async () => {
    await known();
    const created = await post("/admin/tenants", { name: "shop", quotas: { bytes: 1_000 } });
    expect([created.status, (jsonOf(created) as TenantBody).id]).toEqual([201, 2]);
    expectProblem(await post("/admin/tenants", { name: "shop" }), "ALREADY_EXISTS", "not_applied");
    expect((await post("/admin/tenants/shop/suspend")).status).toBe(200);
    expect((await post("/admin/tenants", { name: "other" })).status).toBe(201);
    await server.stop();
    await server.restart();
    await known();
    expect(await tenant("shop")).toMatchObject({ id: 2, state: "suspended" });
    expect((await post("/admin/tenants/shop/resume")).status).toBe(200);
    expect((await client.delete("/admin/tenants/other")).status).toBe(202);
    // A gateway takes the job, and waits for what may still come.
    await expect
      .poll(async () => (await tenant("other")).deletion?.phase, { timeout: 20_000 })
      .toBe("waiting");
    expectProblem(await post("/admin/tenants", { name: "other" }), "ALREADY_EXISTS", "not_applied");
    const third = await post("/admin/tenants", { name: "third" });
    expect((jsonOf(third) as TenantBody).id).toBe(4);
  });

  it("are limited in what they send, as every answer says", async () => {
    await known();
    await post("/admin/tenants/default", { quotas: { requests_per_second: 20 } });
    await expect
      .poll(async () => (await client.get("/v1/kv/a")).headers["ratelimit-policy"])
      .toContain('"tenant";q=20;w=1');
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, at) => client.put(`/v1/kv/rate-${at}`, "v")),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) {
      expectProblem(answer, "RATE_LIMITED", "not_applied");
      expect(answer.headers["retry-after"]).toMatch(/^[1-9][0-9]*$/);
    }
    // Who waits as long as he is told gets through at last.
    const put = async () => (await client.put("/v1/kv/patient", "v")).status;
    await expect.poll(put, { timeout: 20_000, interval: 200 }).toBe(201);
    await expect
      .poll(
        async () =>
          (await post("/admin/tenants/default", { quotas: { requests_per_second: null } })).status,
        { timeout: 20_000, interval: 200 },
      )
      .toBe(200);
    await expect
      .poll(async () => (await client.get("/v1/kv/a")).headers["ratelimit-policy"])
      .toBe('"address";q=5000;w=1');
    expect(jsonOf(await client.get("/v1/limits"))).toMatchObject({
      address_requests_per_second_max: 5_000,
    });
  });
});
