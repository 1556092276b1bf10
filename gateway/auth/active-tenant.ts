/** Whose data may be reached at all: that of tenants which are there and active. */
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { TenantId } from "#shared/ids.ts";

/** @throws RequestRefused FORBIDDEN unless the tenant is there and active */
export function refuseInactive(tenants: Pick<Tenants, "get">, id: TenantId): void {
  const tenant = tenants.get(id);
  if (tenant?.state === "active") return;
  const state = tenant === undefined ? "does not exist" : `is ${tenant.state}`;
  throw new RequestRefused("FORBIDDEN", `the tenant ${state}`);
}
