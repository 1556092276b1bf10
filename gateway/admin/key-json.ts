/** An API key as administrators see it: all but its secrets, of which only their times are shown. */
import { isUtf8 } from "node:buffer";
import { liveSecrets, ROOT_ROW, type StoredKey } from "#gateway/auth/key-records.ts";
import { lastUsedAtMs } from "#gateway/auth/key-use.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";

const timeOf = (atMs: number | bigint): string | null =>
  Number(atMs) === 0 ? null : new Date(Number(atMs)).toISOString();

export function keyJson(
  { row, record, role, tenant }: StoredKey,
  from: {
    readonly tenants: Pick<Tenants, "get">;
    readonly directory: Directory;
    readonly nowMs: number;
  },
) {
  const texts = record.prefixes.filter((prefix) => isUtf8(prefix));
  const others = record.prefixes.filter((prefix) => !isUtf8(prefix));
  return {
    id: record.id,
    name: record.name,
    tenant: from.tenants.get(tenant)?.name ?? null,
    tenant_id: tenant,
    role,
    root: row.name === ROOT_ROW,
    prefixes: texts.map((prefix) => Buffer.from(prefix).toString("utf8")),
    prefixes64: others.map((prefix) => Buffer.from(prefix).toString("base64url")),
    networks: record.networks,
    created_at: timeOf(record.createdAtMs),
    expires_at: timeOf(record.expiresAtMs),
    revoked_at: timeOf(record.revokedAtMs),
    last_used_at: timeOf(lastUsedAtMs(from.directory, record.id)),
    secrets: liveSecrets(record, from.nowMs).map((secret) => ({
      created_at: timeOf(secret.createdAtMs),
      expires_at: timeOf(secret.expiresAtMs),
    })),
  };
}
