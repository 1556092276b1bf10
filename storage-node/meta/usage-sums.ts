/**
 * What tenants use in the whole cluster: the sum of what nodes report of the groups that they lead, as the
 * leader of the meta group keeps it in memory.
 *
 * How old it is: a report comes every `NODE_REPORT_INTERVAL_MS`, and gateways are told within
 * `DIRECTORY_HEARTBEAT_MS`, so about a second. While a group changes its leader it may count twice or not
 * at all for that long; and a node that has died counts for 2 s more, in which others come to lead its groups.
 */
import type { ReportRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { NodeId } from "#shared/ids.ts";
import { REPORT_USAGE_ENTRIES_MAX } from "#shared/limits.ts";
import { ChangeTable } from "./change-table.ts";
import type { Usage } from "./led-usage.ts";

/** Looks are counted and not time: a leader that has stood still finds reports waiting. */
const SILENT_LOOKS_MAX = 20;
/** By then whoever is to report has reported; who has not is down, and others lead in its place. */
const COMPLETE_AFTER_LOOKS = 30;

type NodeUsage = {
  known: number;
  looks: number;
  readonly byTenant: Map<number, Usage>;
  /** Whom it has named so far of all that it has; undefined when that was all. It may take several reports. */
  named: Set<number> | undefined;
};

export class UsageSums {
  readonly #term: () => number;
  #ofTerm = -1;
  #nodes = new Map<NodeId, NodeUsage>();
  #totals = new ChangeTable<number, Usage>();
  #looks = 0;
  #isComplete = false;

  /** `term` is that of the meta group: what an earlier leader heard counts for nothing. */
  constructor(term: () => number) {
    this.#term = term;
  }

  /** Of tenants that use anything. Another table in each term. */
  get totals(): ChangeTable<number, Usage> {
    this.#follow();
    return this.#totals;
  }

  /** All nodes have been heard that are there. */
  get isComplete(): boolean {
    this.#follow();
    return this.#isComplete;
  }

  /** Answers up to where the node's usage is known now. */
  take({ nodeId, usage, usageFrom, usageTo }: ReportRequest): number {
    this.#follow();
    const id = nodeId as NodeId;
    const isWhole = usageFrom === 0n;
    let node = this.#nodes.get(id);
    if (!isWhole && node?.known !== Number(usageFrom)) return 0;
    if (node === undefined) {
      node = { known: 0, looks: 0, byTenant: new Map(), named: undefined };
      this.#nodes.set(id, node);
    }
    node.looks = this.#looks;
    node.known = Number(usageTo);
    if (isWhole) node.named = new Set();
    for (const { tenantId, bytes, objects } of usage) {
      node.named?.add(tenantId);
      this.#put(node, tenantId, { bytes: Number(bytes), objects: Number(objects) });
    }
    if (node.named !== undefined && usage.length < REPORT_USAGE_ENTRIES_MAX) {
      for (const tenant of [...node.byTenant.keys()]) {
        if (!node.named.has(tenant)) this.#put(node, tenant, { bytes: 0, objects: 0 });
      }
      node.named = undefined;
    }
    return node.known;
  }

  /** To be called every tick, with the nodes of the cluster. */
  look(nodes: readonly NodeId[]): void {
    this.#follow();
    this.#looks++;
    const there = new Set(nodes);
    for (const [id, node] of this.#nodes) {
      if (this.#looks - node.looks <= SILENT_LOOKS_MAX && there.has(id)) continue;
      for (const tenant of [...node.byTenant.keys()]) {
        this.#put(node, tenant, { bytes: 0, objects: 0 });
      }
      this.#nodes.delete(id);
    }
    this.#isComplete ||=
      this.#looks >= COMPLETE_AFTER_LOOKS || nodes.every((id) => this.#isHeard(id));
    this.#totals.tidy();
  }

  #isHeard(id: NodeId): boolean {
    const node = this.#nodes.get(id);
    return node !== undefined && node.named === undefined;
  }

  #follow(): void {
    const term = this.#term();
    if (term === this.#ofTerm) return;
    this.#ofTerm = term;
    this.#nodes = new Map();
    this.#totals = new ChangeTable();
    this.#looks = 0;
    this.#isComplete = false;
  }

  #put(node: NodeUsage, tenant: number, usage: Usage): void {
    const before = node.byTenant.get(tenant);
    if (usage.objects === 0) node.byTenant.delete(tenant);
    else node.byTenant.set(tenant, usage);
    const total = this.#totals.get(tenant);
    const bytes = (total?.bytes ?? 0) + usage.bytes - (before?.bytes ?? 0);
    const objects = (total?.objects ?? 0) + usage.objects - (before?.objects ?? 0);
    if (objects === 0) this.#totals.remove(tenant);
    else if (bytes !== total?.bytes || objects !== total.objects) {
      this.#totals.set(tenant, { bytes, objects });
    }
  }
}
