import { describe, expect, it } from "vitest";
import {
  type ClusterMap,
  type GroupReplica,
  NodeState,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { type NodeId, replicaIdOf } from "#shared/ids.ts";
import { type NodeObservation, plan } from "./planner.ts";
import {
  LOST,
  makeInput,
  makeMap,
  makeNodes,
  observe,
  rolesOf,
  WELL,
  withRows,
} from "./testing/fixtures.ts";

const node = (id: number) => id as NodeId;

describe("plan(), step by step", () => {
  const nodes = makeNodes(5);
  /** One vshard on nodes 1, 2 and 3; its meta group is not reported, and so left alone. */
  const base = { ...makeMap(nodes.slice(0, 3), { vshards: 1 }), nodes };
  const D = replicaIdOf(node(4), 1);

  function mapOf(roles: string): ClusterMap {
    const replicas = roles.split(", ").map((text): GroupReplica => {
      const [id, role] = text.split(" ") as [string, ReplicaRole];
      return { replica: id === "4" ? D : replicaIdOf(node(Number(id)), 0), role };
    });
    return { ...base, placements: [{ ...base.placements[0]!, replicas, lastSequence: 1 }] };
  }

  /** What becomes of the vshard. `members` are voters, and learners in brackets, as reported. */
  function nextOf(
    map: ClusterMap,
    members: string,
    more: { states?: Record<number, NodeObservation>; late?: number[]; settled?: boolean } = {},
  ): string | undefined {
    const ids = (pattern: RegExp) =>
      (members.match(pattern) ?? []).map((id) =>
        id === "4" ? D : replicaIdOf(node(Number(id)), 0),
      );
    const learners = ids(/(?<=\()\d/g);
    const voters = ids(/(?<!\()\d/g);
    const configuration = {
      voters,
      learners,
      outgoing: [],
      learnersNext: [],
      highestId: [...voters, ...learners].reduce((a, b) => (a > b ? a : b)),
    };
    const report = {
      ...observe(configuration, { silent: more.late ?? [] }),
      settled: more.settled ?? true,
    };
    const input = makeInput(map, { nodes: more.states ?? {} });
    const groups = new Map([[map.placements[0]!.group, report]]);
    const row = plan({ ...input, groups }).placements.find(({ group }) => group === 0);
    return row === undefined ? undefined : rolesOf(row);
  }

  const draining = (map: ClusterMap, id: number): ClusterMap => ({
    ...map,
    nodes: map.nodes.map((row) => (row.id === id ? { ...row, state: NodeState.Draining } : row)),
  });

  it("waits for the learner to be added and to catch up", () => {
    const map = draining(mapOf("1 voter, 2 voter, 3 voter, 4 learner"), 3);
    expect(nextOf(map, "1 2 3")).toBeUndefined();
    expect(nextOf(map, "1 2 3 (4)", { late: [4] })).toBeUndefined();
    expect(nextOf(map, "1 2 3 (4)", { settled: false })).toBeUndefined();
    expect(nextOf(map, "1 2 3 (4)")).toBe("1 voter, 2 voter, 3 leaving, 4 voter");
  });

  it("does not let a voter leave when too few of the others could vote at once", () => {
    const map = draining(mapOf("1 voter, 2 voter, 3 voter, 4 learner"), 3);
    expect(nextOf(map, "1 2 3 (4)", { late: [2] })).toBe("1 voter, 2 voter, 3 leaving, 4 voter");
    const small = { ...draining(mapOf("1 voter, 2 voter, 3 voter"), 3), nodes: nodes.slice(0, 3) };
    const smaller = { ...small, nodes: draining(small, 3).nodes };
    expect(nextOf(smaller, "1 2 3", { late: [2] })).toBeUndefined();
    expect(nextOf(smaller, "1 2 3")).toBe("1 voter, 2 voter, 3 leaving");
  });

  it("gives up a learner whose node is lost, drains or is full: at once when it was never seen", () => {
    const map = draining(mapOf("1 voter, 2 voter, 3 voter, 4 learner"), 3);
    const given = "1 voter, 2 voter, 3 voter, 4 leaving";
    expect(nextOf(map, "1 2 3 (4)", { states: { 4: LOST }, late: [4] })).toBe(given);
    expect(nextOf(map, "1 2 3 (4)", { states: { 4: { ...WELL, writable: false } } })).toBe(given);
    expect(nextOf(draining(map, 4), "1 2 3 (4)")).toBe(given);
    expect(nextOf(draining(map, 4), "1 2 3")).toMatch(/^1 voter, 2 voter, 3 voter/);
    expect(nextOf(draining(map, 4), "1 2 3")).not.toMatch(/4/);
  });

  it("finishes a move that makes nothing worse, and gives up one that does", () => {
    const idle = mapOf("1 voter, 2 voter, 3 voter, 4 learner");
    expect(nextOf(idle, "1 2 3 (4)", { late: [4] })).toBeUndefined();
    expect(nextOf(idle, "1 2 3 (4)")).toMatch(/4 voter/);

    const even = makeMap(makeNodes(4), { vshards: 8 });
    const first = withRows(even, plan(makeInput(even, { nodes: { 2: LOST } })));
    const rebuilt = [...first.placements, first.meta].filter((row) => /learner/.test(rolesOf(row)));
    expect(rebuilt.length).toBeGreaterThan(2);
    // The node is back before anything was copied: the replicas that it still has are the better ones.
    const back = plan(makeInput(first));
    expect(back.nodes.map(({ id, state }) => [id, state])).toEqual([[2, NodeState.Up]]);
    const given = back.placements.filter((row) => / leaving/.test(rolesOf(row)));
    expect(given).toHaveLength(rebuilt.length);
    expect(given.every((row) => !/2 leaving/.test(rolesOf(row)))).toBe(true);
  });

  it("takes back a leaving voter when its successor is lost before it votes", () => {
    const map = mapOf("1 voter, 2 voter, 3 leaving, 4 voter");
    expect(nextOf(map, "1 2 3 (4)")).toBeUndefined();
    expect(nextOf(map, "1 2 3 (4)", { states: { 4: LOST }, late: [4] })).toBe(
      "1 voter, 2 voter, 3 voter, 4 leaving",
    );
    // Its leader had the older map, and took it out meanwhile.
    const back = mapOf("1 voter, 2 voter, 3 voter, 4 leaving");
    expect(nextOf(back, "1 2 4")).toBe("1 voter, 2 voter, 4 voter");
  });

  it("keeps a leaving replica until a quorum knows that it is out", () => {
    const map = mapOf("1 voter, 2 voter, 3 leaving, 4 voter");
    expect(nextOf(map, "1 2 4", { settled: false })).toBeUndefined();
    expect(nextOf(map, "1 2 4")).toBe("1 voter, 2 voter, 4 voter");
  });

  it("does not act by a report that is older than the row", () => {
    const map = mapOf("1 voter, 2 voter, 3 leaving, 4 voter");
    expect(nextOf(map, "1 2", { states: { 4: LOST } })).toBeUndefined();
  });
});
