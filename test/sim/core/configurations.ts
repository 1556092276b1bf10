/**
 * What must hold between one configuration and the next, from the definitions: subsets are counted,
 * the core's own arithmetic is not used.
 */
import type { ReplicaId } from "#shared/ids.ts";
import type { Configuration } from "#storage-node/raft/types.ts";
import { violated } from "./violation.ts";

/** Everyone with a part in it. */
export function everyoneIn(configuration: Configuration): ReadonlySet<ReplicaId> {
  const { voters, outgoing, learners, learnersNext } = configuration;
  return new Set([...voters, ...outgoing, ...learners, ...learnersNext]);
}

export const isMember = (configuration: Configuration, id: ReplicaId): boolean =>
  configuration.voters.includes(id) ||
  configuration.outgoing.includes(id) ||
  configuration.learners.includes(id);

/** Whether those who are `in` decide: more than half of each half that is not empty. */
export function isQuorum(
  { voters, outgoing }: Configuration,
  includes: (id: ReplicaId) => boolean,
): boolean {
  return majorityIn(voters, includes) && (outgoing.length === 0 || majorityIn(outgoing, includes));
}

function majorityIn(ids: readonly ReplicaId[], includes: (id: ReplicaId) => boolean): boolean {
  let count = 0;
  for (const id of ids) if (includes(id)) count++;
  return 2 * count > ids.length;
}

/** `next` was committed behind `previous`. */
export function checkSuccession(previous: Configuration, next: Configuration): void {
  checkIds(previous, next);
  const voters = [
    ...new Set([...previous.voters, ...previous.outgoing, ...next.voters, ...next.outgoing]),
  ];
  // If any quorum of one misses a quorum of the other, then so does its complement.
  for (let subset = 0; subset < 2 ** voters.length; subset++) {
    const chosen = new Set(voters.filter((_, i) => (subset >> i) & 1));
    if (!isQuorum(previous, (id) => chosen.has(id))) continue;
    if (!isQuorum(next, (id) => !chosen.has(id))) continue;
    violated("configurations overlap", `${show(previous)} and then ${show(next)}`);
  }
}

function checkIds(previous: Configuration, next: Configuration): void {
  if (next.highestId < previous.highestId) {
    violated("replica ids are never reused", `highest id ${show(previous)} then ${show(next)}`);
  }
  const before = everyoneIn(previous);
  for (const id of everyoneIn(next)) {
    if (id > next.highestId || (!before.has(id) && id <= previous.highestId)) {
      violated("replica ids are never reused", `${id}: ${show(previous)}, then ${show(next)}`);
    }
  }
}

export function show({
  voters,
  outgoing,
  learners,
  learnersNext,
  highestId,
}: Configuration): string {
  const part = (title: string, ids: readonly ReplicaId[]) =>
    ids.length === 0 ? "" : ` ${title} ${ids.join(" ")}`;
  const parts = [
    part("out", outgoing),
    part("learners", learners),
    part("then learners", learnersNext),
  ];
  return `{${voters.join(" ")}${parts.join("")} ids ≤ ${highestId}}`;
}
