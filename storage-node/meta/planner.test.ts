import { describe, expect, it } from "vitest";
import { type ClusterMap, NodeState } from "#shared/cluster-map.ts";
import { META_GROUP, type NodeId, nodeOfReplica, replicaIdOf } from "#shared/ids.ts";
import {
  drainProgress,
  initialPlacements,
  type PlannerInput,
  plan,
  rebalanceLeaders,
  removalRefusal,
} from "./planner.ts";
import {
  configurationOf,
  difference,
  LOST,
  leaderCounts,
  MiB,
  makeInput,
  makeMap,
  makeNode,
  makeNodes,
  nodesOf,
  OPTIONS,
  observe,
  replicaCounts,
  rolesOf,
  SILENT,
  WELL,
  withRows,
} from "./testing/fixtures.ts";
import { sizeOf } from "./testing/plan-checks.ts";

/** Plans and carries out at once, until nothing is left to do; counts the learners that were added. */
function settle(
  map: ClusterMap,
  overrides: Parameters<typeof makeInput>[1] = {},
): { readonly map: ClusterMap; readonly added: number } {
  let current = map;
  let added = 0;
  const configurations = new Map(
    [...map.placements, map.meta].map((placement) => [placement.group, configurationOf(placement)]),
  );
  for (let round = 0; round < 2000; round++) {
    const input = makeInput(current, overrides);
    const silent = Object.entries(overrides.nodes ?? {})
      .filter(([, { answering }]) => !answering)
      .map(([id]) => Number(id));
    const groups = new Map(
      [...configurations].map(([group, configuration]) => [
        group,
        observe(configuration, { silent, sizeBytes: overrides.sizeBytes?.(group) ?? 100 * MiB }),
      ]),
    );
    const next = plan({ ...input, groups });
    if (sizeOf(next) === 0) return { map: current, added };
    current = withRows(current, next);
    for (const placement of next.placements) {
      const highestId = configurations.get(placement.group)!.highestId;
      const after = configurationOf(placement);
      added += after.learners.length;
      configurations.set(placement.group, {
        ...after,
        highestId: after.highestId > highestId ? after.highestId : highestId,
      });
    }
  }
  throw new Error("the planner does not come to rest");
}

const node = (id: number) => id as NodeId;
const NOTHING = { placements: [], nodes: [], removedNodes: [], reasons: [] };

describe("initialPlacements()", () => {
  it.each([1, 2, 3, 4, 5, 10])("is even and finds nothing to improve on %i nodes", (count) => {
    const map = makeMap(makeNodes(count));
    expect(map.placements).toHaveLength(256);
    for (const placement of map.placements) {
      expect(new Set(nodesOf(placement)).size).toBe(Math.min(3, count));
      expect(
        placement.replicas.every(
          ({ replica }) => replica === replicaIdOf(nodeOfReplica(replica), 0),
        ),
      ).toBe(true);
    }
    expect(difference(replicaCounts(map))).toBeLessThanOrEqual(1);
    expect(difference(leaderCounts(map))).toBeLessThanOrEqual(1);
    expect(plan(makeInput(map))).toEqual(NOTHING);
  });

  it("puts the replicas of a group into different zones, and on different hosts", () => {
    const zones = ["a", "a", "a", "b", "b", "c"];
    const nodes = zones.map((zone, i) => makeNode(i + 1, { zone, host: `h${i % 2}` }));
    for (const placement of initialPlacements(nodes, OPTIONS).placements) {
      expect(new Set(nodesOf(placement).map((id) => zones[id - 1])).size).toBe(3);
    }
  });

  it("lets every pair of nodes share about as many groups as any other", () => {
    const shared = new Map<string, number>();
    for (const placement of makeMap(makeNodes(6)).placements) {
      const [a, b, c] = nodesOf(placement);
      for (const pair of [`${a} ${b}`, `${a} ${c}`, `${b} ${c}`]) {
        shared.set(pair, (shared.get(pair) ?? 0) + 1);
      }
    }
    expect(shared.size).toBe(15);
    expect(Math.max(...shared.values()) - Math.min(...shared.values())).toBeLessThanOrEqual(3);
  });

  it("gives the meta group an odd number of members, but for two", () => {
    const sizes = [1, 2, 3, 4, 5, 6].map(
      (count) =>
        initialPlacements(makeNodes(count), { replicationFactor: 3, metaReplicas: 5 }).meta.replicas
          .length,
    );
    expect(sizes).toEqual([1, 2, 3, 3, 5, 5]);
  });
});

