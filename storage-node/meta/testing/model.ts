/**
 * A model of a cluster for tests of the planner: nodes that die and return, maps and reports that are late,
 * leaders that follow an old map, operators that drain, cancel and remove, and the planner in between.
 *
 * Everything that must hold at every moment is checked as it happens: `ModelError` says what did not.
 */
import { create } from "@bufbuild/protobuf";
import { RemoveNodeSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ClusterMap,
  type ClusterNode,
  NodeState,
  type Placement,
  placementOf,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  META_GROUP,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
} from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { operatorChange } from "#storage-node/meta/operator-changes.ts";
import { isUnderWay } from "#storage-node/meta/placement/members.ts";
import {
  type GroupObservation,
  initialPlacements,
  type NodeObservation,
  type Plan,
  type PlannerInput,
  type PlannerOptions,
  plan,
} from "#storage-node/meta/planner.ts";
import { configurationOf, WELL, withRows } from "./fixtures.ts";
import { ModelGroup } from "./model-group.ts";
import { check, PlanChecks } from "./plan-checks.ts";

/** Ticks without an answer after which a node counts as lost. */
export const LOST_TICKS = 15;
/** Ticks after which a report counts for nothing. */
const STALE_TICKS = 6;

type ModelNode = {
  alive: boolean;
  silentTicks: number;
  slow: boolean;
  full: boolean;
  /** The map as it has seen it. */
  seen: ClusterMap;
  /** Replicas that exist on its disk. */
  readonly replicas: Map<GroupId, ReplicaId>;
};

export class Model {
  readonly random: Random;
  readonly options: PlannerOptions;
  readonly nodes = new Map<NodeId, ModelNode>();
  readonly groups = new Map<GroupId, ModelGroup>();
  map: ClusterMap;
  readonly #reports = new Map<
    GroupId,
    { readonly report: GroupObservation; readonly at: number }
  >();
  readonly #checks: PlanChecks;
  #tick = 0;

  constructor(
    random: Random,
    {
      nodes,
      vshards,
      options,
    }: {
      readonly nodes: readonly ClusterNode[];
      readonly vshards: number;
      readonly options: PlannerOptions;
    },
  ) {
    this.random = random;
    this.options = options;
    const { placements, meta } = initialPlacements(nodes, options);
    const cluster = { clusterId: "model", version: 1, featureVersion: 1, nodes, meta };
    this.map = { ...cluster, placements: placements.slice(0, vshards) };
    this.#checks = new PlanChecks(this.placements);
    for (const { id } of nodes) this.#startNode(id);
    for (const placement of this.placements) this.#startGroup(placement);
  }

  get placements(): readonly Placement[] {
    return [...this.map.placements, this.map.meta];
  }

  /** Learners that were ever added. */
  get added(): number {
    return this.#checks.added;
  }

  tick(): void {
    this.#tick++;
    for (const node of this.nodes.values())
      node.silentTicks = node.alive ? 0 : node.silentTicks + 1;
    for (const id of this.nodes.keys()) if (this.random.below(3) > 0) this.#deliverMap(id);
    for (const group of this.groups.values()) group.tick();
    this.#collectReports();
  }

  input(): PlannerInput {
    const nodes = new Map<NodeId, NodeObservation>();
    for (const { id } of this.map.nodes) {
      const { alive, silentTicks, slow, full } = this.nodes.get(id)!;
      const lost = !alive && silentTicks >= LOST_TICKS;
      nodes.set(id, { ...WELL, answering: alive, lost, slow, writable: alive && !full });
    }
    const fresh = [...this.#reports].filter(([, { at }]) => this.#tick - at <= STALE_TICKS);
    return {
      map: this.map,
      nodes,
      groups: new Map(fresh.map(([group, { report }]) => [group, report])),
      options: this.options,
    };
  }

  /** Plans; `between` may change the map before the plan is written, which is then refused. */
  plan(between: () => void = () => {}): Plan {
    const input = this.input();
    const next = plan(input);
    between();
    if (this.map.version !== input.map.version) return next;
    this.#checks.check(input, next);
    this.#write(next);
    return next;
  }

  // What people do.

  kill(id: NodeId): void {
    this.nodes.get(id)!.alive = false;
  }

  revive(id: NodeId): void {
    this.nodes.get(id)!.alive = true;
  }

  setState(id: NodeId, state: NodeState): void {
    this.#changeNodes(this.map.nodes.map((node) => (node.id === id ? { ...node, state } : node)));
  }

  join(node: ClusterNode): void {
    this.#changeNodes([...this.map.nodes, node]);
    this.#startNode(node.id);
  }

  /** Answers whether it was allowed. */
  remove(id: NodeId): boolean {
    return this.ask({ case: "remove", value: create(RemoveNodeSchema, { nodeId: id }) });
  }

  /** Answers whether it was allowed. */
  ask(wanted: Parameters<typeof operatorChange>[0]): boolean {
    try {
      const { change } = operatorChange(wanted, this.input(), this.#nextNodeId);
      if (change !== undefined) this.#write(change);
      return true;
    } catch (error) {
      if (error instanceof KvError) return false;
      throw error;
    }
  }

  get #nextNodeId(): NodeId {
    return (Math.max(...this.nodes.keys()) + 1) as NodeId;
  }

  #write(rows: Parameters<typeof withRows>[1]): void {
    this.map = withRows(this.map, rows);
    // Whoever was removed is switched off.
    for (const id of rows.removedNodes ?? []) this.kill(id);
  }

