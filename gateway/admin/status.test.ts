import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  GetClusterStatusResponseSchema,
  type GroupReportSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ClusterMap,
  fullyReplicatedMap,
  type GroupReplica,
  NodeState,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { replicaIdOf, toNodeId } from "#shared/ids.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";
import { statusFromLeader } from "./status.ts";

type Report = MessageInitShape<typeof GroupReportSchema>;

const replica = (node: number, sequence = 0): bigint =>
  BigInt(replicaIdOf(toNodeId(node), sequence));

/** Nodes 1 to 3 with a voter of everything each. */
function baseMap(): ClusterMap {
  const nodes = [1, 2, 3].map((id) => ({
    id: toNodeId(id),
    address: `n${id}:1`,
    zone: "",
    host: "",
    state: NodeState.Up,
    capacityBytes: 1_000,
  }));
  return { ...fullyReplicatedMap("one", nodes), version: 12 };
}

/** What a follower reports of each group. */
const followed = (node: number, leader: number, applied = 90): Report => ({
  replicaId: replica(node),
  leaderReplicaId: replica(leader),
  term: 4n,
  appliedIndex: BigInt(applied),
  commitIndex: 100n,
});

/** What a leader reports; `match` by node. */
const led = (node: number, match: Readonly<Record<number, number>>, more: Report = {}): Report => ({
  replicaId: replica(node),
  leaderReplicaId: replica(node),
  term: 4n,
  appliedIndex: 100n,
  commitIndex: 100n,
  lastIndex: 100n,
  sizeBytes: 50n,
  objects: 5n,
  voters: [1, 2, 3].map((id) => replica(id)),
  members: Object.entries(match).map(([id, matchIndex]) => ({
    replicaId: replica(Number(id)),
    matchIndex: BigInt(matchIndex),
  })),
  ...more,
});

type NodeInput = {
  readonly ageMs?: number;
  /** Of each group; undefined for one that the node does not have. */
  readonly group: (group: number) => Report | undefined;
};

function statusOf(
  nodes: Readonly<Record<number, NodeInput>>,
  options: {
    readonly map?: ClusterMap;
    readonly withGroups?: boolean;
    readonly reachable?: readonly number[];
  } = {},
) {
  const map = options.map ?? baseMap();
  const groups = [...map.placements, map.meta].map(({ group }) => group);
  const response = create(GetClusterStatusResponseSchema, {
    map: toMapMessage(map),
    metaLeaderNodeId: 1,
    nodes: Object.entries(nodes).map(([id, { ageMs, group }]) => ({
      reportAgeMs: BigInt(ageMs ?? 100),
      report: {
        nodeId: Number(id),
        usedBytes: 300n,
        capacityBytes: 2_000n,
        syncMicros: 700,
        softwareVersion: "1",
        writable: true,
        mapVersion: 12n,
        groups: groups.flatMap((number) => {
          const report = group(number);
          return report === undefined ? [] : [{ ...report, group: number }];
        }),
      },
    })),
  });
  const { withGroups = false, reachable = [] } = options;
  const isReachable = (node: number) => reachable.includes(node);
  return statusFromLeader({ response, isReachable, withGroups });
}

/** Node 1 leads everything, node 3 is 40 entries behind in vshard 9. */
const HEALTHY: Readonly<Record<number, NodeInput>> = {
  1: { group: (group) => led(1, { 2: 100, 3: group === 9 ? 60 : 98 }) },
  2: { group: () => followed(2, 1) },
  3: { group: () => followed(3, 1) },
};

