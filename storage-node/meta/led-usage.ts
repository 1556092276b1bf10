/**
 * What tenants store in the groups that a node leads, as the node reports it to the leader of the meta group:
 * what that does not know yet, and nothing while nothing changes.
 *
 * Each change of a sum takes the next number. A report goes from the number up to which the leader has said
 * that it knows this node, to the one it knows afterwards. A leader that knows something else, because it is
 * a new one, or because a report or an answer was lost, says so, and gets all of it with the next report.
 *
 * Sums are exact: they are those of the rows themselves (`machine/counters.ts`). They are added up again only
 * when a group has applied something, some milliseconds for 256 groups and a thousand tenants. Its revision
 * would not tell: a reseal changes bytes and takes none.
 */
import type { LedUsage as LedUsageMessage } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type GroupId, META_GROUP, type TenantId } from "#shared/ids.ts";
import { REPORT_USAGE_ENTRIES_MAX } from "#shared/limits.ts";

export type Usage = { readonly bytes: number; readonly objects: number };

/** What of a replica is asked. */
export type CountedReplica = {
  readonly group: GroupId;
  readonly isLeader: boolean;
  readonly machine: {
    readonly appliedIndex: number;
    counters(): ReadonlyMap<TenantId, Usage>;
  };
};

export type UsageReport = {
  readonly usage: Pick<LedUsageMessage, "tenantId" | "bytes" | "objects">[];
  readonly usageFrom: bigint;
  readonly usageTo: bigint;
};

type Sum = Usage & { readonly order: number };

const NONE: Usage = { bytes: 0, objects: 0 };

export class LedUsage {
  /** In the order of their last change. A tenant that has nothing any more stays until that is known. */
  readonly #sums = new Map<TenantId, Sum>();
  #counted = new Map<GroupId, number>();
  #order = 0;
  #known = 0;

  report(replicas: readonly CountedReplica[]): UsageReport {
    this.#count(replicas.filter(({ group, isLeader }) => isLeader && group !== META_GROUP));
    const usage: UsageReport["usage"] = [];
    let to = this.#order;
    for (const [tenantId, { bytes, objects, order }] of this.#sums) {
      if (order <= this.#known) continue;
      if (usage.length === REPORT_USAGE_ENTRIES_MAX) {
        to = order - 1;
        break;
      }
      usage.push({ tenantId, bytes: BigInt(bytes), objects: BigInt(objects) });
    }
    return { usage, usageFrom: BigInt(this.#known), usageTo: BigInt(to) };
  }

  /** The leader has answered up to where it knows this node. */
  known(order: number): void {
    this.#known = order <= this.#order ? order : 0;
    for (const [tenant, sum] of this.#sums) {
      if (sum.order > this.#known) break;
      if (sum.objects === 0) this.#sums.delete(tenant);
    }
  }

  #count(led: readonly CountedReplica[]): void {
    const isSame =
      led.length === this.#counted.size &&
      led.every(({ group, machine }) => this.#counted.get(group) === machine.appliedIndex);
    if (isSame) return;
    this.#counted = new Map(led.map(({ group, machine }) => [group, machine.appliedIndex]));
    const totals = new Map<TenantId, { bytes: number; objects: number }>();
    for (const { machine } of led) {
      for (const [tenant, { bytes, objects }] of machine.counters()) {
        const total = totals.get(tenant);
        if (total === undefined) totals.set(tenant, { bytes, objects });
        else {
          total.bytes += bytes;
          total.objects += objects;
        }
      }
    }
    for (const tenant of [...this.#sums.keys()]) {
      if (!totals.has(tenant)) this.#put(tenant, NONE);
    }
    for (const [tenant, total] of totals) this.#put(tenant, total);
  }

  #put(tenant: TenantId, { bytes, objects }: Usage): void {
    const before = this.#sums.get(tenant);
    if (before?.bytes === bytes && before.objects === objects) return;
    this.#sums.delete(tenant);
    this.#sums.set(tenant, { bytes, objects, order: ++this.#order });
  }
}
