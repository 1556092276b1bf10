/** Which tenants there are, by id and by name, and whether they may be served. From rows `tenant/<8 hex>`. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryRow } from "#gateway/directory/directory.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { DEFAULT_TENANT, type TenantId, toTenantId } from "#shared/ids.ts";

export const TENANT_ROWS = "tenant/";
export const DEFAULT_TENANT_NAME = "default";

export type KnownTenant = {
  readonly id: TenantId;
  readonly name: string;
  readonly state: "active" | "suspended" | "deleting";
};

/** It is there without a row. */
const BY_DEFAULT: KnownTenant = {
  id: DEFAULT_TENANT,
  name: DEFAULT_TENANT_NAME,
  state: "active",
};

const STATES: ReadonlyMap<TenantState, KnownTenant["state"]> = new Map([
  [TenantState.ACTIVE, "active"],
  [TenantState.SUSPENDED, "suspended"],
  [TenantState.DELETING, "deleting"],
]);

export class TenantStates {
  readonly #byRow = new Map<string, KnownTenant>();
  readonly #byId = new Map<TenantId, KnownTenant>([[DEFAULT_TENANT, BY_DEFAULT]]);
  readonly #byName = new Map<string, KnownTenant>([[DEFAULT_TENANT_NAME, BY_DEFAULT]]);
  readonly #unsubscribe: () => void;

  constructor(directory: Directory) {
    this.#unsubscribe = directory.subscribe(TENANT_ROWS, (name, row) => this.#set(name, row));
    for (const row of directory.list(TENANT_ROWS)) this.#set(row.name, row);
  }

  close(): void {
    this.#unsubscribe();
  }

  get(id: TenantId): KnownTenant | undefined {
    return this.#byId.get(id);
  }

  named(name: string): KnownTenant | undefined {
    return this.#byName.get(name);
  }

  /** @throws RequestRefused FORBIDDEN unless the tenant is there and active */
  refuseInactive(id: TenantId): void {
    const tenant = this.#byId.get(id);
    if (tenant?.state === "active") return;
    const state = tenant === undefined ? "does not exist" : `is ${tenant.state}`;
    throw new RequestRefused("FORBIDDEN", `the tenant ${state}`);
  }

  #set(rowName: string, row: DirectoryRow | undefined): void {
    const before = this.#byRow.get(rowName);
    if (before !== undefined) {
      this.#byRow.delete(rowName);
      this.#byId.delete(before.id);
      if (this.#byName.get(before.name)?.id === before.id) this.#byName.delete(before.name);
    }
    const tenant = row === undefined ? undefined : tenantOf(row);
    if (tenant !== undefined) {
      this.#byRow.set(rowName, tenant);
      this.#byId.set(tenant.id, tenant);
      this.#byName.set(tenant.name, tenant);
    }
    if (!this.#byId.has(DEFAULT_TENANT)) {
      this.#byId.set(DEFAULT_TENANT, BY_DEFAULT);
      this.#byName.set(DEFAULT_TENANT_NAME, BY_DEFAULT);
    }
  }
}

/** A row that cannot be read, or whose state is not known here, is of no tenant: nobody is served. */
function tenantOf(row: DirectoryRow): KnownTenant | undefined {
  try {
    const { id, name, state } = fromBinary(TenantRecordSchema, row.value);
    const known = STATES.get(state);
    return known === undefined ? undefined : { id: toTenantId(id), name, state: known };
  } catch {
    return undefined;
  }
}
