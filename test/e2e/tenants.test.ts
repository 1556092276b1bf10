/**
 * Tenants, their rates and quotas, over real processes: three gateways in front of a storage node, and the
 * all-in-one over a restart.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Cluster, startCluster } from "./cluster-harness.ts";
import { startAllInOne } from "./harness.ts";
import { type Answer, expectProblem, HttpClient, jsonOf } from "./http-client.ts";

type TenantBody = {
  readonly id: number;
  readonly state: string;
  readonly quotas: Readonly<Record<string, number | null>>;
  readonly usage: { readonly bytes: number; readonly objects: number };
  readonly deletion?: { readonly phase: string; readonly removed_objects: number };
};

const POLL = { timeout: 20_000, interval: 50 };

let names = 0;
/** A test that is run once more asks for other tenants: names of those that are deleted are kept for long. */
const newName = (name: string): string => `${name}-${++names}`;

/** A gateway, as an administrator and as one who names a tenant. */
class Gateway {
  readonly client: HttpClient;

  constructor(url: string) {
    this.client = new HttpClient(url);
  }

  post(path: string, body: unknown = {}): Promise<Answer> {
    const headers = { "Content-Type": "application/json" };
    return this.client.send("POST", path, { headers, body: JSON.stringify(body) });
  }

  async tenant(name: string): Promise<TenantBody> {
    return jsonOf(await this.client.get(`/admin/tenants/${name}`)) as TenantBody;
  }

  put(tenant: string, key: string, value = "v"): Promise<Answer> {
    return this.client.put(`/v1/kv/${key}`, value, { "Minikv-Tenant": tenant });
  }

  get(tenant: string, path: string): Promise<Answer> {
    return this.client.get(path, { "Minikv-Tenant": tenant });
  }

  /** One that has just been started serves keys before it has heard of tenants. */
  async knowsTenants(): Promise<void> {
    await expect.poll(async () => (await this.client.get("/admin/tenants")).status, POLL).toBe(200);
  }
}

