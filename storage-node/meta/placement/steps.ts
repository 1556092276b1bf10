/**
 * The next step of a group that is under way.
 *
 *     {A B C voter}                      D learner is added      (starts.ts)
 *     {A B C voter, D learner}           D has caught up
 *     {B C D voter, A leaving}           the configuration has D and has not A, and a quorum of it knows
 *     {B C D voter}
 *
 * One row changes by one step, and the next one is taken only when the group's leader has reported that it
 * has carried out the last. Exceptions are the ways back, which must not wait for what may never happen: a
 * learner is given up when its node is lost, drains or is full, or when it is of no use any more; a voter that
 * the configuration does not have yet makes room again for the one that it was to replace; one that was to
 * leave stays when others fail meanwhile.
 *
 * Reports may be old. What is concluded from them holds for ever: an id below the highest that is no member
 * of a settled configuration can never be one again, and a learner that was never seen as a member can
 * at worst become one and be taken out by the leader, which counts in no quorum meanwhile.
 */
import type { GroupReplica, Placement } from "#shared/cluster-map.ts";
import type { ReplicaId } from "#shared/ids.ts";
import {
  chooseVictims,
  type GroupState,
  positions,
  stays,
  viewOf,
  type World,
} from "./group-state.ts";
import { inRole, isOutForEver, isReady, keepsQuorum, nodesText } from "./members.ts";
import { mayAnswer } from "./nodes.ts";
import { exchangeCost } from "./spread.ts";
import type { GroupObservation } from "./types.ts";

export type Step = {
  readonly placement: Placement;
  readonly reason: string;
};

const step = (
  { placement }: GroupState,
  replicas: readonly GroupReplica[],
  reason: string,
): Step => ({ placement: { ...placement, replicas }, reason });

type Observed = GroupState & { readonly observation: GroupObservation };

const isObserved = (state: GroupState): state is Observed => state.observation !== undefined;

/** Undefined: there is nothing to do, or something to wait for. */
export function nextStep(world: World, state: GroupState): Step | undefined {
  if (!isObserved(state)) return undefined;
  const repair =
    dropOut(world, state) ??
    giveUpLost(world, state) ??
    takeBack(state) ??
    giveUpUseless(world, state);
  if (repair !== undefined) return repair;
  if (!state.inStep || state.leaving.length > 0) return undefined;
  return promote(world, state);
}

/** Notes that replicas are out of the group. */
function dropOut(world: World, state: Observed): Step | undefined {
  const { settled, configuration } = state.observation;
  if (!settled) return undefined;
  const isOut = (id: ReplicaId) => isOutForEver(configuration, id);
  const out = state.placement.replicas.filter(({ replica }) => isOut(replica));
  if (out.length === 0) return undefined;
  // A voter that is out was to come back while the leader, with an older map, took it out.
  const missing = out.filter(({ role }) => role === "voter").length;
  const restored = restorable(world, state, missing);
  return step(
    state,
    state.placement.replicas
      .filter(({ replica }) => !isOut(replica))
      .map(({ replica, role }) => inRole(replica, restored.includes(replica) ? "voter" : role)),
    `${nodesText(out.map(({ replica }) => replica))} is out of the group`,
  );
}

/** Of the leaving ones that still vote, the `count` that are most worth keeping. */
function restorable({ nodes }: World, state: Observed, count: number): readonly ReplicaId[] {
  const { configuration, members, leader } = state.observation;
  const worth = (id: ReplicaId): number =>
    (isReady(members, leader, id) ? 2 : 0) + (stays(nodes, id) ? 1 : 0);
  return state.leaving
    .filter((id) => configuration.voters.includes(id))
    .sort((a, b) => worth(b) - worth(a))
    .slice(0, count);
}

/** Learners, and voters that do not vote yet, whose nodes are not to have them. */
function giveUpLost(world: World, state: Observed): Step | undefined {
  const { configuration } = state.observation;
  const isBad = (id: ReplicaId) => !stays(world.nodes, id);
  // A full disk will not take the rest of the copy.
  const learners = state.learners.filter(
    (id) => isBad(id) || viewOf(world.nodes, id)?.full === true,
  );
  const votes = (id: ReplicaId) =>
    configuration.voters.includes(id) || configuration.outgoing.includes(id);
  const voters = state.voters.filter((id) => isBad(id) && !votes(id));
  if (learners.length + voters.length === 0) return undefined;
  return giveUp(world, state, [...learners, ...voters]);
}

function giveUp(world: World, state: Observed, ids: readonly ReplicaId[]): Step {
  const { configuration } = state.observation;
  const voters = ids.filter((id) => state.voters.includes(id));
  const restored = restorable(world, state, voters.length);
  const replicas = state.placement.replicas.flatMap(({ replica, role }) => {
    if (restored.includes(replica)) return [inRole(replica, "voter")];
    if (!ids.includes(replica)) return [inRole(replica, role)];
    // Never seen in the group, so there is nobody to take it out and report that.
    return replica > configuration.highestId ? [] : [inRole(replica, "leaving")];
  });
  return step(state, replicas, `${nodesText(ids)} is not to get a replica any more`);
}

