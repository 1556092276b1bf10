/**
 * The tenants of the cluster as this gateway has heard of them: their names, ids, states and quotas.
 *
 * Every request asks it, so what it answers is made when a row changes and not when it is asked. The
 * default tenant is there even without a row: it has one only when its quotas were changed.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryRow } from "#gateway/directory/directory.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { DEFAULT_TENANT, type TenantId, toTenantId } from "#shared/ids.ts";

export const TENANT_ROWS = "tenant/";
export const DEFAULT_TENANT_NAME = "default";

/** 0 stands for no limit. */
export type TenantQuotas = {
  readonly bytes: number;
  readonly objects: number;
  readonly requestsPerSecond: number;
  readonly requestBytesPerSecond: number;
};

export type Tenant = {
  readonly id: TenantId;
  readonly name: string;
  /** `deleting`: nobody gets in any more, and nothing may be stored. */
  readonly state: "active" | "suspended" | "deleting";
  readonly quotas: TenantQuotas;
  /** 0 when it has no row. */
  readonly createdAtMs: number;
  /** Of its row; 0 when it has none. */
  readonly revision: number;
};

export interface Tenants {
  /** Undefined: there is no such tenant, or there was one. */
  get(id: TenantId): Tenant | undefined;
  byName(name: string): Tenant | undefined;
  /** In the order of their ids. */
  list(): readonly Tenant[];
  /** Told of each later change; `tenant` is undefined when it is gone. Returns what ends that. */
  subscribe(listener: (id: TenantId, tenant: Tenant | undefined) => void): () => void;
}

export const NO_QUOTAS: TenantQuotas = {
  bytes: 0,
  objects: 0,
  requestsPerSecond: 0,
  requestBytesPerSecond: 0,
};

const DEFAULT: Tenant = {
  id: DEFAULT_TENANT,
  name: DEFAULT_TENANT_NAME,
  state: "active",
  quotas: NO_QUOTAS,
  createdAtMs: 0,
  revision: 0,
};

/** "tenant/<8 hex of the id>". */
export const tenantRowName = (id: number): string => TENANT_ROWS + tenantHex(id);
export const tenantHex = (id: number): string => id.toString(16).padStart(8, "0");

export class TenantRegistry implements Tenants {
  readonly #byId = new Map<TenantId, Tenant>();
  readonly #byName = new Map<string, Tenant>();
  readonly #listeners = new Set<(id: TenantId, tenant: Tenant | undefined) => void>();
  readonly #unsubscribe: () => void;

  constructor(directory: Directory) {
    this.#put(DEFAULT);
    for (const row of directory.list(TENANT_ROWS)) this.#change(row.name, row);
    this.#unsubscribe = directory.subscribe(TENANT_ROWS, (name, row) => this.#change(name, row));
  }

  get(id: TenantId): Tenant | undefined {
    return this.#byId.get(id);
  }

  byName(name: string): Tenant | undefined {
    return this.#byName.get(name);
  }

  list(): readonly Tenant[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }

  subscribe(listener: (id: TenantId, tenant: Tenant | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#unsubscribe();
    this.#listeners.clear();
  }

  #change(name: string, row: DirectoryRow | undefined): void {
    const id = idOfRow(name);
    if (id === undefined) return;
    const tenant = row === undefined ? undefined : tenantOf(id, row);
    const known = this.#byId.get(id);
    if (known !== undefined) {
      this.#byId.delete(id);
      // Another tenant may have got the name meanwhile: a new set of rows comes in any order.
      if (this.#byName.get(known.name) === known) this.#byName.delete(known.name);
    }
    const now = tenant ?? (id === DEFAULT_TENANT ? DEFAULT : undefined);
    if (now !== undefined) this.#put(now);
    for (const listener of [...this.#listeners]) listener(id, now);
  }

  #put(tenant: Tenant): void {
    this.#byId.set(tenant.id, tenant);
    this.#byName.set(tenant.name, tenant);
  }
}

/** Undefined for a name that no tenant's row has. */
function idOfRow(name: string): TenantId | undefined {
  const hex = name.slice(TENANT_ROWS.length);
  if (!/^[0-9a-f]{8}$/.test(hex)) return undefined;
  const id = Number.parseInt(hex, 16);
  return id === 0 ? undefined : toTenantId(id);
}

/** A state that this version does not know keeps everybody out, and so does a row that cannot be read. */
function tenantOf(id: TenantId, row: DirectoryRow): Tenant {
  try {
    return readTenant(id, row);
  } catch {
    const name = id === DEFAULT_TENANT ? DEFAULT_TENANT_NAME : `unreadable-${tenantHex(id)}`;
    return { ...DEFAULT, id, name, state: "suspended", revision: row.revision };
  }
}

function readTenant(id: TenantId, { value, revision }: DirectoryRow): Tenant {
  const { name, state, quotas, createdAtMs } = fromBinary(TenantRecordSchema, value);
  const states = {
    [TenantState.ACTIVE]: "active",
    [TenantState.SUSPENDED]: "suspended",
    [TenantState.DELETING]: "deleting",
  } as const;
  return {
    id,
    name,
    state: states[state as keyof typeof states] ?? "suspended",
    quotas: {
      bytes: Number(quotas?.bytes ?? 0),
      objects: Number(quotas?.objects ?? 0),
      requestsPerSecond: quotas?.requestsPerSecond ?? 0,
      requestBytesPerSecond: Number(quotas?.requestBytesPerSecond ?? 0),
    },
    createdAtMs: Number(createdAtMs),
    revision,
  };
}
