/**
 * Membership: what a change makes of a configuration, and its bytes. Pure.
 *
 * A change that moves at most one voter is taken in one step: majorities before and after it share a
 * member. Any other goes through a joint configuration (thesis section 4.3), in which every decision
 * needs a majority of the old and of the new voters; the leader leaves it by a second entry once it
 * has applied the first.
 *
 *     simple   voters A,     outgoing –
 *     joint    voters B,     outgoing A,  learnersNext: voters of A that become learners
 *     simple   voters B,     outgoing –,  learnersNext are learners
 *
 * A replica is a voter (of either half) or a learner, never both: one that is demoted while it is in
 * `outgoing` waits in `learnersNext`.
 *
 * An entry carries the whole next configuration, not the change: applying it replaces the old one, and
 * so does not depend on anything that could differ between replicas.
 */
import { assert } from "#shared/assert.ts";
import { readUint64, writeUint64 } from "#shared/bytes.ts";
import { type ReplicaId, toReplicaId } from "#shared/ids.ts";
import { GROUP_MEMBERS_MAX } from "#shared/limits.ts";
import { isVoter, membersOf } from "./quorum.ts";
import type { Configuration, MemberChange } from "./types.ts";

export const isJoint = (configuration: Configuration): boolean => configuration.outgoing.length > 0;

/** Voters only, with the highest of their ids. */
export function simpleConfiguration(voters: readonly ReplicaId[]): Configuration {
  const highestId = voters.reduce((a, b) => (a > b ? a : b), 0 as ReplicaId);
  return { voters, outgoing: [], learners: [], learnersNext: [], highestId };
}

/** Of a replica that has heard of no member yet: it stands for nothing, and votes for anybody. */
export const NO_MEMBERS: Configuration = {
  voters: [],
  outgoing: [],
  learners: [],
  learnersNext: [],
  highestId: 0 as ReplicaId,
};

/** What a change leads to, or why it cannot be made. */
export type ChangePlan =
  | { readonly kind: "configuration"; readonly configuration: Configuration }
  | { readonly kind: "refused"; readonly reason: string };

const refused = (reason: string): ChangePlan => ({ kind: "refused", reason });

/** What all `changes` together make of `current`, which must not be joint. */
export function planChange(current: Configuration, changes: readonly MemberChange[]): ChangePlan {
  if (isJoint(current)) return refused("the last change is still in its joint configuration");
  const voters = new Set(current.voters);
  const learners = new Set(current.learners);
  let { highestId } = current;
  const named = new Set<ReplicaId>();
  for (const { replica, to } of changes) {
    if (named.has(replica)) return refused(`replica ${replica} is named twice`);
    named.add(replica);
    const isMember = voters.delete(replica) || learners.delete(replica);
    if (to === "removed") {
      if (!isMember) return refused(`replica ${replica} is not a member`);
      continue;
    }
    // The id of a removed replica may still be in messages on their way, and its votes count.
    if (!isMember && replica <= current.highestId) {
      return refused(`replica id ${replica} was used before; new ids are above ${highestId}`);
    }
    if (replica > highestId) highestId = replica;
    (to === "voter" ? voters : learners).add(replica);
  }
  if (voters.size === 0) return refused("no voter would be left");
  if (voters.size + learners.size > GROUP_MEMBERS_MAX) {
    return refused(`a group has at most ${GROUP_MEMBERS_MAX} members`);
  }
  const next = { voters: [...voters], learners: [...learners], highestId };
  if (sameMembers(current, next)) return refused("nothing would change");
  return { kind: "configuration", configuration: enter(current, next) };
}

type Members = Pick<Configuration, "voters" | "learners" | "highestId">;

const isSubset = (a: readonly ReplicaId[], b: readonly ReplicaId[]): boolean =>
  a.every((id) => b.includes(id));

function sameMembers(a: Members, b: Members): boolean {
  return (
    a.voters.length === b.voters.length &&
    a.learners.length === b.learners.length &&
    isSubset(a.voters, b.voters) &&
    isSubset(a.learners, b.learners)
  );
}

