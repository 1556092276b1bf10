import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { NO_QUOTAS, type Tenant, TenantRegistry, tenantRowName } from "./registry.ts";

const SEVEN = toTenantId(7);

describe("TenantRegistry", () => {
  it("has the default tenant without a row, and as its row says when it has one", async () => {
    const directory = new MemoryDirectory();
    const tenants = new TenantRegistry(directory);
    expect(tenants.get(DEFAULT_TENANT)).toEqual(tenants.byName("default"));
    expect(tenants.byName("default")).toMatchObject({ id: 1, state: "active", quotas: NO_QUOTAS });
    await putTenant(directory, DEFAULT_TENANT, { quotas: { objects: 5n } });
    expect(tenants.byName("default")).toMatchObject({ quotas: { objects: 5 } });
    await directory.change([{ name: tenantRowName(DEFAULT_TENANT), value: undefined }]);
    expect(tenants.byName("default")).toMatchObject({ quotas: NO_QUOTAS });
  });

  it("knows the tenants that were there, and hears of later ones", async () => {
    const directory = new MemoryDirectory();
    await putTenant(directory, 7);
    const tenants = new TenantRegistry(directory);
    const heard: [number, Tenant["state"] | undefined][] = [];
    tenants.subscribe((id, tenant) => heard.push([id, tenant?.state]));
    expect(tenants.get(SEVEN)?.name).toBe("tenant-7");
    await putTenant(directory, 9, { state: TenantState.SUSPENDED });
    await putTenant(directory, 7, { state: TenantState.DELETING });
    await directory.change([{ name: tenantRowName(7), value: undefined }]);
    expect(heard).toEqual([
      ...([[9, "suspended"]] as const),
      ...([[7, "deleting"]] as const),
      ...([[7, undefined]] as const),
    ]);
    expect(tenants.list().map(({ id }) => id)).toEqual([1, 9]);
    expect(tenants.byName("tenant-7")).toBeUndefined();
    tenants.close();
    await putTenant(directory, 11);
    expect(tenants.get(toTenantId(11))).toBeUndefined();
  });

  it("finds who has a name now, in whatever order rows change", async () => {
    const directory = new MemoryDirectory();
    const tenants = new TenantRegistry(directory);
    await putTenant(directory, 7, { name: "shop" });
    await putTenant(directory, 8, { name: "shop" });
    await directory.change([{ name: tenantRowName(7), value: undefined }]);
    expect(tenants.byName("shop")?.id).toBe(8);
  });

  it("keeps everybody out of a tenant whose state it does not know", async () => {
    const directory = new MemoryDirectory();
    const tenants = new TenantRegistry(directory);
    for (const state of [TenantState.UNSPECIFIED, 99 as TenantState]) {
      await putTenant(directory, 7, { state });
      expect(tenants.get(SEVEN)?.state).toBe("suspended");
    }
  });

  it("keeps everybody out of a tenant whose row cannot be read, and knows the others", async () => {
    const directory = new MemoryDirectory();
    const value = Uint8Array.of(0xff, 0xff);
    await directory.change([{ name: tenantRowName(7), value }]);
    await putTenant(directory, 8, { name: "shop" });
    const tenants = new TenantRegistry(directory);
    expect(tenants.get(SEVEN)).toMatchObject({ name: "unreadable-00000007", state: "suspended" });
    await directory.change([{ name: tenantRowName(DEFAULT_TENANT), value }]);
    expect(tenants.byName("default")?.state).toBe("suspended");
    expect(tenants.byName("shop")?.state).toBe("active");
  });

  it("takes no row for a tenant that is not named like one", async () => {
    const directory = new MemoryDirectory();
    const tenants = new TenantRegistry(directory);
    const value = toBinary(TenantRecordSchema, create(TenantRecordSchema, { id: 7, name: "x" }));
    for (const name of ["tenant/7", "tenant/0000000G", "tenant/00000000", "tenant/000000070"]) {
      await directory.change([{ name, value }]);
    }
    expect(tenants.list().map(({ name }) => name)).toEqual(["default"]);
  });
});
