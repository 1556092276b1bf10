/**
 * One group as the planner sees it: its row, what its leader reported, and where its replicas will be when
 * the move under way has come to its end.
 *
 * The rows hold no plan. Which voter a learner is to replace is decided anew each time, from the state of
 * the nodes and the loads: so whatever happens in between (a node returns, a drain is cancelled, another
 * one dies), what is under way is finished or given up by the same rule, and nothing can be left over
 * from a plan that makes sense no more.
 */
import { isDeparting, type Placement } from "#shared/cluster-map.ts";
import { type GroupId, META_GROUP, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import type { Configuration } from "#storage-node/raft/types.ts";
import { Loads, type Share } from "./loads.ts";
import { isMember, isUnderWay, sameIds, withRole } from "./members.ts";
import { mayAnswer, type NodeView, type NodeViews } from "./nodes.ts";
import { joinCost } from "./spread.ts";
import type { GroupObservation, PlannerInput, PlannerOptions } from "./types.ts";

export type GroupState = {
  readonly placement: Placement;
  /** Absent when nothing is known, or what is known is older than the row. */
  readonly observation: GroupObservation | undefined;
  /** Somebody reports for it, be it what was true before the row changed. */
  readonly isLed: boolean;
  /** What was reported last differs from the row. */
  readonly differs: boolean;
  /** Voters that it should have. */
  readonly target: number;
  readonly voters: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  readonly leaving: readonly ReplicaId[];
  /** The group has carried out what its row says; only removals are left to be noted. */
  readonly inStep: boolean;
  readonly sizeBytes: number;
};

export type World = {
  readonly nodes: NodeViews;
  readonly options: PlannerOptions;
  readonly groups: readonly GroupState[];
  readonly loads: Loads;
  /** Of groups with learners: the healthy voters that they replace, by node position. */
  readonly relieved: ReadonlyMap<GroupId, readonly number[]>;
};

export const viewOf = (nodes: NodeViews, id: ReplicaId): NodeView | undefined =>
  nodes.byId.get(nodeOfReplica(id));

/** On a node that keeps its replicas. */
export const stays = (nodes: NodeViews, id: ReplicaId): boolean =>
  viewOf(nodes, id)?.stays === true;

/**
 * Nodes that depart do not count, unless all do: then there is nowhere to go. Nodes that are down count:
 * a group must not be made smaller because a node may be gone. The meta group keeps to odd numbers, as
 * one more does not make it survive more; but two copies of the map are better than one.
 */
export function targetOf(
  group: GroupId,
  nodes: NodeViews,
  options: Omit<PlannerOptions, "movesAtOnceMax">,
): number {
  const departing = nodes.list.filter(isDeparting).length;
  const all = nodes.list.length;
  const eligible = departing === all ? all : all - departing;
  const wanted = group === META_GROUP ? options.metaReplicas : options.replicationFactor;
  const target = Math.min(wanted, eligible);
  return group === META_GROUP && target > 2 && target % 2 === 0 ? target - 1 : target;
}

function groupState(
  placement: Placement,
  reported: GroupObservation | undefined,
  { target, typicalBytes }: { readonly target: number; readonly typicalBytes: number },
): GroupState {
  const roles = {
    voters: withRole(placement, "voter"),
    learners: withRole(placement, "learner"),
    leaving: withRole(placement, "leaving"),
  };
  // Only who was reported as a member becomes voter or leaving: such a report is older than the row.
  const known = (id: ReplicaId) => reported !== undefined && id <= reported.configuration.highestId;
  const isFresh = roles.voters.every(known) && roles.leaving.every(known);
  const differs = reported !== undefined && isOutOfStep(reported.configuration, roles);
  return {
    placement,
    observation: isFresh ? reported : undefined,
    isLed: reported !== undefined,
    differs,
    target,
    ...roles,
    inStep: isFresh && reported?.settled === true && !differs,
    sizeBytes: reported?.sizeBytes ?? typicalBytes,
  };
}

function isOutOfStep(
  configuration: Configuration,
  { voters, learners, leaving }: Pick<GroupState, "voters" | "learners" | "leaving">,
): boolean {
  return (
    configuration.outgoing.length > 0 ||
    !sameIds(configuration.voters, voters) ||
    !sameIds(configuration.learners, learners) ||
    leaving.some((id) => isMember(configuration, id))
  );
}

/**
 * Something is being copied or changed. A group without a leader, or whose learner is silent, holds nobody
 * up: one dead group must not stop the rebuilding of all others. What is merely not known yet counts.
 */
export function occupiesSlot(
  placement: Placement,
  { isLed, differs }: GroupState,
  nodes: NodeViews,
): boolean {
  if (!isUnderWay(placement)) return differs;
  const views = placement.replicas.map(({ replica, role }) => ({
    role,
    view: viewOf(nodes, replica),
  }));
  if (!isLed) return views.some(({ view }) => view?.known === false);
  const learners = views.filter(({ role }) => role === "learner");
  return (
    learners.length === 0 ||
    views.some(({ role }) => role === "leaving") ||
    learners.some(({ view }) => mayAnswer(view))
  );
}

export function viewWorld(
  { map, groups: reports, options }: PlannerInput,
  nodes: NodeViews,
): World {
  const placements = [map.meta, ...map.placements];
  const sizes = map.placements.flatMap(({ group }) => reports.get(group)?.sizeBytes ?? []);
  const typicalBytes = sizes.reduce((sum, size) => sum + size, 0) / Math.max(1, sizes.length);
  const groups = placements.map((placement) =>
    groupState(placement, reports.get(placement.group), {
      target: targetOf(placement.group, nodes, options),
      typicalBytes,
    }),
  );
  const loads = new Loads(nodes.list, sizes.length === map.placements.length);
  return { nodes, options, groups, loads, relieved: project(groups, nodes, loads) };
}

const PROJECTION_ROUNDS_MAX = 8;

/** Fills `loads` with the end of all moves under way, and answers who is replaced there. */
function project(
  groups: readonly GroupState[],
  nodes: NodeViews,
  loads: Loads,
): Map<GroupId, readonly number[]> {
  for (const state of groups) {
    loads.set({ ...shareOf(state, nodes), members: positions(state.voters, nodes) });
  }
  const moving = groups.filter(({ learners }) => learners.length > 0);
  for (const { learners, sizeBytes } of moving) {
    for (const node of positions(learners, nodes)) loads.reserve(node, sizeBytes);
  }
  const relieved = new Map<GroupId, readonly number[]>();
  // Again and again, because the first choices are made while the later moves do not count yet.
  for (let round = 0, changed = true; changed && round < PROJECTION_ROUNDS_MAX; round++) {
    changed = false;
    for (const state of moving) {
      const { group } = state.placement;
      const members = positions([...state.voters, ...state.learners], nodes);
      const healthy = positions(state.voters, nodes);
      const excess = members.length - state.target;
      loads.set({ ...loads.share(group), members });
      const victims = chooseVictims(loads, members, { among: healthy, count: excess });
      loads.set({
        ...loads.share(group),
        members: members.filter((node) => !victims.includes(node)),
      });
      changed ||= victims.join() !== relieved.get(group)?.join();
      relieved.set(group, victims);
    }
  }
  return relieved;
}

function shareOf(state: GroupState, nodes: NodeViews): Omit<Share, "members"> {
  const { placement, observation, inStep, voters, sizeBytes } = state;
  return {
    group: placement.group,
    sizeBytes,
    movable:
      inStep && !isUnderWay(placement) && voters.every((id) => isActive(observation, nodes, id)),
  };
}

/** A degraded group is not burdened with moves that can wait. */
const isActive = (
  observation: GroupObservation | undefined,
  nodes: NodeViews,
  id: ReplicaId,
): boolean =>
  stays(nodes, id) && (id === observation?.leader || observation?.members.get(id)?.active === true);

/** Positions of those replicas whose nodes stay. */
export const positions = (ids: readonly ReplicaId[], nodes: NodeViews): readonly number[] =>
  ids.flatMap((id) => {
    const view = viewOf(nodes, id);
    return view?.stays === true ? [view.index] : [];
  });

/** The members that are missed least: first for the spread, then for the balance. */
export function chooseVictims(
  loads: Loads,
  members: readonly number[],
  { among, count }: { readonly among: readonly number[]; readonly count: number },
): readonly number[] {
  const victims: number[] = [];
  let left = members;
  while (victims.length < count) {
    const candidates = among.filter((node) => left.includes(node));
    if (candidates.length === 0) break;
    const worst = candidates.reduce((a, b) => (isWorse(loads, left, b, a) ? b : a));
    victims.push(worst);
    left = left.filter((node) => node !== worst);
  }
  return victims;
}

function isWorse(loads: Loads, members: readonly number[], a: number, b: number): boolean {
  const { nodes, counts, bytes } = loads;
  const spread = joinCost(nodes, members, a) - joinCost(nodes, members, b);
  if (spread !== 0) return spread > 0;
  if (counts[a] !== counts[b]) return counts[a]! > counts[b]!;
  return bytes[a]! > bytes[b]!;
}
