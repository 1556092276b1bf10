/**
 * Rows of data keys in the directory: `data-key/<8 hex of the tenant>/<8 hex of the number>`. A tenant's
 * values are encrypted under the key with the highest number; the others are for reading.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { type DataKeyRecord, DataKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { MasterKeys, WrapPurpose, Wrapped } from "./master-keys.ts";

export const DATA_KEY_ROWS = "data-key/";
export const DATA_KEY_SIZE_BYTES = 32;
const NAME = /^data-key\/([0-9a-f]{8})\/([0-9a-f]{8})$/;

const hex8 = (value: number): string => value.toString(16).padStart(8, "0");

export const dataKeyRowsOf = (tenant: TenantId): string => `${DATA_KEY_ROWS}${hex8(tenant)}/`;

export const dataKeyRowName = (tenant: TenantId, number: number): string =>
  dataKeyRowsOf(tenant) + hex8(number);

/** Undefined for a name that is none of a data key. */
export function parseDataKeyRowName(
  name: string,
): { readonly tenant: TenantId; readonly number: number } | undefined {
  const [, tenant, number] = NAME.exec(name) ?? [];
  if (tenant === undefined || number === undefined) return undefined;
  return { tenant: Number.parseInt(tenant, 16) as TenantId, number: Number.parseInt(number, 16) };
}

export const dataKeyPurpose = (tenant: TenantId, number: number): WrapPurpose => ({
  scope: `tenant ${hex8(tenant)}`,
  name: dataKeyRowName(tenant, number),
});

/** @throws KvError DATA_CORRUPT */
export function readDataKeyRow({ name, value }: DirectoryRow): DataKeyRecord {
  const address = parseDataKeyRowName(name);
  try {
    const record = fromBinary(DataKeyRecordSchema, value);
    const { tenant, number } = address ?? {};
    if (record.tenantId === tenant && record.number === number) return record;
  } catch (cause) {
    throw new KvError("DATA_CORRUPT", `row ${name} does not decode`, { cause });
  }
  throw new KvError("DATA_CORRUPT", `row ${name} is of another key`);
}

/**
 * The key of a row.
 *
 * @throws KvError DATA_CORRUPT; ENCRYPTION_KEY_MISSING when its master key is not among `masterKeys`
 */
export function unwrapDataKey(row: DirectoryRow, masterKeys: MasterKeys): Uint8Array {
  const record = readDataKeyRow(row);
  const key = masterKeys.unwrap(dataKeyPurpose(record.tenantId as TenantId, record.number), record);
  if (key.length === DATA_KEY_SIZE_BYTES) return key;
  throw new KvError("DATA_CORRUPT", `row ${row.name} has a key of another size`);
}

/** The highest number of the tenant's keys, damaged ones included; 0 when it has none. */
export function currentNumberOf(directory: Directory, tenant: TenantId): number {
  const rows = directory.list(dataKeyRowsOf(tenant));
  const last = rows.findLast(({ name }) => parseDataKeyRowName(name) !== undefined);
  return last === undefined ? 0 : parseDataKeyRowName(last.name)!.number;
}

export function dataKeyRow(
  tenant: TenantId,
  number: number,
  { masterKeyId, wrapped }: Wrapped,
  createdAtMs: number,
): { readonly name: string; readonly value: Uint8Array } {
  const record = create(DataKeyRecordSchema, {
    ...{ tenantId: tenant, number, wrapped, masterKeyId, createdAtMs: BigInt(createdAtMs) },
  });
  return {
    name: dataKeyRowName(tenant, number),
    value: toBinary(DataKeyRecordSchema, record),
  };
}

/** The change that makes a new key; it fails when there is one of that number. */
export function newDataKey(
  { tenant, number }: { readonly tenant: TenantId; readonly number: number },
  parts: { readonly masterKeys: MasterKeys; readonly random: Random; readonly clock: Clock },
): DirectoryMutation {
  const { masterKeys, random, clock } = parts;
  const key = random.fill(new Uint8Array(DATA_KEY_SIZE_BYTES));
  const wrapped = masterKeys.wrap(dataKeyPurpose(tenant, number), key, random);
  key.fill(0);
  return { ...dataKeyRow(tenant, number, wrapped, clock.nowMs()), expectedRevision: 0 };
}

/**
 * The change that makes all values of a tenant unreadable for good, wherever copies of them may be: without
 * the rows nothing unwraps its keys. For a tenant that is deleted, when nothing writes for it any more.
 */
export function shredMutations(
  directory: Directory,
  tenant: TenantId,
): readonly DirectoryMutation[] {
  return directory.list(dataKeyRowsOf(tenant)).map(({ name }) => ({ name, value: undefined }));
}
