/**
 * Wraps what is wrapped with an older master key anew with the current one: data keys, and private keys
 * of tokens. No value is touched, so it takes a moment; and private keys that were stored when there was
 * no master key are wrapped now.
 *
 * Each row is changed under the condition that it is still the one that was read. What is interrupted is
 * done by asking again. A row that is damaged keeps no other from being wrapped anew.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { partlyDone } from "#gateway/directory/partly-done.ts";
import {
  type SigningKeyRecord,
  SigningKeyRecordSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import { REWRAP_ROWS_PER_CHANGE } from "#shared/limits-codec.ts";
import type { Random } from "#shared/random.ts";
import {
  DATA_KEY_ROWS,
  dataKeyPurpose,
  dataKeyRow,
  readDataKeyRow,
  unwrapDataKey,
} from "./data-key-rows.ts";
import { keyWrapperOf, type MasterKeys } from "./master-keys.ts";

const SIGNING_KEY_ROWS = "signing-key/";

export type Rewrapping = {
  readonly directory: Directory;
  readonly masterKeys: MasterKeys;
  readonly random: Random;
};

export type Rewrapped = {
  /** How many keys. */
  readonly rewrapped: number;
  /** Names of rows that are damaged, and were left as they are. */
  readonly unreadable: readonly string[];
};

/**
 * @throws KvError with its outcome: ENCRYPTION_KEY_MISSING when a key is wrapped with a master key that is not
 * known here, UNAVAILABLE when others change the same rows, and as `Directory.change` does
 */
export async function rewrapAll(parts: Rewrapping, deadlineMs: number): Promise<Rewrapped> {
  const { directory } = parts;
  const unreadable: string[] = [];
  const rows = [...directory.list(DATA_KEY_ROWS), ...directory.list(SIGNING_KEY_ROWS)];
  const mutations = rows.flatMap((row) => rewrap(row, parts, unreadable) ?? []);
  for (let from = 0; from < mutations.length; from += REWRAP_ROWS_PER_CHANGE) {
    try {
      const some = mutations.slice(from, from + REWRAP_ROWS_PER_CHANGE);
      if (await directory.change(some, { deadlineMs })) continue;
      const outcome = "not_applied";
      throw new KvError("UNAVAILABLE", "keys were changed meanwhile: ask again", { outcome });
    } catch (cause) {
      if (from === 0) throw cause;
      throw partlyDone(`${from} of ${mutations.length} keys are wrapped anew`, cause);
    }
  }
  return { rewrapped: mutations.length, unreadable };
}

/** Undefined when there is nothing to do, or nothing that can be done. */
function rewrap(
  row: DirectoryRow,
  parts: Rewrapping,
  unreadable: string[],
): DirectoryMutation | undefined {
  const isDataKey = row.name.startsWith(DATA_KEY_ROWS);
  try {
    return isDataKey ? rewrapDataKey(row, parts) : rewrapSigning(row, parts);
  } catch (cause) {
    if (!(cause instanceof KvError)) throw cause;
    const { code, message } = cause;
    if (code !== "DATA_CORRUPT")
      throw new KvError(code, message, { outcome: "not_applied", cause });
    unreadable.push(row.name);
    return undefined;
  }
}

function rewrapDataKey(row: DirectoryRow, parts: Rewrapping): DirectoryMutation | undefined {
  const { masterKeys, random } = parts;
  const { tenantId, number, masterKeyId, createdAtMs } = readDataKeyRow(row);
  if (masterKeyId === masterKeys.currentId) return undefined;
  const tenant = tenantId as TenantId;
  const key = unwrapDataKey(row, masterKeys);
  const wrapped = masterKeys.wrap(dataKeyPurpose(tenant, number), key, random);
  const { value } = dataKeyRow(tenant, number, wrapped, Number(createdAtMs));
  return { name: row.name, value, expectedRevision: row.revision };
}

function rewrapSigning(row: DirectoryRow, parts: Rewrapping): DirectoryMutation | undefined {
  const { masterKeys, random } = parts;
  const record = readSigningKey(row);
  const { masterKeyId, privateKey, kid } = record;
  if (masterKeyId === masterKeys.currentId || privateKey.length === 0) return undefined;
  const wrapper = keyWrapperOf(masterKeys, random);
  const context = SIGNING_KEY_ROWS + kid;
  const secret = masterKeyId === "" ? privateKey : wrapper.unwrap(masterKeyId, privateKey, context);
  const changed = create(SigningKeyRecordSchema, {
    ...record,
    privateKey: wrapper.wrap(secret, context),
    masterKeyId: wrapper.currentId,
  });
  const value = toBinary(SigningKeyRecordSchema, changed);
  return { name: row.name, value, expectedRevision: row.revision };
}

/** @throws KvError DATA_CORRUPT */
function readSigningKey({ name, value }: DirectoryRow): SigningKeyRecord {
  try {
    return fromBinary(SigningKeyRecordSchema, value);
  } catch (cause) {
    throw new KvError("DATA_CORRUPT", `row ${name} does not decode`, { cause });
  }
}