describe("plan()", () => {
  it("moves a replica in three steps, each after the last was carried out", () => {
    const nodes = makeNodes(4);
    const map = makeMap(nodes.slice(0, 3), { vshards: 4 });
    const grown = { ...map, nodes };
    const first = plan(makeInput(grown));
    expect(first.placements).toHaveLength(3);
    const added = first.placements[0]!;
    expect(rolesOf(added)).toMatch(/^1 voter, 2 voter, 3 voter, 4 learner$/);
    expect(added.lastSequence).toBe(1);
    expect(added.replicas.at(-1)!.replica).toBe(replicaIdOf(node(4), 1));

    // Not carried out yet: nothing more happens.
    const second = withRows(grown, first);
    expect(plan({ ...makeInput(grown), map: second }).placements).toEqual([]);

    const promotion = plan(makeInput(second));
    const promoted = promotion.placements.find(({ group }) => group === added.group)!;
    expect(rolesOf(promoted)).toMatch(/4 voter$/);
    expect(rolesOf(promoted).match(/leaving/g)).toHaveLength(1);

    const third = withRows(second, promotion);
    expect(plan({ ...makeInput(second), map: third }).placements).toEqual([]);
    const configuration = { ...configurationOf(promoted), highestId: replicaIdOf(node(4), 1) };
    const groups = new Map([[promoted.group, observe(configuration)]]);
    const dropped = plan({ ...makeInput(third), groups }).placements.find(
      ({ group }) => group === added.group,
    )!;
    expect(dropped.replicas).toHaveLength(3);
    expect(rolesOf(dropped)).not.toMatch(/leaving|learner/);
  });

  it("gives a fourth node its share with as many moves as it gets replicas", () => {
    const nodes = makeNodes(4);
    const { map, added } = settle({ ...makeMap(nodes.slice(0, 3)), nodes });
    expect([...replicaCounts(map).values()]).toEqual([192, 192, 192, 192]);
    expect(added).toBe(192);
    expect(difference(leaderCounts(map))).toBeLessThanOrEqual(3);
  });

  it("grows groups from one voter to three in one change", () => {
    const nodes = makeNodes(3);
    const map = { ...makeMap(nodes.slice(0, 1), { vshards: 2 }), nodes };
    const first = plan(makeInput(map));
    expect(first.placements.map(rolesOf)).toEqual(Array(3).fill("1 voter, 2 learner, 3 learner"));
    const second = withRows(map, first);
    expect(plan(makeInput(second)).placements.map(rolesOf)).toEqual(
      Array(3).fill("1 voter, 2 voter, 3 voter"),
    );
  });

  it("rebuilds the replicas of a lost node, and gives it others when it returns", () => {
    const map = makeMap(makeNodes(4));
    const lost = settle(map, { nodes: { 2: LOST } });
    expect(lost.map.nodes[1]!.state).toBe(NodeState.Down);
    expect([...replicaCounts(lost.map).values()]).toEqual([256, 0, 256, 256]);
    const back = settle(lost.map);
    expect(back.map.nodes[1]!.state).toBe(NodeState.Up);
    expect([...replicaCounts(back.map).values()]).toEqual([192, 192, 192, 192]);
  });

  it("keeps the replicas of a lost node as long as there is no other for them", () => {
    const map = makeMap(makeNodes(3));
    const lost = settle(map, { nodes: { 2: LOST } });
    expect([...replicaCounts(lost.map).values()]).toEqual([256, 256, 256]);
    expect(leaderCounts(lost.map).get(2)).toBe(0);
  });

  it("empties a node that drains: leaders at once, then replicas", () => {
    const map = makeMap(makeNodes(4));
    const drained = {
      ...map,
      nodes: map.nodes.with(0, makeNode(1, { state: NodeState.Draining })),
    };
    const first = withRows(drained, plan(makeInput(drained)));
    expect(drainProgress(first, node(1)).leaders).toBe(0);
    const { map: end } = settle(drained);
    expect(drainProgress(end, node(1))).toEqual({ leaders: 0, replicas: 0 });
    expect(end.meta.replicas).toHaveLength(3);
  });

  it("makes groups smaller when a drain leaves fewer nodes than voters are wanted", () => {
    const map = makeMap(makeNodes(3));
    const nodes = map.nodes.with(2, makeNode(3, { state: NodeState.Draining }));
    const { map: end, added } = settle({ ...map, nodes });
    expect([...replicaCounts(end).values()]).toEqual([256, 256, 0]);
    expect(added).toBe(0);
  });

  it("leaves everything where it is when all nodes drain", () => {
    const map = makeMap(makeNodes(3));
    const nodes = map.nodes.map((row) => ({ ...row, state: NodeState.Draining }));
    expect(plan(makeInput({ ...map, nodes })).placements).toEqual([]);
  });

  it("takes out the replicas of a removed node", () => {
    const map = makeMap(makeNodes(4));
    const { map: end } = settle({ ...map, nodes: map.nodes.slice(0, 3) }, { nodes: { 4: SILENT } });
    expect(replicaCounts(end).get(4)).toBeUndefined();
    expect([...replicaCounts(end).values()]).toEqual([256, 256, 256]);
  });

  it("keeps to the bound of moves", () => {
    const nodes = makeNodes(5);
    const map = { ...makeMap(nodes.slice(0, 3)), nodes };
    const first = plan(makeInput(map));
    expect(first.placements.filter(({ replicas }) => replicas.length === 4)).toHaveLength(4);
    expect(plan(makeInput(map, { options: { movesAtOnceMax: 0 } })).placements).toEqual([]);
  });

  it("evens bytes out within the largest vshard", () => {
    const map = makeMap(makeNodes(3), { options: { ...OPTIONS, replicationFactor: 1 } });
    const sizeBytes = (group: number) =>
      (map.placements[group]?.preferredLeader === 1 ? 300 : 100) * MiB;
    const { map: end } = settle(map, { options: { replicationFactor: 1 }, sizeBytes });
    const bytes = new Map([1, 2, 3].map((id) => [id, 0]));
    for (const { group, replicas } of end.placements) {
      const id = nodeOfReplica(replicas[0]!.replica);
      bytes.set(id, bytes.get(id)! + sizeBytes(group));
    }
    expect(difference(bytes)).toBeLessThanOrEqual(300 * MiB);
    expect(difference(replicaCounts(end))).toBeLessThanOrEqual(1);
  });

  // Its size once counted as that of the largest vshard, beside which every difference looked small.
  it("evens bytes out also when the meta group is large", () => {
    const map = makeMap(makeNodes(2), { options: { ...OPTIONS, replicationFactor: 1 } });
    const sizeBytes = (group: number) => {
      if (group === META_GROUP) return 2 ** 40;
      return (map.placements[group]?.preferredLeader === 1 ? 300 : 100) * MiB;
    };
    const input = makeInput(map, { options: { replicationFactor: 1 }, sizeBytes });
    expect(plan(input).placements).not.toEqual([]);
  });

  it("moves leaders away from nodes that are slow or cannot write", () => {
    const map = makeMap(makeNodes(3));
    const { map: end, added } = settle(map, {
      nodes: { 1: { ...WELL, slow: true }, 2: { ...WELL, writable: false } },
    });
    expect([...leaderCounts(end)]).toEqual([
      [1, 0],
      [2, 0],
      [3, 256],
    ]);
    expect(added).toBe(0);
  });

  it("leaves everything as it is when nothing is known", () => {
    const map = makeMap(makeNodes(4));
    const nothing = { ...makeInput(map), nodes: new Map(), groups: new Map() };
    expect(plan(nothing)).toEqual(NOTHING);
  });
});

