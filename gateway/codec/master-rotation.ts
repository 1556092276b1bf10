/**
 * Wraps what is wrapped with an older master key anew with the current one: data keys, and private keys
 * of tokens. No value is touched, so it takes a moment; and private keys that were stored when there was
 * no master key are wrapped now.
 *
 * Each row is changed under the condition that it is still the one that was read. What is interrupted is
 * done by asking again.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { SigningKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { KvError } from "#shared/errors.ts";
import { REWRAP_ROWS_PER_CHANGE } from "#shared/limits-codec.ts";
import type { Random } from "#shared/random.ts";
import {
  DATA_KEY_ROWS,
  dataKeyPurpose,
  dataKeyRow,
  parseDataKeyRowName,
  readDataKeyRow,
} from "./data-key-rows.ts";
import { keyWrapperOf, type MasterKeys } from "./master-keys.ts";

const SIGNING_KEY_ROWS = "signing-key/";

export type Rewrapping = {
  readonly directory: Directory;
  readonly masterKeys: MasterKeys;
  readonly random: Random;
};

/**
 * Returns how many keys it has wrapped anew.
 *
 * @throws KvError ENCRYPTION_KEY_MISSING when a key is wrapped with a master key that is not known here;
 * UNAVAILABLE when others change the same rows all the time; and as `Directory.change` does
 */
export async function rewrapAll(parts: Rewrapping, deadlineMs: number): Promise<number> {
  let rewrapped = 0;
  const rows = [...parts.directory.list(DATA_KEY_ROWS), ...parts.directory.list(SIGNING_KEY_ROWS)];
  const mutations = rows.flatMap((row) => rewrap(row, parts) ?? []);
  for (let from = 0; from < mutations.length; from += REWRAP_ROWS_PER_CHANGE) {
    const some = mutations.slice(from, from + REWRAP_ROWS_PER_CHANGE);
    if (!(await parts.directory.change(some, { deadlineMs }))) {
      const detail = `keys were changed meanwhile, after ${rewrapped} were wrapped anew: ask again`;
      throw new KvError("UNAVAILABLE", detail);
    }
    rewrapped += some.length;
  }
  return rewrapped;
}

/** Undefined when there is nothing to do. */
function rewrap(row: DirectoryRow, parts: Rewrapping): DirectoryMutation | undefined {
  return row.name.startsWith(DATA_KEY_ROWS) ? rewrapDataKey(row, parts) : rewrapSigning(row, parts);
}

function rewrapDataKey(row: DirectoryRow, parts: Rewrapping): DirectoryMutation | undefined {
  const { masterKeys, random } = parts;
  const address = parseDataKeyRowName(row.name);
  if (address === undefined) return undefined;
  const record = readDataKeyRow(row);
  if (record.masterKeyId === masterKeys.currentId) return undefined;
  const { tenant, number } = address;
  const purpose = dataKeyPurpose(tenant, number);
  const wrapped = masterKeys.wrap(purpose, masterKeys.unwrap(purpose, record), random);
  const { value } = dataKeyRow(tenant, number, wrapped, Number(record.createdAtMs));
  return { name: row.name, value, expectedRevision: row.revision };
}

function rewrapSigning(row: DirectoryRow, parts: Rewrapping): DirectoryMutation | undefined {
  const { masterKeys, random } = parts;
  const record = fromBinary(SigningKeyRecordSchema, row.value);
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