/** The first step from `current` to `next`: all of it, or the joint configuration. */
function enter(current: Configuration, next: Members): Configuration {
  const added = next.voters.filter((id) => !current.voters.includes(id)).length;
  const gone = current.voters.filter((id) => !next.voters.includes(id)).length;
  if (added + gone <= 1) return { ...next, outgoing: [], learnersNext: [] };
  return {
    ...next,
    outgoing: current.voters,
    learners: next.learners.filter((id) => !current.voters.includes(id)),
    learnersNext: next.learners.filter((id) => current.voters.includes(id)),
  };
}

/** What follows a joint configuration. */
export function leaveJoint({
  voters,
  learners,
  learnersNext,
  highestId,
}: Configuration): Configuration {
  return {
    voters,
    outgoing: [],
    learners: [...learners, ...learnersNext],
    learnersNext: [],
    highestId,
  };
}

/** @throws AssertionError when no sequence of changes can have led to it. */
export function checkConfiguration(configuration: Configuration): void {
  const { voters, outgoing, learners, learnersNext, highestId } = configuration;
  for (const ids of [voters, outgoing, learners, learnersNext]) {
    assert(new Set(ids).size === ids.length, "a member is named once");
    assert(!ids.includes(0 as ReplicaId), "a member's id is at least 1");
  }
  assert(
    learners.every((id) => !isVoter(configuration, id)),
    "a learner is no voter",
  );
  assert(isSubset(learnersNext, outgoing), "only who leaves the voters becomes a learner later");
  assert(
    learnersNext.every((id) => !voters.includes(id)),
    "a next learner is no voter of the new half",
  );
  assert(
    membersOf(configuration).every((id) => id <= highestId),
    "the highest id is the highest",
  );
}

/** Size of `encodeConfiguration`: 8 + 4 × 2 + 8 for each id. */
export function configurationSizeBytes(configuration: Configuration): number {
  const { voters, outgoing, learners, learnersNext } = configuration;
  const ids = voters.length + outgoing.length + learners.length + learnersNext.length;
  return 16 + 8 * ids;
}

/**
 * `highest id u64`, then voters, outgoing, learners, next learners, each `count u16, count × id u64`;
 * all big-endian. On disk in the log (docs/formats/wal.md) and in entries. Answers the next offset.
 */
export function writeConfiguration(
  target: Uint8Array,
  offset: number,
  configuration: Configuration,
): number {
  writeUint64(target, offset, configuration.highestId);
  let position = offset + 8;
  const { voters, outgoing, learners, learnersNext } = configuration;
  for (const ids of [voters, outgoing, learners, learnersNext]) {
    assert(ids.length <= 0xffff, "a configuration has at most 65,535 replicas of a kind");
    target[position] = ids.length >>> 8;
    target[position + 1] = ids.length;
    position += 2;
    for (const id of ids) {
      writeUint64(target, position, id);
      position += 8;
    }
  }
  return position;
}

/** The data of a configuration entry. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const bytes = new Uint8Array(configurationSizeBytes(configuration));
  writeConfiguration(bytes, 0, configuration);
  return bytes;
}

/** @throws RangeError when `bytes` from `offset` on do not hold a configuration. */
export function readConfiguration(
  bytes: Uint8Array,
  offset: number,
): { readonly configuration: Configuration; readonly end: number } {
  let position = offset;
  const take = (count: number): number => {
    if (position + count > bytes.length) throw new RangeError("a configuration ends too early");
    position += count;
    return position - count;
  };
  const ids = (): ReplicaId[] => {
    const at = take(2);
    const count = (bytes[at]! << 8) | bytes[at + 1]!;
    const found: ReplicaId[] = [];
    for (let i = 0; i < count; i++) found.push(toReplicaId(readUint64(bytes, take(8))));
    return found;
  };
  const highestId = toReplicaId(readUint64(bytes, take(8)));
  const voters = ids();
  const outgoing = ids();
  const learners = ids();
  const configuration = { voters, outgoing, learners, learnersNext: ids(), highestId };
  return { configuration, end: position };
}

/** @throws RangeError when `data` is not exactly one configuration. */
export function decodeConfiguration(data: Uint8Array): Configuration {
  const { configuration, end } = readConfiguration(data, 0);
  if (end !== data.length) throw new RangeError("bytes follow a configuration");
  return configuration;
}
