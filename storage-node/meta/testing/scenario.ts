/**
 * A run of the model: disturbances for a while, then peace, and what has to be true at the end.
 */
import { type ClusterNode, isDeparting, NodeState } from "#shared/cluster-map.ts";
import { nodeOfReplica } from "#shared/ids.ts";
import { BALANCE_BYTES_MIN, LEADERS_UNEVEN_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { targetOf } from "#storage-node/meta/placement/group-state.ts";
import { type NodeViews, viewNodes } from "#storage-node/meta/placement/nodes.ts";
import { bestSpreadCost, exchangeCost, spreadCost } from "#storage-node/meta/placement/spread.ts";
import { difference, leaderCounts, MiB, makeNode, nodesOf, replicaCounts } from "./fixtures.ts";
import { Model } from "./model.ts";
import { check, sizeOf } from "./plan-checks.ts";

export type Scenario = {
  readonly seed: number;
  readonly nodes: number;
  readonly zones: number;
  readonly replicationFactor: number;
  readonly movesAtOnceMax: number;
  readonly vshards: number;
  /** Any number of nodes may be dead at once; otherwise one. */
  readonly wild: boolean;
};

export type Outcome = {
  readonly restTicks: number;
  readonly learnersAdded: number;
};

const CHAOS_TICKS = 200;
const NODES_MAX = 9;
/** Ticks without any change that count as rest: all reports are newer by then. */
const QUIET_TICKS = 12;
const REST_TICKS_MAX = 5000;

/** @throws ModelError when something does not hold. */
export function runScenario(scenario: Scenario): Outcome {
  const model = makeModel(scenario);
  for (let tick = 0; tick < CHAOS_TICKS; tick++) {
    model.tick();
    if (!scenario.wild) checkServed(model);
    if (model.random.below(5) === 0) disturb(model, scenario);
    const races = model.random.below(8) === 0;
    if (model.random.below(2) > 0) continue;
    model.plan(races ? () => disturb(model, scenario) : undefined);
  }
  if (model.upNodes.length === 0) model.setState(model.map.nodes[0]!.id, NodeState.Up);
  const restTicks = calmDown(model);
  checkEnd(model, scenario);
  return { restTicks, learnersAdded: model.added };
}

/** With one node away, no group that had three voters is without a majority. */
function checkServed(model: Model): void {
  for (const state of model.groups.values()) {
    const { group, configuration } = state;
    const { voters, outgoing } = configuration;
    const isSmall = voters.length < 3 || (outgoing.length > 0 && outgoing.length < 3);
    check(isSmall || state.hasQuorum(), `group ${group} has no quorum while one node is away`);
  }
}

export function makeModel({ seed, nodes, zones, vshards, ...options }: Scenario): Model {
  const rows = Array.from({ length: nodes }, (_, i) => makeNode(i + 1, zoneOf(i + 1, zones)));
  return new Model(new SeededRandom(seed), {
    nodes: rows,
    vshards,
    options: { ...options, metaReplicas: 3 },
  });
}

const zoneOf = (id: number, zones: number): Partial<ClusterNode> =>
  zones === 1 ? {} : { zone: `zone ${id % zones}`, host: `host ${id % 5}` };

/** One thing that people, disks or clients do. */
function disturb(model: Model, { zones, wild }: Scenario): void {
  const { random, map } = model;
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)]!;
  const dead = map.nodes.filter(({ id }) => !model.nodes.get(id)!.alive);
  // A removed node is dead for the groups that have it still.
  const mayKill = wild || (dead.length === 0 && !model.hasRemovedMembers);
  const { id, state } = pick(map.nodes);
  const next = Math.max(...model.nodes.keys()) + 1;
  const kind = random.below(12);
  if (kind <= 1) {
    if (mayKill) model.kill(id);
  } else if (kind <= 4) {
    if (dead.length > 0) model.revive(pick(dead).id);
  } else if (kind === 5) {
    if (map.nodes.length < NODES_MAX) model.join(makeNode(next, zoneOf(next, zones)));
  } else if (kind === 6) {
    if (state === NodeState.Up) model.setState(id, NodeState.Draining);
  } else if (kind === 7) {
    if (isDeparting({ state })) model.setState(id, NodeState.Up);
  } else if (kind === 8) {
    // Operators remove what does not answer.
    model.remove(dead.length > 0 && random.below(3) > 0 ? pick(dead).id : id);
  } else if (kind === 9) {
    const node = model.nodes.get(id)!;
    if (random.below(2) === 0) node.slow = !node.slow;
    else node.full = !node.full;
  } else {
    pick([...model.groups.values()]).sizeBytes = random.below(400) * MiB;
  }
}

