/** A node's report of what tenants store, and the sums of all nodes, over whatever is lost between them. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ReportRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type GroupId, META_GROUP, type NodeId, type TenantId } from "#shared/ids.ts";
import { REPORT_USAGE_ENTRIES_MAX } from "#shared/limits.ts";
import { type CountedReplica, LedUsage, type Usage } from "./led-usage.ts";
import { UsageSums } from "./usage-sums.ts";

/** A group whose rows every node has, and that one of them leads. */
class Group {
  readonly group: GroupId;
  appliedIndex = 0;
  revision = 0;
  leader = 1;
  readonly byTenant = new Map<TenantId, Usage>();

  constructor(group: number) {
    this.group = group as GroupId;
  }

  store(tenant: number, bytes: number): void {
    this.appliedIndex++;
    this.revision++;
    if (bytes === 0) this.byTenant.delete(tenant as TenantId);
    else this.byTenant.set(tenant as TenantId, { bytes, objects: 1 });
  }

  /** As a rotation of the data key does: an entry that is no change, and takes no revision. */
  reseal(tenant: number, bytes: number): void {
    this.store(tenant, bytes);
    this.revision--;
  }

  at(node: number): CountedReplica {
    const { appliedIndex, revision } = this;
    const counters = () => this.byTenant;
    const machine = { appliedIndex, revision, counters };
    return { group: this.group, isLeader: this.leader === node, machine };
  }
}

const requestOf = (nodeId: number, led: LedUsage, groups: readonly Group[]) =>
  create(ReportRequestSchema, { nodeId, ...led.report(groups.map((group) => group.at(nodeId))) });

function totalsOf(groups: readonly Group[]): Map<number, Usage> {
  const totals = new Map<number, Usage>();
  for (const { byTenant } of groups) {
    for (const [tenant, { bytes, objects }] of byTenant) {
      const before = totals.get(tenant) ?? { bytes: 0, objects: 0 };
      totals.set(tenant, { bytes: before.bytes + bytes, objects: before.objects + objects });
    }
  }
  return totals;
}

const NODES = [1, 2, 3];
const step = fc.oneof(
  fc.record({
    kind: fc.constant("store" as const),
    group: fc.nat(3),
    tenant: fc.integer({ min: 1, max: 4 }),
    bytes: fc.nat(3),
  }),
  fc.record({ kind: fc.constant("lead" as const), group: fc.nat(3), node: fc.nat(2) }),
  fc.record({
    kind: fc.constant("report" as const),
    node: fc.nat(2),
    lost: fc.constantFrom("nothing" as const, "request" as const, "answer" as const),
  }),
  fc.record({ kind: fc.constant("election" as const) }),
  fc.record({ kind: fc.constant("restart" as const), node: fc.nat(2) }),
);

