import { describe, expect, it } from "vitest";
import {
  type ClusterMap,
  type GroupReplica,
  NodeState,
  type Placement,
  placementOf,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { type GroupId, META_GROUP, type NodeId, nodeOfReplica, replicaIdOf } from "#shared/ids.ts";
import { type GroupObservation, type NodeObservation, type PlannerInput, plan } from "./planner.ts";
import {
  difference,
  LOST,
  leaderCounts,
  MiB,
  makeInput,
  makeMap,
  makeNodes,
  nodesOf,
  OPTIONS,
  observe,
  rolesOf,
  SILENT,
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
    const map = mapOf("1 voter, 2 voter, 3 voter, 4 learner");
    expect(nextOf(map, "1 2 3 (4)", { late: [4] })).toBeUndefined();
    expect(nextOf(map, "1 2 3 (4)")).toMatch(/4 voter$/);
    // Node 4 has got others meanwhile, and those that it could relieve have nothing else.
    const others = [1, 2, 3].map((group): Placement => {
      const replicas = [4, 5].map(
        (id): GroupReplica => ({ replica: replicaIdOf(node(id), 0), role: "voter" }),
      );
      return { ...map.placements[0]!, group: group as GroupId, replicas, preferredLeader: node(5) };
    });
    const crowded = { ...map, placements: [...map.placements, ...others] };
    expect(nextOf(crowded, "1 2 3 (4)")).toBe("1 voter, 2 voter, 3 voter, 4 leaving");
    expect(nextOf(draining(crowded, 3), "1 2 3 (4)")).toBe("1 voter, 2 voter, 3 leaving, 4 voter");
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

  it("takes back a leaving voter when others fail, so that the leader cannot let it go", () => {
    const map = mapOf("1 voter, 2 voter, 3 leaving");
    const silent = { states: { 2: SILENT }, late: [2] };
    expect(nextOf(map, "1 2 3", silent)).toBe("1 voter, 2 voter, 3 voter");
    expect(nextOf(map, "1 2 3")).toBeUndefined();
    // Its successor is only late, and node 2 as well: they are waited for.
    const replaced = mapOf("1 voter, 2 voter, 3 leaving, 4 voter");
    const late = { states: { 2: SILENT }, late: [2, 4] };
    expect(nextOf(replaced, "1 2 3 (4)", late)).toBeUndefined();
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

  it("lets lost voters go before those that drain, when a group has too many", () => {
    const map = draining(mapOf("1 voter, 2 voter, 3 voter"), 3);
    const three = { ...map, nodes: map.nodes.slice(0, 3) };
    const lost = { states: { 2: LOST }, late: [2] };
    // Two of three nodes count: the one that is down does, the one that drains does not.
    expect(nextOf(three, "1 2 3", lost)).toBe("1 voter, 2 leaving, 3 voter");
  });
});

describe("plan(), what begins", () => {
  const begun = (map: ClusterMap, input: PlannerInput) =>
    plan(input).placements.filter(
      (row) => row.lastSequence > placementOf(map, row.group).lastSequence,
    );
  const targets = (rows: readonly Placement[]) =>
    new Set(rows.map(({ replicas }) => nodeOfReplica(replicas.at(-1)!.replica)));

  const three = makeMap(makeNodes(3), { vshards: 12 });
  const joined = (count: number) => ({ ...three, nodes: makeNodes(3 + count) });

  it("gives nothing to a slow node that need not be, and what is lost if it must be", () => {
    const map = joined(1);
    const slow = { 4: { ...WELL, slow: true } };
    expect(begun(map, makeInput(map, { nodes: slow }))).toEqual([]);
    const lost = begun(map, makeInput(map, { nodes: { ...slow, 3: LOST } }));
    expect(targets(lost)).toEqual(new Set([4]));
  });

  it("gives nothing to a node that has no room", () => {
    const map = joined(1);
    const room = (usedBytes: number) =>
      begun(
        map,
        makeInput(map, { nodes: { 4: { ...WELL, capacityBytes: 1000 * MiB, usedBytes } } }),
      );
    expect(room(0)).toHaveLength(4);
    expect(room(500 * MiB)).toHaveLength(3);
    expect(room(800 * MiB)).toEqual([]);
  });

  it("rebuilds first, then grows, then drains, and then evens out", () => {
    const four = makeMap(makeNodes(4), { vshards: 12 });
    // One group on two nodes, so that it can grow.
    const [first, ...others] = four.placements;
    const small = {
      ...first!,
      replicas: first!.replicas.slice(0, 2),
      preferredLeader: nodesOf(first!)[0] as NodeId,
    };
    const nodes = makeNodes(5).map((row) =>
      row.id === 1 ? { ...row, state: NodeState.Draining } : row,
    );
    const map = { ...four, nodes, placements: [...others, small] };
    const firstBegun = (
      without: readonly string[],
      states: Record<number, NodeObservation> = {},
    ) => {
      const input = makeInput(map, { nodes: states, options: { movesAtOnceMax: 1 } });
      const groups = new Map([...input.groups].filter(([group]) => !without.includes(`${group}`)));
      return begun(map, { ...input, groups });
    };
    const has = ([row]: readonly Placement[], id: number) =>
      row!.replicas.some(({ replica }) => nodeOfReplica(replica) === id);

    const lost = firstBegun([`${META_GROUP}`], { 2: LOST });
    expect([lost.length, has(lost, 2)]).toEqual([1, true]);
    expect(firstBegun([`${META_GROUP}`])).toMatchObject([{ group: small.group }]);
    expect(firstBegun([`${small.group}`])).toMatchObject([{ group: META_GROUP }]);
    const drains = firstBegun([`${META_GROUP}`, `${small.group}`]);
    expect([drains.length, has(drains, 1)]).toEqual([1, true]);
    const onOne = map.placements.filter((row) => nodesOf(row).includes(1));
    const without = [META_GROUP, ...onOne.map(({ group }) => group), small.group];
    const evening = firstBegun(without.map(String));
    expect([evening.length, has(evening, 1), has(evening, 5)]).toEqual([1, false, true]);
  });

  it("is not held up by groups without a leader or by learners that are silent", () => {
    const map = joined(2);
    const first = withRows(map, plan(makeInput(map)));
    expect(begun(first, makeInput(first, { options: { movesAtOnceMax: 4 } }))).toEqual([]);
    const busy = first.placements.filter((row) => /learner/.test(rolesOf(row)));
    expect(busy).toHaveLength(4);

    const late = makeInput(first);
    const unready = new Map(
      [...late.groups].map(([group, report]) => [group, withLateLearners(report)]),
    );
    const waiting = { ...late, groups: unready };
    expect(begun(first, waiting)).toEqual([]);
    const leaderless = new Map(unready);
    for (const { group } of busy) leaderless.delete(group);
    expect(begun(first, { ...waiting, groups: leaderless })).toHaveLength(4);
    const silent = new Map(waiting.nodes).set(node(4), SILENT);
    const onFour = busy.filter(({ replicas }) => nodeOfReplica(replicas.at(-1)!.replica) === 4);
    expect(begun(first, { ...waiting, nodes: silent })).toHaveLength(onFour.length);
    // Of a node that has not reported yet nothing is concluded.
    silent.delete(node(4));
    expect(begun(first, { ...waiting, nodes: silent })).toEqual([]);
  });

  it("does not compare bytes while the size of a vshard is not known", () => {
    const sizeBytes = (group: number) => (group % 3 === 0 ? 900 : 1) * MiB;
    const options = { ...OPTIONS, replicationFactor: 1 };
    const map = makeMap(makeNodes(3), { vshards: 30, options });
    const input = makeInput(map, { options, sizeBytes });
    expect(begun(map, input)).not.toEqual([]);
    const groups = new Map(input.groups);
    groups.delete(map.placements[0]!.group);
    expect(begun(map, { ...input, groups })).toEqual([]);
  });
});

describe("plan(), preferred leaders", () => {
  const map = makeMap(makeNodes(3));
  const led = (count: number): ClusterMap => ({
    ...map,
    placements: map.placements.map((row, i) =>
      i < count ? { ...row, preferredLeader: node(1) } : row,
    ),
  });

  it("stay where an operator put them, until nodes differ by more than three", () => {
    const even = difference(leaderCounts(map));
    expect(even).toBe(1);
    const transferred = map.placements.findIndex(({ preferredLeader }) => preferredLeader !== 1);
    const one = led(transferred + 1);
    expect(leaderCounts(one)).not.toEqual(leaderCounts(map));
    expect(plan(makeInput(one)).placements).toEqual([]);
    const many = led(60);
    const rows = plan(makeInput(many));
    const moved = 256 - many.placements.filter((row, i) => row === map.placements[i]).length;
    expect(rows.placements.length).toBeLessThanOrEqual(moved);
    expect(difference(leaderCounts(withRows(many, rows)))).toBeLessThanOrEqual(1);
  });

  it("are left on a node of which nothing is known yet", () => {
    const input = makeInput(map);
    const nodes = new Map(input.nodes);
    nodes.delete(node(1));
    nodes.delete(node(2));
    expect(plan({ ...input, nodes }).placements).toEqual([]);
    expect(plan({ ...input, nodes: nodes.set(node(1), SILENT) }).placements).not.toEqual([]);
  });
});

const withLateLearners = (report: GroupObservation): GroupObservation => ({
  ...report,
  members: new Map(
    [...report.members].map(([id, member]) => [
      id,
      { ...member, caughtUp: !report.configuration.learners.includes(id) },
    ]),
  ),
});
