import { expect, it } from "vitest";
import type { ReplicaId, Term } from "#shared/ids.ts";
import { RaftWatch } from "./raft-watch.ts";

it("RaftWatch counts terms, and leaders that follow another one", () => {
  const watch = new RaftWatch();
  const raft = { term: 3 as Term, leader: 0 as ReplicaId };
  const see = (term: number, leader: number): void => {
    raft.term = term as Term;
    raft.leader = leader as ReplicaId;
    watch.look({ raft });
  };
  see(3, 0);
  see(4, 1);
  expect([watch.termChanges, watch.leaderChanges]).toEqual([1, 0]);
  see(4, 1);
  see(6, 0);
  see(6, 2);
  expect([watch.termChanges, watch.leaderChanges]).toEqual([3, 1]);
  // The same one again, after nobody.
  see(7, 0);
  see(7, 2);
  expect([watch.termChanges, watch.leaderChanges]).toEqual([4, 1]);
});