  #changeNodes(nodes: readonly ClusterNode[]): void {
    this.map = { ...this.map, version: this.map.version + 1, nodes };
  }

  #startNode(id: NodeId): void {
    const node = { alive: true, silentTicks: 0, slow: false, full: false, seen: this.map };
    this.nodes.set(id, { ...node, replicas: new Map() });
    this.#follow(id);
  }

  #startGroup(placement: Placement): void {
    const { group } = placement;
    const sizeBytes = 100 * 2 ** 20;
    this.groups.set(
      group,
      new ModelGroup({ group, sizeBytes }, configurationOf(placement), {
        random: this.random,
        isAlive: (id) => {
          const node = this.nodes.get(nodeOfReplica(id))!;
          return node.alive && node.replicas.get(group) === id;
        },
        rowAt: (node) => placementOf(this.nodes.get(node)!.seen, group),
      }),
    );
  }

  #deliverMap(id: NodeId): void {
    const node = this.nodes.get(id)!;
    if (!node.alive || node.seen === this.map) return;
    node.seen = this.map;
    this.#follow(id);
  }

  /** A node destroys what the map has given up, and creates what it names. */
  #follow(id: NodeId): void {
    const { seen, replicas } = this.nodes.get(id)!;
    for (const { group, replicas: row } of [...seen.placements, seen.meta]) {
      const named = row.filter(({ replica }) => nodeOfReplica(replica) === id);
      check(named.length <= 1, `node ${id} has ${named.length} replicas of group ${group}`);
      const [wanted, held] = [named[0]?.replica, replicas.get(group)];
      if (wanted === held) continue;
      if (held !== undefined) {
        const isInUse = this.groups.get(group)!.votersInUse.includes(held);
        check(!isInUse, `voter ${held} of group ${group} is destroyed`);
        replicas.delete(group);
      }
      if (wanted !== undefined) replicas.set(group, wanted);
    }
  }

  /** Reports are late by chance, and those of one group never overtake each other. */
  #collectReports(): void {
    for (const [id, group] of this.groups) {
      if (this.random.below(3) === 0) continue;
      const report = group.observe();
      if (report !== undefined) this.#reports.set(id, { report, at: this.#tick });
    }
  }

  // What is asked at the end.

  /** Nothing is under way, neither in the map nor in a group. */
  get isCalm(): boolean {
    return this.placements.every((row) => {
      const report = this.groups.get(row.group)!.observe();
      if (isUnderWay(row) || report === undefined || !report.settled) return false;
      const { voters, learners } = report.configuration;
      const inRow = row.replicas.map(({ replica }) => replica);
      return (
        learners.length === 0 &&
        voters.length === inRow.length &&
        voters.every((id) => inRow.includes(id))
      );
    });
  }

  /** Some group has a member on a node that was removed. */
  get hasRemovedMembers(): boolean {
    const ids = new Set(this.map.nodes.map(({ id }) => id));
    return [...this.groups.values()].some(({ votersInUse }) =>
      votersInUse.some((replica) => !ids.has(nodeOfReplica(replica))),
    );
  }

  get upNodes(): readonly ClusterNode[] {
    return this.map.nodes.filter(({ state }) => state === NodeState.Up);
  }

  bytesOf(group: GroupId): number {
    return group === META_GROUP ? 0 : this.groups.get(group)!.sizeBytes;
  }
}
