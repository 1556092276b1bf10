/** The mistakes to plant, by number, and all mutations that plant them. */
import type { Mutation } from "./mutation.ts";
import { CHANGES_MUTATIONS } from "./mutations-changes.ts";
import { ELECTION_MUTATIONS } from "./mutations-election.ts";
import { LOG_MUTATIONS } from "./mutations-log.ts";
import { MEMBERSHIP_MUTATIONS } from "./mutations-membership.ts";
import { SNAPSHOT_MUTATIONS } from "./mutations-snapshot.ts";
import { STORE_MUTATIONS } from "./mutations-store.ts";

export const BUGS: ReadonlyMap<number, string> = new Map([
  [1, "entries of an earlier term are committed by counting copies"],
  [2, "a vote is used before it is on disk"],
  [3, "a second vote in a term, after stepping down or for a transfer"],
  [4, "entries are acknowledged before they are on disk"],
  [5, "a late or repeated append cuts acknowledged entries off"],
  [6, "a follower commits beyond what it knows to match"],
  [7, "a stale read, from a deposed leader or from a new one"],
  [8, "confirmations of an earlier read are counted for a later one"],
  [9, "a snapshot replaces a newer log, or leaves a conflicting rest of it"],
  [10, "after a restart the log does not fit the snapshot"],
  [11, "a membership is counted under the wrong quorum"],
  [12, "a replica stands for election with a membership that it has not applied"],
  [13, "a learner that has not heard of its promotion refuses to vote"],
  [14, "a write of an earlier term is taken to vouch for newer entries"],
  [15, "old replies move what is known of a follower backwards"],
  [16, "a client is told that its overwritten entry was applied"],
  [17, "a repeated request is applied twice"],
  [18, "a write error is swallowed"],
  [19, "a torn end is taken for damage, or damage for a torn end"],
  [20, "the applied index is not written together with what was applied"],
  [21, "applying an entry depends on more than the entries before it"],
  [22, "elections that never end, or never begin"],
  [23, "the window of unanswered appends is never emptied"],
  [24, "a replica that has lost its log, or its life, comes back under its old id"],
  [25, "a file is synced, and its name is not"],
  [26, "a follower of changes misses some, or waits where none will come"],
]);

/** In order of the bugs. */
export const MUTATIONS: readonly Mutation[] = [
  ...ELECTION_MUTATIONS,
  ...LOG_MUTATIONS,
  ...MEMBERSHIP_MUTATIONS,
  ...SNAPSHOT_MUTATIONS,
  ...STORE_MUTATIONS,
  ...CHANGES_MUTATIONS,
].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
