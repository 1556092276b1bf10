/**
 * Figures of tenants, of which there can be any number: those with most use have series of their own, all
 * others share the label `_other`, which no tenant can be called.
 *
 * Counters must not fall, and who has most use changes. So it is the growth since the last reading that is
 * added, to the tenant's own series or to that of the others; nothing moves from one to the other.
 */
import type { EdgeFigures } from "#gateway/edge.ts";
import type { TenantCounts } from "#gateway/limits/tenant-figures.ts";
import type { TenantId } from "#shared/ids.ts";
import { METRICS_TENANTS_MAX } from "#shared/limits-telemetry.ts";
import type { MetricReaders, MetricSink } from "#shared/runtime/metrics.ts";
import type { GATEWAY_METRICS } from "./catalogue.ts";

export const OTHER_TENANTS = "_other";

type Told = {
  /** What has been read of the tenant so far. */
  seen: TenantCounts;
  /** Of it, what its own series has got. */
  own: TenantCounts;
};

const none = (): TenantCounts => ({ admitted: 0, rateLimited: 0 });

export class TenantMetrics {
  readonly #figures: Pick<EdgeFigures, "requests" | "tenants" | "directory">;
  readonly #told = new Map<TenantId, Told>();
  readonly #others = none();
  readonly #tenantsMax: number;

  constructor(
    figures: Pick<EdgeFigures, "requests" | "tenants" | "directory">,
    tenantsMax = METRICS_TENANTS_MAX,
  ) {
    this.#figures = figures;
    this.#tenantsMax = tenantsMax;
  }

  readers() {
    const requests = this.#requests();
    const stored = this.#stored();
    const each = (sink: MetricSink, value: (of: Stored) => number, others: boolean): void => {
      for (const one of stored.own) {
        if (value(one) > 0 || others) sink.value(value(one), { tenant: one.tenant });
      }
      const rest = stored.others;
      if (others && rest !== undefined) sink.value(value(rest), { tenant: rest.tenant });
    };
    return {
      tenantRequests: (sink) => {
        for (const [tenant, { admitted, rateLimited }] of requests) {
          sink.value(admitted, { tenant, outcome: "admitted" });
          if (rateLimited > 0) sink.value(rateLimited, { tenant, outcome: "rate_limited" });
        }
      },
      tenantRateLimited: (sink) => {
        for (const [tenant, { rateLimited }] of requests) sink.value(rateLimited, { tenant });
      },
      tenantBytes: (sink) => each(sink, ({ bytes }) => bytes, true),
      tenantObjects: (sink) => each(sink, ({ objects }) => objects, true),
      tenantQuotaBytes: (sink) => each(sink, ({ quotaBytes }) => quotaBytes, false),
      tenantQuotaObjects: (sink) => each(sink, ({ quotaObjects }) => quotaObjects, false),
    } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
  }

  /** By label. */
  #requests(): ReadonlyMap<string, TenantCounts> {
    const { requests, tenants } = this.#figures;
    for (const id of this.#told.keys()) if (!requests.counts.has(id)) this.#told.delete(id);
    const all = [...requests.counts];
    const most = new Set(
      largest(all, this.#tenantsMax, ([, { admitted, rateLimited }]) => admitted + rateLimited),
    );
    const byLabel = new Map<string, TenantCounts>();
    for (const one of all) {
      const [id, counts] = one;
      const told = this.#toldOf(id);
      const name = most.has(one) ? tenants.get(id)?.name : undefined;
      const to = name === undefined ? this.#others : told.own;
      to.admitted += counts.admitted - told.seen.admitted;
      to.rateLimited += counts.rateLimited - told.seen.rateLimited;
      told.seen = { ...counts };
      if (name !== undefined) byLabel.set(name, told.own);
    }
    const { admitted, rateLimited } = this.#others;
    if (admitted + rateLimited > 0) byLabel.set(OTHER_TENANTS, this.#others);
    return byLabel;
  }

  #toldOf(id: TenantId): Told {
    let told = this.#told.get(id);
    if (told === undefined) {
      told = { seen: none(), own: none() };
      this.#told.set(id, told);
    }
    return told;
  }

  #stored(): { readonly own: readonly Stored[]; readonly others: Stored | undefined } {
    const { tenants, directory } = this.#figures;
    const all = tenants.list().map(({ id, name, quotas }): Stored => {
      const { bytes, objects } = directory.usageOf(id);
      const { bytes: quotaBytes, objects: quotaObjects } = quotas;
      return { tenant: name, bytes, objects, quotaBytes, quotaObjects };
    });
    const own = largest(all, this.#tenantsMax, ({ bytes }) => bytes);
    if (own.length === all.length) return { own, others: undefined };
    const sum = (of: "bytes" | "objects"): number =>
      all.reduce((total, one) => total + one[of], 0) -
      own.reduce((total, one) => total + one[of], 0);
    const rest = { bytes: sum("bytes"), objects: sum("objects") };
    return { own, others: { tenant: OTHER_TENANTS, ...rest, quotaBytes: 0, quotaObjects: 0 } };
  }
}

type Stored = {
  readonly tenant: string;
  readonly bytes: number;
  readonly objects: number;
  /** 0 for none. */
  readonly quotaBytes: number;
  readonly quotaObjects: number;
};

/** In their order; of equal ones the first. */
function largest<T>(all: readonly T[], countMax: number, by: (one: T) => number): readonly T[] {
  if (all.length <= countMax) return all;
  return all.toSorted((a, b) => by(b) - by(a)).slice(0, countMax);
}
