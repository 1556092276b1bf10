import { describe, expect, it } from "vitest";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { callerOf, exchangeWith, putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { BATCH_BODY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { Networks } from "./address.ts";
import { ClientAddresses } from "./client-address.ts";
import { RateLimiter } from "./limiter.ts";

const TENANT = toTenantId(7);

function setUp(perAddress = { rate: 0, burst: 0 }) {
  const clock = new ManualClock();
  const directory = new MemoryDirectory();
  const tenants = new TenantRegistry(directory);
  const addresses = new ClientAddresses(new Networks([]), "forwarded");
  const limiter = new RateLimiter({ clock, directory, tenants, addresses, perAddress });
  const quotas = (requestsPerSecond: number, requestBytesPerSecond = 0) =>
    putTenant(directory, TENANT, {
      quotas: { requestsPerSecond, requestBytesPerSecond: BigInt(requestBytesPerSecond) },
    });
  const admit = (headers: Record<string, string> = {}) =>
    limiter.admit(exchangeWith(headers), callerOf(TENANT));
  return { clock, directory, limiter, quotas, admit };
}

function refusalOf(run: () => unknown): RequestRefused {
  try {
    run();
  } catch (error) {
    if (error instanceof RequestRefused) return error;
    throw error;
  }
  throw new Error("was not refused");
}

const named = (headers: readonly string[] | undefined, name: string): string | undefined => {
  const at = headers?.indexOf(name) ?? -1;
  return at < 0 ? undefined : headers![at + 1];
};

describe("RateLimiter without limits", () => {
  it("says nothing and makes nothing", () => {
    const { limiter } = setUp();
    const exchange = exchangeWith();
    const first = limiter.admit(exchange, callerOf(DEFAULT_TENANT));
    expect(first).toEqual([]);
    expect(limiter.admit(exchange, undefined)).toBe(first);
    expect(limiter.admit(exchange, callerOf(TENANT))).toBe(first);
    limiter.chargeOperations(TENANT, 1000);
    expect(limiter.limitsOf(callerOf(TENANT))).toEqual({});
  });
});

describe("RateLimiter per address", () => {
  it("refuses what an address sends beyond its rate, before anybody is known", () => {
    const { clock, limiter } = setUp({ rate: 10, burst: 2 });
    const exchange = exchangeWith();
    expect(named(limiter.admit(exchange, undefined), "RateLimit")).toBe('"address";r=1;t=1');
    limiter.admit(exchange, undefined);
    const refusal = refusalOf(() => limiter.admit(exchange, undefined));
    expect(refusal.code).toBe("RATE_LIMITED");
    expect(refusal.limit).toBe(10);
    expect(named(refusal.headers, "Retry-After")).toBe("1");
    expect(named(refusal.headers, "RateLimit-Policy")).toBe('"address";q=10;w=1');
    expect(named(refusal.headers, "X-RateLimit-Remaining")).toBe("0");
    limiter.admit(exchangeWith({}, "192.0.2.2"), undefined);
    clock.advance(100);
    limiter.admit(exchange, undefined);
  });

  it("limits a /64 of IPv6 as one", () => {
    const { limiter } = setUp({ rate: 1, burst: 1 });
    limiter.admit(exchangeWith({}, "2001:db8::1"), undefined);
    expect(() => limiter.admit(exchangeWith({}, "2001:db8::2"), undefined)).toThrow("address");
    limiter.admit(exchangeWith({}, "2001:db8:0:1::1"), undefined);
  });

  it("charges the address once for a request of a tenant, and tells of both", async () => {
    const { limiter, quotas } = setUp({ rate: 10, burst: 2 });
    await quotas(100);
    const exchange = exchangeWith();
    limiter.admit(exchange, undefined);
    const headers = limiter.admit(exchange, callerOf(TENANT));
    expect(named(headers, "RateLimit-Policy")).toBe('"tenant";q=100;w=1, "address";q=10;w=1');
    expect(named(headers, "RateLimit")).toBe('"tenant";r=99;t=1, "address";r=1;t=1');
    expect(named(headers, "X-RateLimit-Limit")).toBe("100");
  });
});

describe("RateLimiter per tenant", () => {
  it("tells where the tenant stands, and refuses beyond the rate", async () => {
    const { clock, quotas, admit } = setUp();
    await quotas(2);
    expect(admit()).toEqual([
      ...["RateLimit-Policy", '"tenant";q=2;w=1', "RateLimit", '"tenant";r=1;t=1'],
      ...["X-RateLimit-Limit", "2", "X-RateLimit-Remaining", "1", "X-RateLimit-Reset", "1"],
    ]);
    admit();
    const refusal = refusalOf(() => admit());
    expect(refusal.outcome).toBe("not_applied");
    expect(named(refusal.headers, "Retry-After")).toBe("1");
    clock.advance(500);
    admit();
  });

  it("limits no other tenant", async () => {
    const { limiter, quotas, admit } = setUp();
    await quotas(1);
    admit();
    expect(() => admit()).toThrow(RequestRefused);
    expect(limiter.admit(exchangeWith(), callerOf(8))).toEqual([]);
  });

  it("charges a body by its Content-Length, and takes nothing of what it refuses", async () => {
    const { clock, quotas, admit } = setUp();
    await quotas(2, 1000);
    const headers = admit({ "content-length": "600" });
    expect(named(headers, "RateLimit-Policy")).toBe(
      '"tenant";q=2;w=1, "tenant-bytes";q=1000;w=1;qu="content-bytes"',
    );
    expect(named(headers, "RateLimit")).toBe('"tenant";r=1;t=1, "tenant-bytes";r=400;t=1');
    for (let attempt = 0; attempt < 3; attempt++) {
      const refusal = refusalOf(() => admit({ "content-length": "600" }));
      expect(refusal.limit).toBe(1000);
    }
    // The request's token is still there.
    admit({ "content-length": "400" });
    clock.advance(600);
    admit({ "content-length": "600" });
  });

  it("lets a body through that is larger than all that may come at once, and then waits", async () => {
    const { clock, quotas, admit } = setUp();
    await quotas(0, 1000);
    admit({ "content-length": "5000" });
    const refusal = refusalOf(() => admit({ "content-length": "1" }));
    expect(named(refusal.headers, "Retry-After")).toBe("5");
    clock.advance(4001);
    admit({ "content-length": "1" });
  });

  it("charges no more than any route reads for what is only announced", async () => {
    const { clock, directory, quotas, admit } = setUp();
    await quotas(0, BATCH_BODY_SIZE_BYTES_MAX);
    // Refused unread by every route; its sender pays nothing for it, and may only read.
    admit({ "content-length": String(Number.MAX_SAFE_INTEGER) });
    clock.advance(1_000);
    expect(directory.demand().get(TENANT)?.bytesPerSecond).toBe(BATCH_BODY_SIZE_BYTES_MAX);
    admit({ "content-length": "1" });
  });

  it("charges a body that does not announce its size when it has come", async () => {
    const { limiter, quotas, admit } = setUp();
    await quotas(0, 1000);
    const exchange: Exchange = exchangeWith({ "transfer-encoding": "chunked" });
    limiter.admit(exchange, callerOf(TENANT));
    exchange.onUnannouncedBody?.(1500);
    expect(() => admit({ "content-length": "1" })).toThrow(RequestRefused);
    expect(() => admit({ "transfer-encoding": "chunked" })).toThrow(RequestRefused);
    admit();
  });

  it("charges a batch for each operation, or refuses it whole", async () => {
    const { clock, limiter, quotas, admit } = setUp();
    await quotas(10);
    admit();
    limiter.chargeOperations(TENANT, 6);
    expect(named(admit(), "RateLimit")).toBe('"tenant";r=3;t=1');
    const refusal = refusalOf(() => limiter.chargeOperations(TENANT, 6));
    expect(refusal.headers).toEqual(["Retry-After", "1"]);
    expect(named(admit(), "RateLimit")).toBe('"tenant";r=2;t=1');
    // One that is larger than the rate passes when nothing else was asked for.
    clock.advance(1000);
    admit();
    limiter.chargeOperations(TENANT, 40);
    expect(named(refusalOf(() => admit()).headers, "Retry-After")).toBe("4");
  });

  it("gives out this gateway's share, and follows it", async () => {
    const { clock, directory, quotas, admit } = setUp();
    directory.shares.set(TENANT, { requests: 0.5, bytes: 0.5 });
    await quotas(100);
    expect(named(admit(), "X-RateLimit-Remaining")).toBe("49");
    directory.shares.set(TENANT, { requests: 0.1, bytes: 0.1 });
    clock.advance(1000);
    expect(named(admit(), "X-RateLimit-Remaining")).toBe("9");
    expect(named(admit(), "X-RateLimit-Limit")).toBe("100");
    // More is no gift.
    directory.shares.set(TENANT, { requests: 1, bytes: 1 });
    clock.advance(100);
    expect(named(admit(), "X-RateLimit-Remaining")).toBe("8");
  });

  it("gives out an equal part at most when the leader has long been silent", async () => {
    const { clock, directory, quotas, admit } = setUp();
    await quotas(90);
    directory.gateways = 3;
    directory.silence = 3001;
    clock.advance(1000);
    expect(named(admit(), "X-RateLimit-Remaining")).toBe("29");
    directory.silence = 0;
    clock.advance(100);
    admit();
    clock.advance(500);
    expect(named(admit(), "X-RateLimit-Remaining")).toBe("73");
  });

  it("follows changes of quotas, which fill no bucket", async () => {
    const { limiter, quotas, admit } = setUp();
    await quotas(2);
    admit();
    admit();
    await quotas(3);
    expect(() => admit()).toThrow(RequestRefused);
    expect(limiter.limitsOf(callerOf(TENANT))).toEqual({ tenant_requests_per_second_max: 3 });
    await quotas(0);
    expect(admit()).toEqual([]);
  });

  it("reports what was asked, admitted or not, and only once", async () => {
    const { clock, directory, limiter, quotas, admit } = setUp();
    await quotas(2);
    admit();
    admit({ "content-length": "500" });
    expect(() => admit()).toThrow(RequestRefused);
    expect(() => limiter.chargeOperations(TENANT, 8)).toThrow(RequestRefused);
    clock.advance(2000);
    expect([...directory.demand()]).toEqual([
      [TENANT, { requestsPerSecond: 5, bytesPerSecond: 0 }],
    ]);
    clock.advance(500);
    expect([...directory.demand()]).toEqual([]);
    await quotas(2, 1000);
    admit({ "content-length": "500" });
    clock.advance(1000);
    expect(directory.demand().get(TENANT)).toEqual({ requestsPerSecond: 1, bytesPerSecond: 500 });
  });
});
