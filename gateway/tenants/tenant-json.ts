/** Tenants as JSON: what requests say of them, and how answers show them. */
import type { Directory } from "#gateway/directory/directory.ts";
import { malformed } from "#gateway/http/problem.ts";
import { JOB_ROWS, jobRecordOf } from "#gateway/jobs/job.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import {
  QUOTA_MAX,
  QUOTA_REQUESTS_PER_SECOND_MAX,
  TENANT_NAME_LENGTH_MAX,
} from "#shared/limits.ts";
import { decodeDeletion, deletionJobName } from "./deletion.ts";
import type { Tenant, TenantQuotas } from "./registry.ts";

const NAME = /^[a-z0-9][a-z0-9-]*$/;

/** The names of quotas in JSON, and what each is at most. */
const QUOTAS = {
  bytes: { name: "bytes", max: QUOTA_MAX },
  objects: { name: "objects", max: QUOTA_MAX },
  requests_per_second: { name: "requestsPerSecond", max: QUOTA_REQUESTS_PER_SECOND_MAX },
  request_bytes_per_second: { name: "requestBytesPerSecond", max: QUOTA_MAX },
} as const satisfies Record<string, { name: keyof TenantQuotas; max: number }>;

/** @throws RequestRefused INVALID_ARGUMENT */
export function tenantNameOf(value: unknown): string {
  const isName =
    typeof value === "string" && value.length <= TENANT_NAME_LENGTH_MAX && NAME.test(value);
  if (isName) return value;
  throw malformed(
    `a tenant's name has 1 to ${TENANT_NAME_LENGTH_MAX} of a-z, 0-9 and "-", and does not begin with "-"`,
  );
}

/**
 * The quotas that are named, 0 for those that are to be none (null in JSON).
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function quotasOf(value: unknown): Partial<TenantQuotas> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw malformed(`quotas must be an object of ${Object.keys(QUOTAS).join(", ")}`);
  }
  const quotas: { -readonly [K in keyof TenantQuotas]?: number } = {};
  for (const [key, limit] of Object.entries(value)) {
    if (!Object.hasOwn(QUOTAS, key)) {
      throw malformed(
        `there is no quota ${JSON.stringify(key)}; there are ${Object.keys(QUOTAS).join(", ")}`,
      );
    }
    const { name, max } = QUOTAS[key as keyof typeof QUOTAS];
    quotas[name] = limit === null ? 0 : limitOf(key, limit, max);
  }
  return quotas;
}

function limitOf(key: string, limit: unknown, max: number): number {
  const isLimit = typeof limit === "number" && Number.isSafeInteger(limit) && limit >= 1;
  if (isLimit && limit <= max) return limit;
  throw malformed(`${key} must be an integer from 1 to ${max}, or null for no limit`);
}

export function tenantJson(tenant: Tenant, directory: Directory): Record<string, unknown> {
  const { id, name, state, quotas, createdAtMs } = tenant;
  const limits = Object.entries(QUOTAS).map(([key, quota]) => [key, quotas[quota.name] || null]);
  return {
    name,
    id,
    state,
    created_at: createdAtMs === 0 ? null : new Date(createdAtMs).toISOString(),
    quotas: Object.fromEntries(limits),
    usage: directory.usageOf(id),
    ...(state === "deleting" ? { deletion: deletionJson(id, directory) } : {}),
  };
}

/** Null when it is done but for the news of it. */
function deletionJson(id: number, directory: Directory): Record<string, unknown> | null {
  const row = directory.get(JOB_ROWS + deletionJobName(id));
  if (row === undefined) return null;
  const record = jobRecordOf(row);
  const { phase, removedObjects, removedBytes, waitMs } = decodeDeletion(
    record?.progress ?? EMPTY_BYTES,
  );
  return {
    phase: record === undefined ? "unreadable" : phase,
    removed_objects: removedObjects,
    removed_bytes: removedBytes,
    seconds_left_at_least: Math.ceil(waitMs / 1000),
  };
}
