/** What a tenant stores, as far as this gateway can know: as last heard, stored since, and under way. */
import type { Directory } from "#gateway/directory/directory.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { TenantQuotas } from "#gateway/tenants/registry.ts";
import type { TenantId } from "#shared/ids.ts";

export type StoredSize = { readonly bytes: number; readonly objects: number };

export class TenantUse {
  readonly #tenant: TenantId;
  readonly #directory: Directory;
  #version = 0;
  #storedBytes = 0;
  #storedObjects = 0;
  #underWayBytes = 0;
  #underWayObjects = 0;

  constructor(tenant: TenantId, directory: Directory) {
    this.#tenant = tenant;
    this.#directory = directory;
  }

  /** Why `size` more does not fit. What adds nothing always does. */
  overrunOf(quotas: TenantQuotas, size: StoredSize): RequestRefused | undefined {
    this.#forget();
    const usage = this.#directory.usageOf(this.#tenant);
    const bytes = usage.bytes + this.#storedBytes + this.#underWayBytes + size.bytes;
    const objects = usage.objects + this.#storedObjects + this.#underWayObjects + size.objects;
    if (quotas.bytes > 0 && size.bytes > 0 && bytes > quotas.bytes) {
      return exceeded("bytes of keys and values", quotas.bytes, bytes);
    }
    if (quotas.objects > 0 && size.objects > 0 && objects > quotas.objects) {
      return exceeded("objects", quotas.objects, objects);
    }
    return undefined;
  }

  begin({ bytes, objects }: StoredSize): void {
    this.#underWayBytes += bytes;
    this.#underWayObjects += objects;
  }

  /** Of what was begun with `size`; `stored` is what became of it. */
  end({ bytes, objects }: StoredSize, stored: StoredSize | undefined): void {
    this.#underWayBytes -= bytes;
    this.#underWayObjects -= objects;
    if (stored === undefined) return;
    this.#forget();
    this.#storedBytes += stored.bytes;
    this.#storedObjects += stored.objects;
  }

  /** What was stored before usage was last heard is taken to be in it. */
  #forget(): void {
    const { usageVersion } = this.#directory;
    if (this.#version === usageVersion) return;
    this.#version = usageVersion;
    this.#storedBytes = 0;
    this.#storedObjects = 0;
  }
}

function exceeded(what: string, limit: number, actual: number): RequestRefused {
  const detail = `the tenant would store ${actual} ${what}; its quota is ${limit}`;
  return new RequestRefused("STORAGE_QUOTA_EXCEEDED", detail, { limit, actual });
}
