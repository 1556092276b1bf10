import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { decide, isRoleWithin } from "./authorize.ts";
import { ACTIONS, type Principal, ROLES } from "./caller.ts";

const bytes = fc.uint8Array({ maxLength: 4, max: 2 });
const principals = fc.record({
  kind: fc.constant("key" as const),
  id: fc.constant("x"),
  tenant: fc.integer({ min: 1, max: 3 }).map(toTenantId),
  role: fc.constantFrom(...ROLES),
  prefixes: fc.array(bytes, { maxLength: 2 }),
});
const operations = fc.record(
  {
    action: fc.constantFrom(...ACTIONS),
    tenant: fc.integer({ min: 1, max: 3 }).map(toTenantId),
    key: bytes,
  },
  { requiredKeys: ["action", "tenant"] },
);

describe("decide()", () => {
  it("never lets a tenant's credentials do anything about another tenant", () => {
    fc.assert(
      fc.property(principals, operations, (principal, operation) => {
        const { allowed, rule } = decide(principal, operation);
        if (!allowed) expect(rule).toMatch(/^(tenant|prefix|role:\w+)$/);
        if (allowed && principal.role !== "ClusterAdmin") {
          expect(operation.tenant).toBe(principal.tenant);
          expect(operation.action).not.toMatch(/^cluster\./);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it("keeps confined credentials to keys that begin with a prefix", () => {
    fc.assert(
      fc.property(principals, operations, (principal, operation) => {
        fc.pre(principal.prefixes.length > 0);
        const { allowed } = decide(principal, operation);
        if (!allowed || operation.action === "service.read") return;
        const text = Buffer.from(operation.key!).toString("latin1");
        const begins = principal.prefixes.some((prefix) =>
          text.startsWith(Buffer.from(prefix).toString("latin1")),
        );
        expect([operation.action.startsWith("kv."), begins]).toEqual([true, true]);
      }),
      { numRuns: 1_000 },
    );
  });

  it("never allows more to fewer rights", () => {
    fc.assert(
      fc.property(principals, operations, (principal, operation) => {
        const higher = ROLES.slice(ROLES.indexOf(principal.role));
        if (!decide(principal, operation).allowed) return;
        for (const role of higher) {
          expect(decide({ ...principal, role, prefixes: [] }, operation).allowed).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it("says which role has what is missing", () => {
    const principal: Principal = {
      ...{ kind: "key", id: "x", tenant: DEFAULT_TENANT, role: "ReadOnly", prefixes: [] },
    };
    const ask = (action: (typeof ACTIONS)[number]) =>
      decide(principal, { action, tenant: DEFAULT_TENANT });
    expect(ask("tenant.keys").detail).toContain("Admin does");
    expect(ask("cluster.audit").detail).toContain("ClusterAdmin does");
    expect(ask("kv.read")).toMatchObject({ allowed: true, rule: "role:ReadOnly" });
  });
});

describe("isRoleWithin()", () => {
  it("orders the roles", () => {
    for (const [i, lower] of ROLES.entries()) {
      for (const [j, higher] of ROLES.entries()) expect(isRoleWithin(lower, higher)).toBe(i <= j);
    }
  });
});
