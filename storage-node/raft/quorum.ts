/**
 * Quorum arithmetic, also for joint configurations: a decision needs a majority of `voters` and,
 * while `outgoing` is not empty, a majority of `outgoing` as well (thesis section 4.3). Learners
 * never count. Pure functions over plain arrays: replicas of a group are few.
 *
 * An empty half agrees with everything, so that a configuration without `outgoing` behaves as a
 * simple one; a configuration without any voter decides nothing.
 */
import type { ReplicaId } from "#shared/ids.ts";
import type { Configuration } from "./types.ts";

export type VoteOutcome = "won" | "lost" | "pending";

/** Smallest number of members that overlaps every other majority. */
export const majority = (count: number): number => Math.floor(count / 2) + 1;

/** Whether the replica counts in quorums. */
export function isVoter(configuration: Configuration, id: ReplicaId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id);
}

/** Everyone who is sent the log: voters of both halves and learners, without duplicates. */
export function membersOf(configuration: Configuration): readonly ReplicaId[] {
  const { voters, outgoing, learners } = configuration;
  return [...new Set([...voters, ...outgoing, ...learners])];
}

/** Whether this replica alone is a quorum: it needs nobody's answer to decide. */
export function decidesAlone(configuration: Configuration, id: ReplicaId): boolean {
  const { voters, outgoing } = configuration;
  return (
    voters.length === 1 &&
    voters[0] === id &&
    (outgoing.length === 0 || (outgoing.length === 1 && outgoing[0] === id))
  );
}

/**
 * The highest value that a quorum has reached, where `reached` tells each voter's value (at least
 * 0). Used for match indexes (commit) and for read rounds.
 */
export function quorumValue(
  configuration: Configuration,
  reached: (id: ReplicaId) => number,
): number {
  if (configuration.voters.length === 0) return 0;
  const value = majorityValue(configuration.voters, reached);
  if (configuration.outgoing.length === 0) return value;
  return Math.min(value, majorityValue(configuration.outgoing, reached));
}

function majorityValue(ids: readonly ReplicaId[], reached: (id: ReplicaId) => number): number {
  if (ids.length === 1) return reached(ids[0]!);
  const descending = new Array<number>(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const value = reached(ids[i]!);
    let at = i;
    while (at > 0 && descending[at - 1]! < value) {
      descending[at] = descending[at - 1]!;
      at--;
    }
    descending[at] = value;
  }
  return descending[majority(ids.length) - 1]!;
}

/** The state of an election: `votes` holds who has answered, and what. */
export function voteOutcome(
  configuration: Configuration,
  votes: ReadonlyMap<ReplicaId, boolean>,
): VoteOutcome {
  if (configuration.voters.length === 0) return "lost";
  const incoming = halfOutcome(configuration.voters, votes);
  if (configuration.outgoing.length === 0) return incoming;
  const outgoing = halfOutcome(configuration.outgoing, votes);
  if (incoming === "lost" || outgoing === "lost") return "lost";
  return incoming === "won" && outgoing === "won" ? "won" : "pending";
}

function halfOutcome(
  ids: readonly ReplicaId[],
  votes: ReadonlyMap<ReplicaId, boolean>,
): VoteOutcome {
  let granted = 0;
  let missing = 0;
  for (const id of ids) {
    const vote = votes.get(id);
    if (vote === undefined) missing++;
    else if (vote) granted++;
  }
  const needed = majority(ids.length);
  if (granted >= needed) return "won";
  return granted + missing >= needed ? "pending" : "lost";
}
