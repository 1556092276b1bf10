/**
 * Objects and bytes of each tenant in one vshard, for quotas and metrics.
 *
 * They count stored rows, so a key that has expired counts until it is removed. All tenants that
 * have data in the vshard are held in memory (some 100 bytes each); a tenant without data has
 * neither a row nor an entry.
 */
import { assert } from "#shared/assert.ts";
import { writeUint64 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { GroupId, TenantId } from "#shared/ids.ts";
import { countersRowKey } from "#storage-node/engine/layout.ts";
import { readStoredUint64 } from "./varint.ts";
import type { ApplyView, SavedAtFinish } from "./view.ts";

export type TenantCounters = {
  readonly objects: number;
  /** Sizes of keys and values. */
  readonly bytes: number;
};

const VERSION = 1;
const ROW_SIZE_BYTES = 17;
const NONE: TenantCounters = { objects: 0, bytes: 0 };

export function encodeCountersRow(counters: TenantCounters): Uint8Array {
  const row = Buffer.allocUnsafe(ROW_SIZE_BYTES);
  row[0] = VERSION;
  writeUint64(row, 1, counters.objects);
  writeUint64(row, 9, counters.bytes);
  return row;
}

/** @throws KvError DATA_CORRUPT */
export function decodeCountersRow(row: Uint8Array): TenantCounters {
  if (row.length !== ROW_SIZE_BYTES || row[0] !== VERSION) {
    throw new KvError("DATA_CORRUPT", "counters row has an unknown form");
  }
  return { objects: readStoredUint64(row, 1), bytes: readStoredUint64(row, 9) };
}

export class Counters implements SavedAtFinish {
  readonly #group: GroupId;
  readonly #byTenant: Map<TenantId, TenantCounters>;
  /** A new one each time, and not the same one emptied: see `shared/number-table.ts`. */
  #changed = new Set<TenantId>();

  /** Takes over `byTenant`. */
  constructor(group: GroupId, byTenant: Map<TenantId, TenantCounters>) {
    this.#group = group;
    this.#byTenant = byTenant;
  }

  of(tenant: TenantId): TenantCounters {
    return this.#byTenant.get(tenant) ?? NONE;
  }

  /** All tenants with data, in no particular order. */
  all(): ReadonlyMap<TenantId, TenantCounters> {
    return this.#byTenant;
  }

  /** Counts a change; its row is written when the round of `view` ends. */
  add(tenant: TenantId, objects: number, bytes: number, view: ApplyView): void {
    if (objects === 0 && bytes === 0) return;
    const before = this.of(tenant);
    const after = { objects: before.objects + objects, bytes: before.bytes + bytes };
    assert(after.objects >= 0 && after.bytes >= 0, "counters never fall below zero");
    if (after.objects === 0) {
      assert(after.bytes === 0, "a tenant without objects has no bytes");
      this.#byTenant.delete(tenant);
    } else this.#byTenant.set(tenant, after);
    if (this.#changed.size === 0) view.saveAtFinish(this);
    this.#changed.add(tenant);
  }

  /** Writes the rows of the tenants that changed since the last call. */
  save(view: ApplyView): void {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const tenant of changed) {
      const key = countersRowKey(this.#group, tenant);
      const counters = this.#byTenant.get(tenant);
      if (counters === undefined) view.deleteUnread(key);
      else view.putUnread(key, encodeCountersRow(counters));
    }
  }
}
