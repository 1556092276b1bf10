import { describe, expect, it } from "vitest";
import { TenantFigures } from "#gateway/limits/tenant-figures.ts";
import { NO_QUOTAS, type Tenant } from "#gateway/tenants/registry.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { toTenantId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { MetricSink } from "#shared/runtime/metrics.ts";
import { OTHER_TENANTS, TenantMetrics } from "./tenant-metrics.ts";

function setUp(count: number, tenantsMax: number) {
  const requests = new TenantFigures();
  const list = Array.from({ length: count }, (_, i): Tenant => {
    const id = toTenantId(i + 1);
    const quotas = { ...NO_QUOTAS, bytes: i === 0 ? 1_000 : 0 };
    return { id, name: `t${i + 1}`, state: "active", quotas, createdAtMs: 0, revision: 1 };
  });
  const tenants = {
    get: (id: number) => list.find((tenant) => tenant.id === id),
    byName: () => undefined,
    list: () => list,
    subscribe: () => () => undefined,
  };
  const directory = new MemoryDirectory();
  const metrics = new TenantMetrics({ requests, tenants, directory }, tenantsMax);
  const read = (name: keyof ReturnType<TenantMetrics["readers"]>) => {
    const sink = new MetricSink();
    metrics.readers()[name](sink);
    return sink.samples.map(({ labels, value }) => [labels.tenant, value] as const);
  };
  const ask = (tenant: number, admitted: number, rateLimited = 0): void => {
    const counts = requests.of(toTenantId(tenant));
    counts.admitted += admitted;
    counts.rateLimited += rateLimited;
  };
  return { read, ask, requests };
}

describe("TenantMetrics", () => {
  it("gives those with most use series of their own, and the others one", () => {
    const { read, ask } = setUp(4, 2);
    ask(1, 10, 3);
    ask(2, 5);
    ask(3, 2);
    ask(4, 1, 1);
    expect(Object.fromEntries(read("tenantRateLimited"))).toEqual({
      ...{ t1: 3, t2: 0 },
      [OTHER_TENANTS]: 1,
    });
    expect(read("tenantQuotaBytes")).toEqual([["t1", 1_000]]);
  });

  it("lets no counter fall when others have more use, and loses none", () => {
    const tenantCount = 12;
    const { read, ask } = setUp(tenantCount, 3);
    const random = new SeededRandom(11);
    const seen = new Map<string, number>();
    let asked = 0;
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 5; i++) {
        const count = random.below(20);
        ask(1 + random.below(tenantCount), count);
        asked += count;
      }
      for (const [tenant, value] of read("tenantRequests")) {
        expect(value).toBeGreaterThanOrEqual(seen.get(tenant!) ?? 0);
        seen.set(tenant!, value);
      }
      expect(seen.size).toBeLessThanOrEqual(tenantCount + 1);
    }
    const total = [...seen.values()].reduce((sum, value) => sum + value, 0);
    expect(total).toBe(asked);
  });

  it("has at most so many series for 10,000 tenants", () => {
    const { read, ask } = setUp(10_000, 100);
    for (let tenant = 1; tenant <= 10_000; tenant++) ask(tenant, tenant);
    expect(read("tenantRequests")).toHaveLength(101);
    expect(read("tenantBytes")).toHaveLength(101);
  });

  it("forgets a tenant that is gone", () => {
    const { read, ask, requests } = setUp(2, 2);
    ask(1, 1);
    ask(2, 1);
    requests.forget(toTenantId(1));
    expect(read("tenantRequests")).toEqual([["t2", 1]]);
  });
});
