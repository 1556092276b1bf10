/**
 * An operator who changes the group: adds, promotes, demotes, removes, several at once, always under
 * new ids; retires replicas that are no members any more; and now and then loses one for good.
 *
 * A group whose quorum is lost for good proves nothing any more. So nobody is lost, and no change is
 * proposed, that would leave some configuration which may still come into force without a majority of
 * living voters.
 */
import type { LogIndex, ReplicaId } from "#shared/ids.ts";
import type { Configuration, MemberChange } from "#storage-node/raft/types.ts";
import { isMember, isQuorum } from "./configurations.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

const ROSTER_MAX = 14;

const lives = (world: World, id: ReplicaId): boolean => {
  const node = world.nodes[id];
  return node === undefined || node.state !== "gone";
};

export function proposeChange(world: World, node: SimNode): boolean {
  const changes = drawChanges(world, node.raft.configuration);
  if (changes.length === 0) return false;
  const result = node.raft.proposeConfiguration(changes);
  world.trace?.note(
    `${node.id} is asked to change ${changes.map(({ replica, to }) => `${replica}→${to}`).join(", ")}: ` +
      `${result.kind}${result.kind === "refused" ? ` (${result.reason})` : ""}`,
  );
  const accepted = result.kind === "accepted";
  world.statistics.counts[accepted ? "changes accepted" : "changes refused"]++;
  if (accepted) {
    // So that the change is known before somebody that it names is taken for superfluous.
    node.pump();
    for (const { replica, to } of changes) if (to !== "removed") world.join(replica);
  }
  return accepted;
}

function drawChanges(world: World, configuration: Configuration): readonly MemberChange[] {
  const { random } = world;
  const changes: MemberChange[] = [];
  const count = random.below(2) === 0 ? 1 : 2 + random.below(3);
  for (let i = 0; i < count; i++) {
    const change = drawChange(world, configuration);
    if (change !== undefined && !changes.some(({ replica }) => replica === change.replica)) {
      changes.push(change);
    }
  }
  return keepsQuorum(world, configuration, changes) ? changes : [];
}

function drawChange(world: World, configuration: Configuration): MemberChange | undefined {
  const { random, options } = world;
  const { voters, learners } = configuration;
  const members = voters.length + learners.length;
  // Somebody may ask for an id that was used before; the core has to refuse.
  if (random.below(24) === 0) {
    return { replica: (1 + random.below(configuration.highestId)) as ReplicaId, to: "voter" };
  }
  const dice = random.below(10);
  const full = members >= options.membersMax || world.roster.length >= ROSTER_MAX;
  if (dice < 4) {
    if (full) return { replica: random.pick([...voters, ...learners]), to: "removed" };
    const replica = world.nextId++ as ReplicaId;
    return { replica, to: dice < 2 ? "learner" : "voter" };
  }
  if (dice < 6 && learners.length > 0) return { replica: random.pick(learners), to: "voter" };
  if (dice < 7 && voters.length > 1) return { replica: random.pick(voters), to: "learner" };
  if (members > 1 && dice < 9) {
    return { replica: random.pick([...voters, ...learners]), to: "removed" };
  }
  return voters.length === 0 ? undefined : { replica: random.pick(voters), to: "learner" };
}

/** A majority of the voters that would result is alive; of the present ones it is anyway. */
function keepsQuorum(
  world: World,
  configuration: Configuration,
  changes: readonly MemberChange[],
): boolean {
  const voters = new Set(configuration.voters);
  for (const { replica, to } of changes) {
    if (to === "voter") voters.add(replica);
    else voters.delete(replica);
  }
  const next = { ...configuration, voters: [...voters], outgoing: [] };
  return isQuorum(next, (id) => lives(world, id));
}

/** Whether the group can do without this replica for ever. */
export function mayLose(world: World, lost: SimNode): boolean {
  const { history, roster } = world;
  const members = roster.filter(({ id }) => id !== lost.id && isMember(history.configuration, id));
  const flushed = members.map(({ engine }) => engine.flushed.index);
  const from = Math.min(history.committed, ...flushed) as LogIndex;
  return history
    .configurationsSince(from)
    .every((each) => isQuorum(each, (id) => id !== lost.id && lives(world, id)));
}

/**
 * A leader's word that a replica is needed by nobody any more, by which owners destroy it. What engines
 * have flushed plays no part in it, and neither do those who were lost before.
 */
function isDispensable(world: World, id: ReplicaId): boolean {
  return world.roster.some(({ running, raft }) => {
    if (!running || !raft.configurationSettled) return false;
    const { configuration } = raft;
    // Higher ids are of members to come.
    return id <= configuration.highestId && !isMember(configuration, id);
  });
}

/** Takes away a replica that is no member any more, or never became one. False if there is none. */
export function retire(world: World): boolean {
  const { history } = world;
  const node = world.find(({ id }) => {
    if (isDispensable(world, id)) return true;
    const since = history.configurationsSince(history.committed);
    return !since.some((each) => isMember(each, id));
  });
  if (node === undefined) return false;
  if (!isDispensable(world, node.id) && !mayLose(world, node)) return false;
  world.trace?.note(`${node.id} is retired`);
  world.lose(node);
  return true;
}

/** A member's disk and engine are lost. */
export function wipe(world: World): boolean {
  const node = world.find(() => true);
  if (node === undefined || !mayLose(world, node)) return false;
  world.countFault("wipe", node);
  world.trace?.note(`${node.id} is lost with all it had`);
  world.lose(node);
  return true;
}
