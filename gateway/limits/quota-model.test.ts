/**
 * Three gateways that store for one tenant, and usage that they hear late: how far beyond the quota all of
 * them together can get. Time is simulated, in steps of 10 ms.
 */
import { describe, expect, it } from "vitest";
import type { PutOutcome, Storage } from "#gateway/storage/storage.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { toRevision, toTenantId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { TenantStorage } from "./tenant-storage.ts";

const TENANT = toTenantId(7);
const GATEWAYS = 3;
const QUOTA_BYTES = 100_000;
const TICK_MS = 10;
/** From a write being applied to its being heard of at the latest: two seconds, and the news. */
const STALE_MS = 2_000;
const NEWS_INTERVAL_MS = 500;
const PUT_MS_MAX = 50;
const VALUE_BYTES = 90;
const KEY_BYTES = 10;
const PUT_BYTES = VALUE_BYTES + KEY_BYTES;
/** Of each gateway. */
const PUTS_PER_TICK = 2;

type Sample = { readonly atMs: number; readonly bytes: number; readonly objects: number };

class Model {
  readonly #clock = new ManualClock();
  readonly #random: SeededRandom;
  readonly #gateways: { readonly directory: MemoryDirectory; readonly storage: TenantStorage }[] =
    [];
  readonly #history: Sample[] = [];
  bytes = 0;
  objects = 0;
  refused = 0;
  #keys = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  async open(): Promise<this> {
    for (let at = 0; at < GATEWAYS; at++) {
      const directory = new MemoryDirectory();
      await putTenant(directory, TENANT, { quotas: { bytes: BigInt(QUOTA_BYTES) } });
      const tenants = new TenantRegistry(directory);
      const storage = new TenantStorage({
        ...{ directory, tenants, inner: this.#inner() },
        chargeOperations: () => undefined,
      });
      this.#gateways.push({ directory, storage });
    }
    return this;
  }

  /** Each put is applied at a moment while it is under way. */
  #inner(): Storage {
    const inner = new MemoryStorage(this.#clock);
    return Object.assign(inner, {
      put: (): Promise<PutOutcome> =>
        new Promise((resolve) => {
          this.#clock.after(this.#random.below(PUT_MS_MAX), () => {
            this.bytes += PUT_BYTES;
            this.objects++;
            resolve({ kind: "stored", revision: toRevision(1), created: true });
          });
        }),
    });
  }

  async tick(): Promise<void> {
    this.#clock.advance(TICK_MS);
    const nowMs = this.#clock.monotonicMs();
    this.#history.push({ atMs: nowMs, bytes: this.bytes, objects: this.objects });
    for (const { directory, storage } of this.#gateways) {
      if (this.#random.below(NEWS_INTERVAL_MS / TICK_MS) === 0) this.#tell(directory, nowMs);
      for (let at = 0; at < PUTS_PER_TICK; at++) {
        const key = utf8(String(this.#keys++).padStart(KEY_BYTES, "0"));
        storage
          .put(
            { tenant: TENANT, key },
            { value: new Uint8Array(VALUE_BYTES), contentType: "", ttlMs: 0 },
            { deadlineMs: 0 },
          )
          .catch(() => this.refused++);
      }
    }
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
  }

  /** Usage as it was some time ago, at most two seconds. */
  #tell(directory: MemoryDirectory, nowMs: number): void {
    const asOfMs = nowMs - this.#random.below(STALE_MS);
    const { bytes, objects } = this.#history.findLast(({ atMs }) => atMs <= asOfMs) ?? {
      bytes: 0,
      objects: 0,
    };
    directory.usage.set(TENANT, { bytes, objects });
    directory.usageVersion++;
  }
}

describe("a quota at three gateways", () => {
  it.each([1, 2, 3, 4, 5])(
    "is exceeded by what they store in two seconds at most (seed %i)",
    async (seed) => {
      const model = await new Model(seed).open();
      for (let ms = 0; ms < 10_000; ms += TICK_MS) await model.tick();
      const perSecond = (GATEWAYS * PUTS_PER_TICK * PUT_BYTES * 1000) / TICK_MS;
      const overshoot = model.bytes - QUOTA_BYTES;
      expect(overshoot).toBeLessThanOrEqual(perSecond * ((STALE_MS + PUT_MS_MAX) / 1000));
      expect(model.refused).toBeGreaterThan(0);
      // The quota can be used up, and stays as it is from then on.
      expect(overshoot).toBeGreaterThan(-PUT_BYTES);
      const before = model.bytes;
      for (let ms = 0; ms < 2_000; ms += TICK_MS) await model.tick();
      expect(model.bytes).toBe(before);
    },
  );
});
