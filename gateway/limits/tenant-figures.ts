/** Requests of each tenant at this gateway, counted in plain numbers; metrics read them. */
import type { TenantId } from "#shared/ids.ts";

export type TenantCounts = {
  /** Let in by the rate of the tenant. */
  admitted: number;
  /** Refused because that was used up; a batch, also after it was let in. */
  rateLimited: number;
};

export class TenantFigures {
  /** One for each tenant that exists and has asked for anything. */
  readonly #counts = new Map<TenantId, TenantCounts>();

  get counts(): ReadonlyMap<TenantId, Readonly<TenantCounts>> {
    return this.#counts;
  }

  of(tenant: TenantId): TenantCounts {
    let counts = this.#counts.get(tenant);
    if (counts === undefined) {
      counts = { admitted: 0, rateLimited: 0 };
      this.#counts.set(tenant, counts);
    }
    return counts;
  }

  forget(tenant: TenantId): void {
    this.#counts.delete(tenant);
  }
}