/**
 * Voters that were to leave, and cannot, because others have failed since: without them there would be no
 * majority, so the group's leader waits. They stay, and who has failed is replaced first.
 */
function takeBack(state: Observed): Step | undefined {
  const { configuration, members, leader } = state.observation;
  const voting = state.leaving.filter((id) => configuration.voters.includes(id));
  if (voting.length === 0 || keepsQuorum(state.voters, members, leader)) return undefined;
  // Whoever comes instead may only be late.
  const isAwaited = (id: ReplicaId) =>
    !configuration.voters.includes(id) && !isReady(members, leader, id);
  if (state.voters.some(isAwaited)) return undefined;
  return step(
    state,
    state.placement.replicas.map(({ replica, role }) =>
      inRole(replica, voting.includes(replica) ? "voter" : role),
    ),
    `${nodesText(voting)} stays: too few of the others could vote at once`,
  );
}

/**
 * A learner whose taking over would make things worse by now: its purpose is gone (a node came back, a
 * drain was cancelled) or has been met otherwise. One that merely brings nothing is finished: it may be
 * the half of something (balance.ts), and giving that up would only mean to begin it again.
 */
function giveUpUseless(world: World, state: Observed): Step | undefined {
  const { loads, relieved, nodes } = world;
  const { group } = state.placement;
  const victims = relieved.get(group) ?? [];
  if (victims.length === 0) return undefined;
  for (const learner of state.learners) {
    const to = viewOf(nodes, learner);
    const { members } = loads.share(group);
    if (to === undefined || !members.includes(to.index)) continue;
    const better = victims.filter((victim) => {
      const cost = exchangeCost(loads.nodes, members, to.index, victim);
      return cost < 0 || (cost === 0 && loads.counts[to.index]! - loads.counts[victim]! >= 2);
    });
    if (better.length === 0) continue;
    const back = better.reduce((a, b) => (loads.counts[b]! < loads.counts[a]! ? b : a));
    loads.set({
      ...loads.share(group),
      members: members.map((member) => (member === to.index ? back : member)),
    });
    return giveUp(world, state, [learner]);
  }
  return undefined;
}

/** Learners that have caught up become voters, and those that they replace leave, in one step. */
function promote(world: World, state: Observed): Step | undefined {
  const { members, leader } = state.observation;
  const ready = state.learners.filter((id) => isReady(members, leader, id));
  const isAwaited = (id: ReplicaId) => mayAnswer(viewOf(world.nodes, id));
  const awaited = state.learners.filter((id) => !ready.includes(id) && isAwaited(id));
  // Together, so that a group of one does not pass through one of two, which survives less.
  if (ready.length === 0 || awaited.length > 0) return undefined;
  const voters = [...state.voters, ...ready];
  const victims = toLeave(world, state, voters.length - state.target);
  const left = voters.filter((id) => !victims.includes(id));
  if (!keepsQuorum(left, members, leader)) return undefined;
  const replicas = state.placement.replicas.map(({ replica, role }) => {
    if (ready.includes(replica)) return inRole(replica, "voter");
    return inRole(replica, victims.includes(replica) ? "leaving" : role);
  });
  const instead = victims.length === 0 ? "" : ` instead of ${nodesText(victims)}`;
  return step(state, replicas, `${nodesText(ready)} has caught up and votes${instead}`);
}

/** `count` voters: those on nodes that do not stay first, then those that are missed least. */
function toLeave(world: World, state: GroupState, count: number): readonly ReplicaId[] {
  const { nodes, loads, relieved } = world;
  const worstFirst = (id: ReplicaId): number => {
    const view = viewOf(nodes, id);
    if (view === undefined) return 0;
    return view.lost ? 1 : 2;
  };
  const bad = state.voters
    .filter((id) => !stays(nodes, id))
    .sort((a, b) => worstFirst(a) - worstFirst(b))
    .slice(0, Math.max(0, count));
  const healthy = state.voters.filter((id) => stays(nodes, id));
  const among = positions(healthy, nodes);
  const rest = Math.max(0, count - bad.length);
  const chosen =
    relieved.get(state.placement.group)?.slice(0, rest) ??
    chooseVictims(loads, among, { among, count: rest });
  return [...bad, ...healthy.filter((id) => chosen.includes(viewOf(nodes, id)!.index))];
}

/** More voters than wanted: the rest leaves. */
export function shrink(world: World, state: GroupState): Step | undefined {
  const { voters, target, observation } = state;
  if (observation === undefined || voters.length <= target) return undefined;
  const victims = toLeave(world, state, voters.length - target);
  const left = voters.filter((id) => !victims.includes(id));
  if (!keepsQuorum(left, observation.members, observation.leader)) return undefined;
  return step(
    state,
    state.placement.replicas.map(({ replica, role }) =>
      inRole(replica, victims.includes(replica) ? "leaving" : role),
    ),
    `${nodesText(victims)} leaves: ${target} of ${voters.length} voters are wanted`,
  );
}
