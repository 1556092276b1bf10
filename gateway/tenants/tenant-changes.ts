/**
 * Changes of tenants: each is one conditional change of the directory, made again when another gateway
 * was quicker.
 *
 * Ids come from the row `tenant-next`, which every creation changes, so none is ever used twice, and two
 * creations at the same time conflict: the later one sees the name of the earlier one before it tries
 * again. That row is why names are unique although no row is named after them.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { newJob } from "#gateway/jobs/job.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import {
  DIRECTORY_CHANGE_ATTEMPTS_MAX,
  DIRECTORY_CHANGE_PAUSE_MS,
  TENANT_ID_MAX,
  TENANTS_MAX,
} from "#shared/limits.ts";
import { deletionJobName, newDeletion } from "./deletion.ts";
import {
  NO_QUOTAS,
  type Tenant,
  type TenantQuotas,
  type Tenants,
  tenantRowName,
} from "./registry.ts";

/** A `TenantRecord` of which only the id is set: the next one to be given. */
export const NEXT_TENANT_ROW = "tenant-next";

export type TenantChangesParts = {
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly clock: Clock;
};

/** What a change makes of a tenant. @throws RequestRefused when it must not be made */
type Edit = (tenant: Tenant) => {
  readonly state: Tenant["state"];
  readonly quotas: TenantQuotas;
  readonly further?: readonly DirectoryMutation[];
};

const STATES = {
  active: TenantState.ACTIVE,
  suspended: TenantState.SUSPENDED,
  deleting: TenantState.DELETING,
} as const;

export class TenantChanges {
  readonly #directory: Directory;
  readonly #tenants: Tenants;
  readonly #clock: Clock;

  constructor({ directory, tenants, clock }: TenantChangesParts) {
    this.#directory = directory;
    this.#tenants = tenants;
    this.#clock = clock;
  }

  /** @throws RequestRefused RESOURCE_NOT_FOUND */
  find(name: string): Tenant {
    const tenant = this.#tenants.byName(name);
    if (tenant !== undefined) return tenant;
    throw noSuchTenant();
  }

  /** @throws KvError ALREADY_EXISTS, CLUSTER_CONFLICT and as `Directory.change` does */
  async create(name: string, quotas: Partial<TenantQuotas>, deadlineMs: number): Promise<Tenant> {
    await this.#change(deadlineMs, () => this.#creation(name, { ...NO_QUOTAS, ...quotas }));
    return this.find(name);
  }

  #creation(name: string, quotas: TenantQuotas): readonly DirectoryMutation[] {
    // Read before the names: who has changed it meanwhile makes this change fail.
    const next = this.#directory.get(NEXT_TENANT_ROW);
    if (this.#tenants.byName(name) !== undefined) {
      throw new RequestRefused("ALREADY_EXISTS", "there is a tenant of that name");
    }
    if (this.#tenants.list().length >= TENANTS_MAX) {
      throw new RequestRefused("CLUSTER_CONFLICT", `there are ${TENANTS_MAX} tenants, no more fit`);
    }
    const id = next === undefined ? DEFAULT_TENANT + 1 : nextIdIn(next);
    if (id > TENANT_ID_MAX) throw new RequestRefused("CLUSTER_CONFLICT", "all ids are used up");
    const createdAtMs = BigInt(this.#clock.nowMs());
    return [
      {
        name: tenantRowName(id),
        value: encode({ id, name, state: TenantState.ACTIVE, quotas: record(quotas), createdAtMs }),
        expectedRevision: 0,
      },
      {
        name: NEXT_TENANT_ROW,
        value: encode({ id: id + 1 }),
        expectedRevision: next?.revision ?? 0,
      },
    ];
  }

