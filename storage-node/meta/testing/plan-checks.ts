/**
 * What must hold of every plan, whatever it was made from.
 */
import { NodeState, type Placement, placementOf, replicaOn } from "#shared/cluster-map.ts";
import { type GroupId, nodeOfReplica, type ReplicaId, sequenceOfReplica } from "#shared/ids.ts";
import {
  isMember,
  isReady,
  isUnderWay,
  keepsQuorum,
  sameIds,
  withRole,
} from "#storage-node/meta/placement/members.ts";
import {
  type GroupObservation,
  type Plan,
  type PlannerInput,
  plan,
} from "#storage-node/meta/planner.ts";
import { withRows } from "./fixtures.ts";

export class ModelError extends Error {}

export function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ModelError(message);
}

const keyOf = (group: GroupId, id: ReplicaId): string => `${group}/${id}`;

/** Rounds of planning in a standing world after which there is nothing left to say. */
const ROUNDS_MAX = 5;

export class PlanChecks {
  /** Learners that were ever added. */
  added = 0;
  readonly #idsEver = new Set<string>();

  constructor(placements: readonly Placement[]) {
    for (const { group, replicas } of placements) {
      for (const { replica } of replicas) this.#idsEver.add(keyOf(group, replica));
    }
  }

  /** @throws ModelError when `next` should not have been made of `input`. */
  check(input: PlannerInput, next: Plan): void {
    const groups = next.placements.map(({ group }) => group);
    check(new Set(groups).size === groups.length, "a group has one row in a plan");
    for (const row of next.placements) {
      const before = placementOf(input.map, row.group);
      checkRow(before, row);
      checkStep(before, row, input.groups.get(row.group));
      this.#noteIds(before, row);
    }
    checkRemoved(input, next);
    checkBound(input, next);
    checkComesToAnEnd(input, next);
  }

  #noteIds(before: Placement, row: Placement): void {
    for (const id of addedTo(before, row)) {
      check(!this.#idsEver.has(keyOf(row.group, id)), `group ${row.group}: an id is used again`);
      this.#idsEver.add(keyOf(row.group, id));
      this.added++;
    }
  }
}

const addedTo = (before: Placement, row: Placement): readonly ReplicaId[] =>
  row.replicas
    .map(({ replica }) => replica)
    .filter((id) => !before.replicas.some(({ replica }) => replica === id));

function checkRow(before: Placement, row: Placement): void {
  const name = `group ${row.group}`;
  const nodes = row.replicas.map(({ replica }) => nodeOfReplica(replica));
  check(new Set(nodes).size === nodes.length, `${name}: one replica per node`);
  check(row.lastSequence >= before.lastSequence, `${name}: sequences only grow`);
  for (const id of addedTo(before, row)) {
    check(withRole(row, "learner").includes(id), `${name}: a new replica is a learner`);
    check(sequenceOfReplica(id) > before.lastSequence, `${name}: the sequence is new`);
    check(sequenceOfReplica(id) <= row.lastSequence, `${name}: lastSequence counts it`);
  }
  const voters = withRole(row, "voter").map(nodeOfReplica);
  check(voters.length > 0, `${name}: somebody votes`);
  const leader = row.preferredLeader;
  check(leader === 0 || voters.includes(leader), `${name}: the preferred leader votes`);
}

/** Nothing is done but by a report that allows it. */
function checkStep(before: Placement, row: Placement, report: GroupObservation | undefined): void {
  const name = `group ${row.group}`;
  const roles = ({ replicas }: Placement) => replicas.map(({ replica, role }) => [replica, role]);
  if (JSON.stringify(roles(before)) === JSON.stringify(roles(row))) return;
  check(report !== undefined, `${name}: nothing is changed without a report`);
  const { configuration, members, leader, settled } = report;
  const isCarriedOut =
    settled &&
    configuration.outgoing.length === 0 &&
    sameIds(configuration.voters, withRole(before, "voter")) &&
    sameIds(configuration.learners, withRole(before, "learner"));
  const learners = withRole(before, "learner");
  const voters = withRole(row, "voter");
  const promoted = voters.filter((id) => learners.includes(id));
  const begins = addedTo(before, row).length > 0 || promoted.length > 0;
  check(isCarriedOut || !begins, `${name}: it has carried out the last step before the next`);
  check(
    promoted.every((id) => isReady(members, leader, id)),
    `${name}: who votes has caught up`,
  );
  if (isCarriedOut && !sameIds(voters, withRole(before, "voter"))) {
    check(keepsQuorum(voters, members, leader), `${name}: those that are to vote are a quorum`);
  }
  for (const { replica, role } of before.replicas) {
    if (row.replicas.some((kept) => kept.replica === replica)) continue;
    const gone = !isMember(configuration, replica);
    check(gone && (role === "learner" || settled), `${name}: a member is dropped`);
  }
}

/** A node is taken out only when no group knows it, and only on an operator's word. */
function checkRemoved({ map }: PlannerInput, { removedNodes }: Plan): void {
  for (const id of removedNodes) {
    const row = map.nodes.find((node) => node.id === id);
    check(row?.state === NodeState.Removing, `node ${id} is removed unasked`);
    const held = [...map.placements, map.meta].filter((placement) => replicaOn(placement, id));
    check(held.length === 0, `node ${id} is removed and holds ${held.length} replicas`);
  }
}

function checkBound(input: PlannerInput, next: Plan): void {
  const after = withRows(input.map, next);
  const begun = next.placements.filter((row) => {
    const before = placementOf(input.map, row.group);
    const report = input.groups.get(row.group);
    const wasIdle =
      !isUnderWay(before) && report?.configuration.voters.length === before.replicas.length;
    return wasIdle && isUnderWay(row);
  }).length;
  const underWay = [...after.placements, after.meta].filter(
    (row) => isUnderWay(row) && isWatched(row, input),
  ).length;
  check(
    begun === 0 || underWay <= input.options.movesAtOnceMax,
    `${begun} moves begin and ${underWay} are under way`,
  );
}

/** Whether something can happen in the group: it has a leader, and nobody who is awaited is silent. */
function isWatched(row: Placement, { groups, nodes }: PlannerInput): boolean {
  const isSilent = (id: ReplicaId) => nodes.get(nodeOfReplica(id))?.answering !== true;
  return groups.has(row.group) && !withRole(row, "learner").some(isSilent);
}

/** Rows that it changes. */
export const sizeOf = ({ placements, nodes, removedNodes }: Plan): number =>
  placements.length + nodes.length + removedNodes.length;

/** As long as nothing new is heard, planning again soon finds nothing more to do. */
function checkComesToAnEnd(input: PlannerInput, next: Plan): void {
  let rows = next;
  let map = input.map;
  for (let round = 0; sizeOf(rows) > 0; round++) {
    check(round < ROUNDS_MAX, `plans without end: ${rows.reasons.join("; ")}`);
    map = withRows(map, rows);
    rows = plan({ ...input, map });
  }
}