describe("usage of tenants", () => {
  it("is right once every node was heard, whatever was lost before", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const groups = [0, 1, 2, 3].map((group) => new Group(group));
        const led = NODES.map(() => new LedUsage());
        let term = 1;
        const sums = new UsageSums(() => term);
        const report = (index: number, lost: string): void => {
          const request = requestOf(NODES[index]!, led[index]!, groups);
          if (lost === "request") return;
          const known = sums.take(request);
          if (lost !== "answer") led[index]!.known(known);
        };
        for (const one of steps) {
          if (one.kind === "store") groups[one.group]!.store(one.tenant, one.bytes);
          else if (one.kind === "lead") groups[one.group]!.leader = NODES[one.node]!;
          else if (one.kind === "report") report(one.node, one.lost);
          else if (one.kind === "restart") led[one.node] = new LedUsage();
          else term++;
        }
        for (let i = 0; i < 2 * NODES.length; i++) report(i % NODES.length, "nothing");
        expect(new Map(sums.totals.entries())).toEqual(totalsOf(groups));
      }),
    );
  });

  it("is reported only where it has changed, and not of the meta group", () => {
    const groups = [new Group(0), new Group(1), new Group(META_GROUP)];
    for (const group of groups) for (const tenant of [1, 2, 3]) group.store(tenant, 10);
    const led = new LedUsage();
    const sums = new UsageSums(() => 1);
    const first = requestOf(1, led, groups);
    expect(first.usage).toMatchObject([1, 2, 3].map((tenantId) => ({ tenantId, bytes: 20n })));
    led.known(sums.take(first));
    expect(requestOf(1, led, groups).usage).toEqual([]);
    groups[1]!.store(2, 15);
    expect(requestOf(1, led, groups).usage).toMatchObject([{ tenantId: 2, bytes: 25n }]);
    groups[1]!.leader = 2;
    expect(requestOf(1, led, groups).usage.map(({ bytes }) => bytes)).toEqual([10n, 10n, 10n]);
  });

  it("is reported where values have other bytes than before, which is no new revision", () => {
    const group = new Group(0);
    group.store(1, 10);
    const led = new LedUsage();
    const sums = new UsageSums(() => 1);
    led.known(sums.take(requestOf(1, led, [group])));
    group.reseal(1, 50);
    led.known(sums.take(requestOf(1, led, [group])));
    expect(sums.totals.get(1)).toEqual({ bytes: 50, objects: 1 });
  });

  it("comes in several reports when it is much", () => {
    const group = new Group(0);
    const tenants = REPORT_USAGE_ENTRIES_MAX + 10;
    for (let tenant = 1; tenant <= tenants; tenant++) group.store(tenant, tenant);
    const led = new LedUsage();
    const sums = new UsageSums(() => 1);
    for (const count of [REPORT_USAGE_ENTRIES_MAX, 10, 0]) {
      const request = requestOf(1, led, [group]);
      expect(request.usage.length).toBe(count);
      led.known(sums.take(request));
    }
    expect(sums.totals.size).toBe(tenants);
  });

  it("is complete when all nodes were heard, or have had the time; a silent node counts no more", () => {
    const group = new Group(0);
    group.store(1, 10);
    const led = new LedUsage();
    const sums = new UsageSums(() => 1);
    const ids = NODES as NodeId[];
    led.known(sums.take(requestOf(1, led, [group])));
    sums.look(ids);
    expect(sums.isComplete).toBe(false);
    for (const node of [2, 3]) sums.take(requestOf(node, new LedUsage(), [group]));
    sums.look(ids);
    expect([sums.isComplete, sums.totals.get(1)?.bytes]).toEqual([true, 10]);
    for (let looks = 0; looks < 30; looks++) sums.look(ids);
    expect(sums.totals.size).toBe(0);
    const alone = new UsageSums(() => 1);
    for (let looks = 0; looks < 30; looks++) alone.look(ids);
    expect(alone.isComplete).toBe(true);
  });

  it("is not known, and none of it forgotten, while a node's account takes several reports", () => {
    const group = new Group(0);
    const count = REPORT_USAGE_ENTRIES_MAX + 2;
    for (let tenant = 1; tenant <= count; tenant++) group.store(tenant, 1);
    const led = new LedUsage();
    let term = 1;
    const sums = new UsageSums(() => term);
    const report = (): UsageSums => {
      led.known(sums.take(requestOf(1, led, [group])));
      sums.look([1 as NodeId]);
      return sums;
    };
    expect(report().isComplete).toBe(false);
    expect(report().isComplete).toBe(true);
    expect(sums.totals.size).toBe(count);
    // The answer is lost: with the report after that the node begins again.
    group.store(1, 2);
    sums.take(requestOf(1, led, [group]));
    group.store(1, 0);
    expect(report().totals.size).toBe(count);
    expect(report().totals.size).toBe(count);
    expect(report().totals.size).toBe(count - 1);
    term++;
    const isComplete = [report().isComplete, report().isComplete, report().isComplete];
    expect(isComplete).toEqual([false, false, true]);
    expect(sums.totals.size).toBe(count - 1);
  });
});