describe("removalRefusal()", () => {
  const map = makeMap(makeNodes(4));
  const draining = { ...map, nodes: map.nodes.with(0, makeNode(1, { state: NodeState.Draining })) };
  const why = (input: PlannerInput, id: number) =>
    removalRefusal(input.map, input, node(id))?.detail;

  it("refuses a node that answers and was not drained to its end", () => {
    expect(why(makeInput(map), 1)).toMatch(/drain it first/);
    expect(why(makeInput(draining), 1)).toMatch(/wait for its drain/);
    const { map: end } = settle(draining);
    expect(why(makeInput(end), 1)).toBeUndefined();
  });

  it("refuses a silent node without which a group has no quorum, and names who has to come back", () => {
    expect(why(makeInput(map, { nodes: { 1: LOST } }), 1)).toBeUndefined();
    const two = makeInput(map, { nodes: { 1: LOST, 2: LOST } });
    expect(why(two, 1)).toMatch(/without a quorum when node 1 is gone: start node 2 again first/);
    // The same when nobody leads those groups.
    expect(why({ ...two, groups: new Map() }, 1)).toMatch(/start node 2 again first/);
    const pair = makeMap(makeNodes(2));
    expect(why(makeInput(pair, { nodes: { 1: LOST } }), 1)).toMatch(/start node 1 again first/);
  });

  it("is patient with groups that only elect a leader, and with nodes nothing is known of yet", () => {
    const lost = makeInput(map, { nodes: { 1: LOST } });
    expect(removalRefusal(map, { ...lost, groups: new Map() }, node(1))).toEqual({
      detail: expect.stringMatching(/without a leader at the moment/),
      isTemporary: true,
    });
    const unknown = { ...makeInput(map), nodes: new Map() };
    expect(removalRefusal(map, unknown, node(1))?.isTemporary).toBe(true);
  });

  it("refuses nodes that are not there, the last one, and when all others go too", () => {
    expect(why(makeInput(map), 9)).toMatch(/not in the cluster/);
    expect(why(makeInput(makeMap(makeNodes(1))), 1)).toMatch(/last one/);
    const leaving = map.nodes.map((row) =>
      row.id === 1 ? row : { ...row, state: NodeState.Draining },
    );
    const input = makeInput({ ...map, nodes: leaving }, { nodes: { 1: LOST } });
    expect(why(input, 1)).toMatch(/add a node first/);
  });
});

describe("rebalanceLeaders()", () => {
  it("evens leaders out within one, and changes nothing that is even", () => {
    const map = makeMap(makeNodes(3));
    const uneven = {
      ...map,
      placements: map.placements.map((row) => ({ ...row, preferredLeader: node(1) })),
    };
    const rows = rebalanceLeaders(makeInput(uneven));
    expect(difference(leaderCounts(withRows(uneven, { placements: rows })))).toBeLessThanOrEqual(1);
    expect(rows).toHaveLength(256 - 86);
    expect(rebalanceLeaders(makeInput(map))).toEqual([]);
  });

  it("gives no leaders to nodes that would lose them at once", () => {
    const map = makeMap(makeNodes(3));
    const input = makeInput(map, { nodes: { 1: { ...WELL, slow: true }, 2: SILENT } });
    const counts = leaderCounts(withRows(map, { placements: rebalanceLeaders(input) }));
    expect([...counts.values()]).toEqual([0, 0, 256]);
  });
});