/** Everybody returns and nobody touches anything any more; answers the ticks until all is at rest. */
export function calmDown(model: Model): number {
  for (const { id } of model.map.nodes) {
    model.revive(id);
    Object.assign(model.nodes.get(id)!, { slow: false, full: false });
  }
  return rest(model);
}

/** Plans until there is nothing left to do; answers how long that took. */
export function rest(model: Model): number {
  let quiet = 0;
  for (let tick = 0; tick < REST_TICKS_MAX; tick++) {
    model.tick();
    quiet = sizeOf(model.plan()) === 0 && model.isCalm ? quiet + 1 : 0;
    if (quiet > QUIET_TICKS) return tick;
  }
  const { reasons } = model.plan();
  throw new Error(`no rest after ${REST_TICKS_MAX} ticks: ${reasons.join("; ")}`);
}

function checkEnd(model: Model, { zones }: Scenario): void {
  const views = viewNodes(model.map.nodes, model.input().nodes);
  checkGroups(model, views);
  if (zones === 1) checkEven(model);
  else checkNoBetterMove(model, views);
}

/** All groups have what they should have, where it should be. */
function checkGroups(model: Model, views: NodeViews): void {
  const staying = views.list.filter(({ stays }) => stays).map(({ index }) => index);
  for (const { group, replicas } of model.placements) {
    check(
      replicas.every(({ role }) => role === "voter"),
      `group ${group} has voters only`,
    );
    const members = replicas.map(({ replica }) => views.byId.get(nodeOfReplica(replica))!.index);
    check(
      members.every((member) => staying.includes(member)),
      `group ${group} is on nodes that stay`,
    );
    const target = targetOf(group, views, model.options);
    check(members.length === target, `group ${group} has ${members.length} of ${target} voters`);
    const best = bestSpreadCost(views.list, staying, members.length);
    check(spreadCost(views.list, members) === best, `group ${group} is spread`);
  }
}

function checkEven(model: Model): void {
  const up = new Set<number>(model.upNodes.map(({ id }) => id));
  const unevenness = (counts: ReadonlyMap<number, number>): number =>
    difference(new Map([...counts].filter(([id]) => up.has(id))));
  check(unevenness(replicaCounts(model.map)) <= 1, "replicas are even");
  check(unevenness(leaderCounts(model.map)) <= LEADERS_UNEVEN_MAX, "leaders are even");
  // An exchange takes two moves.
  if (model.options.movesAtOnceMax < 2) return;
  const bytes = new Map<number, number>([...up].map((id) => [id, 0]));
  for (const placement of model.map.placements) {
    const size = model.bytesOf(placement.group);
    for (const id of nodesOf(placement)) bytes.set(id, bytes.get(id)! + size);
  }
  const sizes = model.map.placements.map(({ group }) => model.bytesOf(group));
  check(unevenness(bytes) <= Math.max(BALANCE_BYTES_MIN, ...sizes), "bytes are even");
}

/** With zones that are not alike the counts cannot always be even; but no move makes them more so. */
function checkNoBetterMove(model: Model, { list, byId }: NodeViews): void {
  const counts = replicaCounts(model.map);
  for (const placement of model.map.placements) {
    const members = placement.replicas.map(
      ({ replica }) => byId.get(nodeOfReplica(replica))!.index,
    );
    for (const from of members) {
      for (const to of list) {
        if (!to.receives || members.includes(to.index)) continue;
        const gain = counts.get(list[from]!.id)! - counts.get(to.id)!;
        check(
          gain < 2 || exchangeCost(list, members, from, to.index) > 0,
          `group ${placement.group} should move from node ${list[from]!.id} to node ${to.id}`,
        );
      }
    }
  }
}