describe("tenants at three gateways", () => {
  let cluster: Cluster;
  let gateways: readonly [Gateway, Gateway, Gateway];

  beforeAll(async () => {
    cluster = await startCluster({ nodes: 1, gateways: 3 });
    const [a, b, c] = cluster.gateways.map(({ url }) => new Gateway(url));
    gateways = [a!, b!, c!];
  });
  afterAll(async () => {
    for (const { client } of gateways) client.close();
    await cluster.close();
  });

  /** Until each of them answers so. */
  async function all(ask: (gateway: Gateway) => Promise<Answer>, status: number): Promise<void> {
    for (const gateway of gateways) {
      await expect.poll(async () => (await ask(gateway)).status, POLL).toBe(status);
    }
  }

  it("are known, suspended and deleted at all of them, and their data is their own", async () => {
    const [a, b, c] = gateways;
    const shop = newName("shop");
    for (const gateway of gateways) await gateway.knowsTenants();
    expect((await a.post("/admin/tenants", { name: shop })).status).toBe(201);
    await all((gateway) => gateway.get(shop, "/v1/kv?count_only"), 200);
    expect((await a.put(shop, "mine")).status).toBe(201);
    for (let at = 0; at < 30; at++) expect((await b.put(shop, `k${at}`)).status).toBe(201);
    expect(jsonOf(await c.get(shop, "/v1/kv?count_only"))).toEqual({ count: 31 });
    expect(jsonOf(await c.get("default", "/v1/kv?count_only"))).toEqual({ count: 0 });
    expectProblem(await c.get("default", "/v1/kv/mine"), "KEY_NOT_FOUND");
    const page = jsonOf(await c.get(shop, "/v1/kv?limit=5")) as { readonly cursor: string };
    const stolen = await c.get("default", `/v1/kv?limit=5&cursor=${page.cursor}`);
    expectProblem(stolen, "INVALID_ARGUMENT");

    expect((await b.post(`/admin/tenants/${shop}/suspend`)).status).toBe(200);
    await all((gateway) => gateway.get(shop, "/v1/kv/mine"), 403);
    expect((await c.post(`/admin/tenants/${shop}/resume`)).status).toBe(200);
    await all((gateway) => gateway.get(shop, "/v1/kv/mine"), 200);

    expect((await a.client.delete(`/admin/tenants/${shop}`)).status).toBe(202);
    await all((gateway) => gateway.put(shop, "late"), 403);
    // A gateway takes the job, removes what is there, and waits for what may still come.
    await expect.poll(async () => (await c.tenant(shop)).deletion?.phase, POLL).toBe("waiting");
    expect((await c.tenant(shop)).deletion?.removed_objects).toBe(31);
    expectProblem(await b.post("/admin/tenants", { name: shop }), "ALREADY_EXISTS", "not_applied");
  });

  it("have one rate at all of them together", async () => {
    const [a] = gateways;
    const busy = newName("busy");
    const rate = 40;
    const quotas = { requests_per_second: rate };
    for (const gateway of gateways) await gateway.knowsTenants();
    expect((await a.post("/admin/tenants", { name: busy, quotas })).status).toBe(201);
    const policyAt = async (gateway: Gateway) =>
      (await gateway.get(busy, "/v1/kv/a")).headers["ratelimit-policy"];
    for (const gateway of gateways) {
      await expect.poll(() => policyAt(gateway), POLL).toBe(`"tenant";q=${rate};w=1`);
    }
    const startedMs = performance.now();
    let passed = 0;
    let refused = 0;
    for (let round = 0; round < 15; round++) {
      const asked = gateways.flatMap((gateway) =>
        Array.from({ length: 20 }, () => gateway.get(busy, "/v1/kv/a")),
      );
      for (const answer of await Promise.all(asked)) {
        if (answer.status !== 429) {
          passed++;
          continue;
        }
        refused++;
        expectProblem(answer, "RATE_LIMITED");
        expect(answer.headers["retry-after"]).toMatch(/^[1-9][0-9]*$/);
      }
    }
    const seconds = (performance.now() - startedMs) / 1000;
    expect(refused).toBeGreaterThan(0);
    // A second's rate at once, one operation for each gateway, and a share that is on its way.
    expect(passed).toBeLessThanOrEqual(rate * seconds + rate + gateways.length + rate);
    // Who waits gets through at last, at each of them.
    for (const gateway of gateways) {
      const status = async () => (await gateway.put(busy, "patient")).status;
      await expect.poll(status, { ...POLL, interval: 200 }).toBeLessThan(300);
    }
  });

  it("have one quota at all of them together, and usage that every one tells", async () => {
    const [a, b, c] = gateways;
    const full = newName("full");
    const objects = 20;
    for (const gateway of gateways) await gateway.knowsTenants();
    expect((await a.post("/admin/tenants", { name: full, quotas: { objects } })).status).toBe(201);
    await all((gateway) => gateway.get(full, "/v1/kv?count_only"), 200);
    for (let at = 0; at < objects; at++) {
      expect((await b.put(full, `k${at}`)).status).toBe(201);
    }
    // What one has stored, the others hear of, and then store nothing more.
    const usageAt = async (gateway: Gateway) => (await gateway.tenant(full)).usage.objects;
    for (const gateway of gateways) {
      await expect.poll(() => usageAt(gateway), POLL).toBe(objects);
      const refused = await gateway.put(full, "more");
      const { limit, actual } = expectProblem(refused, "STORAGE_QUOTA_EXCEEDED", "not_applied");
      expect([limit, actual]).toEqual([objects, objects + 1]);
      expect((await gateway.put(full, "k0", "w")).status).toBe(200);
    }
    const named = { "Minikv-Tenant": full };
    expect((await c.client.delete("/v1/kv/k0", named)).status).toBe(204);
    const again = async () => (await a.put(full, "more")).status;
    await expect.poll(again, { ...POLL, interval: 200 }).toBe(201);
  });
});

describe("tenants of the all-in-one", () => {
  it("are there after a restart, and their ids are not given again", async () => {
    // Quotas count what is stored: a value of equal letters would be compressed to nothing.
    const gatewayArgs = ["--rate-limit-per-ip", "5000", "--compress-above", "0"];
    const server = await startAllInOne({ gatewayArgs });
    const gateway = new Gateway(server.url);
    const quotas = { bytes: 1_000 };
    const created = await gateway.post("/admin/tenants", { name: "shop", quotas });
    expect([created.status, (jsonOf(created) as TenantBody).id]).toEqual([201, 2]);
    expect((await gateway.put("shop", "a")).headers["ratelimit-policy"]).toBe(
      '"address";q=5000;w=1',
    );
    expectProblem(
      await gateway.put("shop", "b", "x".repeat(1_000)),
      "STORAGE_QUOTA_EXCEEDED",
      "not_applied",
    );
    await server.stop();
    gateway.client.close();
    await server.restart();
    const again = new Gateway(server.url);
    await again.knowsTenants();
    expect(await again.tenant("shop")).toMatchObject({ id: 2, quotas });
    expect((await again.get("shop", "/v1/kv/a")).status).toBe(200);
    const next = await again.post("/admin/tenants", { name: "next" });
    expect((jsonOf(next) as TenantBody).id).toBe(3);
    again.client.close();
  });
});
