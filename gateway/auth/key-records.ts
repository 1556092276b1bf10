/**
 * API keys as rows of the directory: `key/<id>`, and `root` for the key that the first start made.
 *
 * Nothing is remembered here. Whoever keeps something that was made from a row keeps the row's revision
 * with it, and asks again when that has changed.
 */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryRow } from "#gateway/directory/directory.ts";
import {
  type ApiKeyRecord,
  ApiKeyRecordSchema,
  KeySecretSchema,
  Role as RecordRole,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { DEFAULT_TENANT, type TenantId, toTenantId } from "#shared/ids.ts";
import type { Principal, Role } from "./caller.ts";
import type { SecretHash } from "./secret-hash.ts";

const SECRET_MARK_LENGTH = 22;

export const KEY_ROWS = "key/";
export const ROOT_ROW = "root";
export const keyRowName = (id: string): string => `${KEY_ROWS}${id}`;
export const keyUseRowName = (id: string): string => `key-use/${id}`;

const RECORD_ROLES: Readonly<Record<Role, RecordRole>> = {
  ReadOnly: RecordRole.READ_ONLY,
  ReadWrite: RecordRole.READ_WRITE,
  Admin: RecordRole.ADMIN,
  ClusterAdmin: RecordRole.CLUSTER_ADMIN,
};
const ROLE_BY_RECORD = new Map(
  Object.entries(RECORD_ROLES).map(([role, record]) => [record, role as Role]),
);

export const recordRoleOf = (role: Role): RecordRole => RECORD_ROLES[role];

/** A key as its row says it is. */
export type StoredKey = {
  readonly row: DirectoryRow;
  readonly record: ApiKeyRecord;
  readonly role: Role;
  readonly tenant: TenantId;
};

/**
 * The key with this id, valid or not; undefined also for a row that this version cannot read, which then
 * lets nobody in.
 */
export function findKey(directory: Directory, id: string): StoredKey | undefined {
  const own = directory.get(keyRowName(id));
  if (own !== undefined) return storedKeyOf(own, id);
  const root = directory.get(ROOT_ROW);
  return root === undefined ? undefined : storedKeyOf(root, id);
}

/** Undefined when the row is not the one of this key, or cannot be read. */
export function storedKeyOf(row: DirectoryRow, id?: string): StoredKey | undefined {
  let record: ApiKeyRecord;
  try {
    record = fromBinary(ApiKeyRecordSchema, row.value);
  } catch {
    return undefined;
  }
  // A later version may know more roles. Guessing one would be letting somebody in.
  const role = ROLE_BY_RECORD.get(record.role);
  if (role === undefined || (id !== undefined && record.id !== id)) return undefined;
  return { row, record, role, tenant: toTenantId(record.tenantId || DEFAULT_TENANT) };
}

export const encodeKey = (record: ApiKeyRecord): Uint8Array => toBinary(ApiKeyRecordSchema, record);

export type NewKey = {
  readonly id: string;
  readonly secret: SecretHash;
  readonly tenant: TenantId;
  readonly role: Role;
  readonly name: string;
  /** 0 for never. */
  readonly expiresAtMs: number;
  readonly prefixes: readonly Uint8Array[];
  readonly networks: readonly string[];
  readonly createdAtMs: number;
};

export function newKeyRecord(key: NewKey): ApiKeyRecord {
  const createdAtMs = BigInt(key.createdAtMs);
  return create(ApiKeyRecordSchema, {
    id: key.id,
    tenantId: key.tenant,
    role: recordRoleOf(key.role),
    name: key.name,
    secrets: [create(KeySecretSchema, { ...key.secret, createdAtMs })],
    expiresAtMs: BigInt(key.expiresAtMs),
    prefixes: [...key.prefixes],
    networks: [...key.networks],
    createdAtMs,
  });
}

/** A reason why no secret of the key is taken any more; undefined while the key is valid. */
export function whyNotValid(
  { revokedAtMs, expiresAtMs }: ApiKeyRecord,
  nowMs: number,
): "revoked" | "expired" | undefined {
  if (revokedAtMs !== 0n) return "revoked";
  return expiresAtMs !== 0n && nowMs >= Number(expiresAtMs) ? "expired" : undefined;
}

/** The secrets that are not rotated out, the newest last. */
export const liveSecrets = ({ secrets }: ApiKeyRecord, nowMs: number) =>
  secrets.filter(({ expiresAtMs }) => expiresAtMs === 0n || nowMs < Number(expiresAtMs));

/** Names one of the secrets of a key where its hash must not be read: in a ticket. */
export const secretMark = (hash: string): string =>
  createHash("sha256").update(hash).digest("base64url").slice(0, SECRET_MARK_LENGTH);

/** When a secret of the key, or the key, ends; Infinity for never. */
export function endMsOf(record: ApiKeyRecord, secretExpiresAtMs: bigint): number {
  const ends = [record.expiresAtMs, secretExpiresAtMs].filter((at) => at !== 0n).map(Number);
  return Math.min(Number.POSITIVE_INFINITY, ...ends);
}

export const principalOf = ({ row, record, role, tenant }: StoredKey): Principal => ({
  kind: row.name === ROOT_ROW ? "root" : "key",
  id: record.id,
  tenant,
  role,
  prefixes: record.prefixes,
});
