/**
 * The keys of every row of applied state. Bytes on disk: see `docs/formats/engine.md`, and change
 * nothing here without a new row kind or version.
 *
 * All groups share one key space, because the bindings differ in how well they handle several.
 * A key begins with the kind of the row (1 byte) and its group (2 bytes, big endian), so that each
 * kind of each group is one contiguous range. All numbers are big endian: byte order is number order.
 *
 *     data      kind group tenant space key
 *     journal   kind group revision-after-the-entry (8) log-index (8)
 *     expiry    kind group expires-at-ms (8) tenant space key
 *     counters  kind group tenant (4)
 *     configuration  kind group
 *
 * Keys are made in fresh buffers, which an `EngineBatch` may keep until it is written.
 */
import {
  EMPTY_BYTES,
  prefixEnd,
  readUint32,
  readUint64,
  writeUint32,
  writeUint64,
} from "#shared/bytes.ts";
import type { GroupId, LogIndex, Revision, Space, TenantId } from "#shared/ids.ts";
import { decodeKey, encodedKeySizeBytes, encodeKey } from "#shared/key-encoding.ts";
import type { KeyAddress } from "#shared/vshard.ts";

/** First byte of every row key. Values are on disk: never renumber. */
export const RowKind = { Data: 1, Journal: 2, Expiry: 3, Counters: 4, Configuration: 5 } as const;
export type RowKind = (typeof RowKind)[keyof typeof RowKind];

const GROUP_OFFSET = 1;
/** Kind and group. */
export const ROW_HEAD_SIZE_BYTES = 3;
const JOURNAL_KEY_SIZE_BYTES = ROW_HEAD_SIZE_BYTES + 16;
const EXPIRY_HEAD_SIZE_BYTES = ROW_HEAD_SIZE_BYTES + 8;
const COUNTERS_KEY_SIZE_BYTES = ROW_HEAD_SIZE_BYTES + 4;

function newKey(kind: RowKind, group: GroupId, sizeBytes: number): Uint8Array {
  const key = Buffer.allocUnsafe(sizeBytes);
  key[0] = kind;
  key[GROUP_OFFSET] = group >>> 8;
  key[GROUP_OFFSET + 1] = group;
  return key;
}

export function dataRowKey(group: GroupId, address: KeyAddress): Uint8Array {
  const sizeBytes = ROW_HEAD_SIZE_BYTES + encodedKeySizeBytes(address);
  const key = newKey(RowKind.Data, group, sizeBytes);
  encodeKey(key, ROW_HEAD_SIZE_BYTES, address);
  return key;
}

/** Tenant, space and key of a data row; the key is a view. */
export function dataRowAddress(rowKey: Uint8Array): KeyAddress {
  return decodeKey(rowKey, ROW_HEAD_SIZE_BYTES);
}

/** The data rows with keys of one space from `start` on and before `end`; both may be empty for none. */
export function dataRowsRange(
  group: GroupId,
  range: {
    readonly tenant: TenantId;
    readonly space: Space;
    readonly start: Uint8Array;
    readonly end: Uint8Array;
  },
): { readonly start: Uint8Array; readonly end: Uint8Array } {
  const { tenant, space, start, end } = range;
  const rowKey = (key: Uint8Array): Uint8Array => dataRowKey(group, { tenant, space, key });
  return {
    start: rowKey(start),
    // The kind stands first and is no 0xff, so there is always a key behind the space.
    end: end.length > 0 ? rowKey(end) : prefixEnd(rowKey(EMPTY_BYTES))!,
  };
}

export type JournalPosition = {
  /** The group's revision after the entry was applied. */
  readonly revision: Revision;
  readonly index: LogIndex;
};

export function journalRowKey(group: GroupId, position: JournalPosition): Uint8Array {
  const key = newKey(RowKind.Journal, group, JOURNAL_KEY_SIZE_BYTES);
  writeUint64(key, ROW_HEAD_SIZE_BYTES, position.revision);
  writeUint64(key, ROW_HEAD_SIZE_BYTES + 8, position.index);
  return key;
}

export function journalRowPosition(rowKey: Uint8Array): JournalPosition {
  return {
    revision: readUint64(rowKey, ROW_HEAD_SIZE_BYTES) as Revision,
    index: readUint64(rowKey, ROW_HEAD_SIZE_BYTES + 8) as LogIndex,
  };
}

export function expiryRowKey(group: GroupId, expiresAtMs: number, address: KeyAddress): Uint8Array {
  const sizeBytes = EXPIRY_HEAD_SIZE_BYTES + encodedKeySizeBytes(address);
  const key = newKey(RowKind.Expiry, group, sizeBytes);
  writeUint64(key, ROW_HEAD_SIZE_BYTES, expiresAtMs);
  encodeKey(key, EXPIRY_HEAD_SIZE_BYTES, address);
  return key;
}

/** No expiry row of the group with this time or a later one sorts before it. */
export function expiryRowsStart(group: GroupId, expiresAtMs: number): Uint8Array {
  const key = newKey(RowKind.Expiry, group, EXPIRY_HEAD_SIZE_BYTES);
  writeUint64(key, ROW_HEAD_SIZE_BYTES, expiresAtMs);
  return key;
}

/** Log time at which the key of an expiry row expires, milliseconds. */
export function expiryRowTimeMs(rowKey: Uint8Array): number {
  return readUint64(rowKey, ROW_HEAD_SIZE_BYTES);
}

/** Tenant, space and key of an expiry row; the key is a view. */
export function expiryRowAddress(rowKey: Uint8Array): KeyAddress {
  return decodeKey(rowKey, EXPIRY_HEAD_SIZE_BYTES);
}

export function countersRowKey(group: GroupId, tenant: TenantId): Uint8Array {
  const key = newKey(RowKind.Counters, group, COUNTERS_KEY_SIZE_BYTES);
  writeUint32(key, ROW_HEAD_SIZE_BYTES, tenant);
  return key;
}

export function countersRowTenant(rowKey: Uint8Array): TenantId {
  return readUint32(rowKey, ROW_HEAD_SIZE_BYTES) as TenantId;
}

/** The one row that tells the members of the group, as of the last applied entry. */
export const configurationRowKey = (group: GroupId): Uint8Array =>
  newKey(RowKind.Configuration, group, ROW_HEAD_SIZE_BYTES);

/** Kind and group of any row. The kind may be unknown to this version. */
export function rowHead(rowKey: Uint8Array): { readonly kind: number; readonly group: GroupId } {
  const group = (rowKey[GROUP_OFFSET]! << 8) | rowKey[GROUP_OFFSET + 1]!;
  return { kind: rowKey[0]!, group: group as GroupId };
}

/** All rows of one kind of one group. */
export function rowsOf(
  kind: RowKind,
  group: GroupId,
): { readonly start: Uint8Array; readonly end: Uint8Array } {
  const start = newKey(kind, group, ROW_HEAD_SIZE_BYTES);
  const end = Buffer.from(start);
  // The successor of a three-byte prefix: group 0xffff carries into the kind.
  const next = ((start[0]! << 16) | (start[1]! << 8) | start[2]!) + 1;
  end[0] = next >>> 16;
  end[1] = next >>> 8;
  end[2] = next;
  return { start, end };
}