  /** Changes the named ones and leaves the others. @throws KvError */
  setQuotas(name: string, quotas: Partial<TenantQuotas>, deadlineMs: number): Promise<Tenant> {
    return this.#edit(name, deadlineMs, (tenant) => {
      refuseDeleting(tenant);
      return { state: tenant.state, quotas: { ...tenant.quotas, ...quotas } };
    });
  }

  /** @throws KvError */
  setState(name: string, state: "active" | "suspended", deadlineMs: number): Promise<Tenant> {
    return this.#edit(name, deadlineMs, (tenant) => {
      // It is also the cluster administrators' own. Only a damaged row of it can be resumed.
      if (tenant.id === DEFAULT_TENANT && state === "suspended") {
        throw new RequestRefused("CLUSTER_CONFLICT", "the default tenant cannot be suspended");
      }
      refuseDeleting(tenant);
      return { state, quotas: tenant.quotas };
    });
  }

  /** From then on nobody gets in; a job removes what the tenant has. @throws KvError */
  delete(name: string, deadlineMs: number): Promise<Tenant> {
    return this.#edit(name, deadlineMs, (tenant) => {
      if (tenant.id === DEFAULT_TENANT) {
        throw new RequestRefused("CLUSTER_CONFLICT", "the default tenant cannot be deleted");
      }
      const further =
        tenant.state === "deleting"
          ? []
          : [newJob(deletionJobName(tenant.id), newDeletion(), this.#clock.nowMs())];
      return { state: "deleting", quotas: tenant.quotas, further };
    });
  }

  async #edit(name: string, deadlineMs: number, edit: Edit): Promise<Tenant> {
    const { id } = this.find(name);
    await this.#change(deadlineMs, () => {
      const tenant = this.#tenants.get(id);
      if (tenant === undefined) throw noSuchTenant();
      const { state, quotas, further = [] } = edit(tenant);
      const isSame = state === tenant.state && sameQuotas(quotas, tenant.quotas);
      if (isSame) return [];
      const createdAtMs = BigInt(tenant.createdAtMs);
      const value = { id, name: tenant.name, state: STATES[state], quotas: record(quotas) };
      const row = {
        name: tenantRowName(id),
        value: encode({ ...value, createdAtMs }),
        expectedRevision: tenant.revision,
      };
      return [row, ...further];
    });
    return this.find(name);
  }

  /** Makes the changes anew until they meet the rows as they are; none are no change. */
  async #change(deadlineMs: number, make: () => readonly DirectoryMutation[]): Promise<void> {
    for (let attempt = 1; attempt <= DIRECTORY_CHANGE_ATTEMPTS_MAX; attempt++) {
      const mutations = make();
      if (mutations.length === 0) return;
      if (await this.#directory.change(mutations, { deadlineMs })) return;
      // What has changed is on its way here.
      const pauseMs = DIRECTORY_CHANGE_PAUSE_MS * attempt;
      if (this.#clock.nowMs() + pauseMs >= deadlineMs) break;
      await new Promise<void>((resolve) => this.#clock.after(pauseMs, resolve));
    }
    throw new KvError("UNAVAILABLE", "others change the same rows at the same time", {
      outcome: "not_applied",
    });
  }
}

/** A wrong one would make a tenant that nobody finds, or give an id twice. */
function nextIdIn({ name, value }: DirectoryRow): number {
  let cause: unknown;
  try {
    const { id } = fromBinary(TenantRecordSchema, value);
    if (id > DEFAULT_TENANT) return id;
  } catch (error) {
    cause = error;
  }
  throw new KvError("DATA_CORRUPT", `row ${name} holds no id`, { outcome: "not_applied", cause });
}

const noSuchTenant = (): RequestRefused =>
  new RequestRefused("RESOURCE_NOT_FOUND", "there is no tenant of that name");

function refuseDeleting({ state }: Tenant): void {
  if (state !== "deleting") return;
  throw new RequestRefused(
    "CLUSTER_CONFLICT",
    "the tenant is being deleted, which has no way back",
  );
}

const encode = (value: MessageInitShape<typeof TenantRecordSchema>): Uint8Array =>
  toBinary(TenantRecordSchema, create(TenantRecordSchema, value));

const record = (quotas: TenantQuotas) => ({
  bytes: BigInt(quotas.bytes),
  objects: BigInt(quotas.objects),
  requestsPerSecond: quotas.requestsPerSecond,
  requestBytesPerSecond: BigInt(quotas.requestBytesPerSecond),
});

const sameQuotas = (a: TenantQuotas, b: TenantQuotas): boolean =>
  a.bytes === b.bytes &&
  a.objects === b.objects &&
  a.requestsPerSecond === b.requestsPerSecond &&
  a.requestBytesPerSecond === b.requestBytesPerSecond;
