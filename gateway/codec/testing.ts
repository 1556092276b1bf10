/** For the tests of the codec: gateways that share a directory and a storage. Used by tests only. */
import type { StoredValue } from "#gateway/storage/storage.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { DataKeys } from "./data-keys.ts";
import { type MasterKeys, masterKeyLine, parseMasterKeys } from "./master-keys.ts";
import { SealedStorage } from "./sealed-storage.ts";
import { ValueCodec } from "./value-codec.ts";

export const OTHER_TENANT = 2 as TenantId;

/** Lines of master keys that are always the same. */
export const LINES = [1, 2, 3].map((seed) => masterKeyLine(new SeededRandom(seed)));

export const masterKeys = (...places: number[]): MasterKeys =>
  parseMasterKeys(places.map((place) => LINES[place]).join("\n"));

export class World {
  readonly clock = new ManualClock();
  readonly directory = new MemoryDirectory();
  readonly storage = new MemoryStorage(this.clock);
  #gateways = 0;

  get options() {
    return { deadlineMs: this.clock.nowMs() + 10_000 };
  }

  gateway(keys: MasterKeys | "none" = masterKeys(0), compressAboveBytes = 512) {
    const random = new SeededRandom(++this.#gateways * 1_000);
    const { directory, clock, storage } = this;
    const known = keys === "none" ? undefined : keys;
    const dataKeys = new DataKeys({ directory, masterKeys: known, clock, random });
    const codec = new ValueCodec({ keys: dataKeys, compressAboveBytes });
    const sealed = new SealedStorage({ storage, codec, keys: dataKeys });
    return { keys: dataKeys, codec, storage: sealed, random };
  }

  /** What storage has, as it has it. */
  async stored(key: string, tenant: TenantId = DEFAULT_TENANT): Promise<StoredValue> {
    const found = await this.storage.get({ tenant, key: utf8(key) }, this.options);
    if (found === undefined) throw new Error(`${key} is not stored`);
    return found;
  }
}

export const refOf = (key: string, tenant: TenantId = DEFAULT_TENANT) => ({
  tenant,
  key: utf8(key),
});

export const putOf = (value: Uint8Array | string) => ({
  value: typeof value === "string" ? utf8(value) : value,
  contentType: "text/plain",
  ttlMs: 0,
});