describe("statusFromLeader()", () => {
  it("shows nodes, leaders, sizes and lag of a healthy cluster", () => {
    const status = statusOf(HEALTHY);
    expect(status).toMatchObject({
      cluster_id: "one",
      map_version: 12,
      meta: { leader: 1, has_quorum: true, nodes: [1, 2, 3] },
      vshards: {
        count: 256,
        without_leader: [],
        without_quorum: [],
        size_bytes: 256 * 50,
        objects: 256 * 5,
      },
      lag: { group: 9, node: 3, entries: 40 },
      moves: [],
    });
    expect(status.nodes[0]).toEqual({
      id: 1,
      address: "n1:1",
      zone: "",
      host: "",
      state: "up",
      answering: true,
      report_age_ms: 100,
      replicas: 257,
      leaders: 257,
      lag_entries_max: 0,
      used_bytes: 300,
      capacity_bytes: 2_000,
      sync_micros: 700,
      writable: true,
      map_version: 12,
      software_version: "1",
      feature_version: 1,
      figures: null,
      drain: null,
    });
    expect(status.nodes[2]).toMatchObject({ leaders: 0, lag_entries_max: 40 });
    expect(JSON.parse(JSON.stringify(status))).toEqual(status);
  });

  it("finds vshards whose leader has fallen silent, and those without a quorum", () => {
    const silent = { ageMs: NODE_SILENT_MS + 1 };
    const one = statusOf({ ...HEALTHY, 1: { ...HEALTHY[1]!, ...silent } });
    expect(one.vshards.without_leader?.length).toBe(256);
    expect(one.vshards.without_quorum).toEqual([]);
    expect(one.nodes[0]!.answering).toBe(false);
    const two = statusOf({
      ...HEALTHY,
      1: { ...HEALTHY[1]!, ...silent },
      2: { ...HEALTHY[2]!, ...silent },
    });
    expect(two.vshards.without_quorum.length).toBe(256);
    expect(two.meta.has_quorum).toBe(false);
  });

  it("counts a replica that its node does not have as missing", () => {
    const { vshards } = statusOf({
      1: { group: () => led(1, {}) },
      2: { group: (group) => (group === 7 ? undefined : followed(2, 1)) },
      3: { group: (group) => (group === 7 ? undefined : followed(3, 1)) },
    });
    expect(vshards.without_quorum).toEqual([7]);
  });

  it("believes the highest term when two say that they lead", () => {
    const { nodes, groups } = statusOf(
      { ...HEALTHY, 2: { group: () => led(2, {}, { term: 5n }) } },
      { withGroups: true },
    );
    expect(nodes.map(({ leaders }) => leaders)).toEqual([0, 257, 0]);
    expect(groups?.[0]).toMatchObject({ leader: 2, term: 5 });
  });

  it("asks for both majorities in the middle of a change of members", () => {
    const outgoing = [4, 5, 6].map((id) => replica(id));
    const { vshards } = statusOf({
      ...HEALTHY,
      1: { group: (group) => led(1, { 2: 100, 3: 100 }, group === 3 ? { outgoing } : {}) },
    });
    expect(vshards.without_quorum).toEqual([3]);
  });

  it("knows nothing of nodes that have not reported", () => {
    const { nodes, vshards } = statusOf({});
    expect(nodes[1]).toMatchObject({
      answering: false,
      report_age_ms: null,
      leaders: null,
      lag_entries_max: null,
      used_bytes: null,
      capacity_bytes: 1_000,
      software_version: null,
      feature_version: null,
    });
    expect(vshards).toMatchObject({ size_bytes: null, objects: null });
  });

  it("gives nodes that have not reported yet the benefit of the doubt while it reaches them", () => {
    const { 2: second } = HEALTHY;
    const some = statusOf({ 2: second! }, { reachable: [1, 2] });
    expect(some.vshards).toMatchObject({ without_leader: [], without_quorum: [] });
    expect(some.nodes.map(({ answering }) => answering)).toEqual([true, true, false]);
    const none = statusOf({ 2: second! }, { reachable: [2] });
    expect(none.vshards.without_leader?.length).toBe(256);
    expect(none.vshards.without_quorum.length).toBe(256);
  });

  it("shows moves under way, and what is left on a node that drains", () => {
    const map = baseMap();
    const roles = (...list: readonly (readonly [number, ReplicaRole, number?])[]): GroupReplica[] =>
      list.map(([node, role, sequence = 0]) => ({
        replica: replicaIdOf(toNodeId(node), sequence),
        role,
      }));
    const placements = map.placements.map((placement) => {
      if (placement.group === 5) {
        const replicas = roles([1, "voter"], [2, "voter"], [3, "leaving"], [4, "learner", 1]);
        return { ...placement, replicas };
      }
      if (placement.group >= 10)
        return { ...placement, replicas: roles([1, "voter"], [2, "voter"]) };
      return placement;
    });
    const draining = map.nodes.map((node) =>
      node.id === 3 ? { ...node, state: NodeState.Draining } : node,
    );
    const catching = { replicaId: replica(4, 1), matchIndex: 20n, needsSnapshot: true };
    const status = statusOf(
      {
        ...HEALTHY,
        1: { group: (group) => led(1, {}, group === 5 ? { members: [catching] } : {}) },
      },
      { map: { ...map, placements, nodes: draining } },
    );
    expect(status.moves).toEqual([
      { group: 5, to: [{ node: 4, lag_entries: 80, needs_snapshot: true }], from: [3] },
    ]);
    expect(status.nodes[2]!.drain).toEqual({
      replicas_left: 11,
      leaders_left: 0,
      blocked: null,
    });
  });

  it("says why a node that drains or is removed cannot go on", () => {
    const map = baseMap();
    const nodes = map.nodes.map((node) =>
      node.id === 3 ? { ...node, state: NodeState.Removing } : node,
    );
    const response = create(GetClusterStatusResponseSchema, {
      map: toMapMessage({ ...map, nodes }),
      blocked: [{ nodeId: 3, reason: "no room" }],
    });
    const status = statusFromLeader({ response, isReachable: () => false, withGroups: false });
    expect(status.nodes.map(({ state, drain }) => [state, drain?.blocked])).toEqual([
      ["up", undefined],
      ["up", undefined],
      ["removing", "no room"],
    ]);
  });

  it("shows every group with its replicas", () => {
    const { groups } = statusOf(HEALTHY, { withGroups: true });
    expect(groups?.length).toBe(257);
    expect(groups?.[9]).toEqual({
      group: 9,
      leader: 1,
      preferred_leader: 1,
      has_quorum: true,
      term: 4,
      commit_index: 100,
      size_bytes: 50,
      objects: 5,
      replicas: [
        {
          node: 1,
          role: "voter",
          up: true,
          applied_index: 100,
          lag_entries: 0,
          needs_snapshot: false,
        },
        {
          node: 2,
          role: "voter",
          up: true,
          applied_index: 90,
          lag_entries: 0,
          needs_snapshot: false,
        },
        {
          node: 3,
          role: "voter",
          up: true,
          applied_index: 90,
          lag_entries: 40,
          needs_snapshot: false,
        },
      ],
    });
    expect(groups?.at(-1)).toMatchObject({ group: "meta", leader: 1 });
  });

  it("refuses a response without a whole map", () => {
    const response = create(GetClusterStatusResponseSchema, {});
    const known = { response, isReachable: () => true, withGroups: false };
    expect(() => statusFromLeader(known)).toThrow("unusable cluster map");
  });
});
