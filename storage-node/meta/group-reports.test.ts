/** Reports of replicas: kept while they would be the same, and never a moment longer. */
import { expect, it } from "vitest";
import type { LogIndex, Term } from "#shared/ids.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { GroupReports } from "./group-reports.ts";

const COUNTERS = { bytes: 10, objects: 1 };

function replicaWith(peers: readonly object[]) {
  const configuration = {
    voters: [1n],
    outgoing: [],
    learners: [],
    learnersNext: [],
    highestId: 1,
  };
  return {
    group: 7,
    isLeader: true,
    alone: peers.length === 0,
    applied: { index: 5 as LogIndex, term: 2 as Term },
    raft: {
      id: 1,
      term: 2,
      leader: 1,
      commit: 5,
      lastIndex: 5,
      configurationSettled: true,
      status: () => ({ peers, configuration }),
    },
    machine: { counters: () => new Map([["tenant", COUNTERS]]) },
  };
}

const asReplica = (fake: object): Replica => fake as Replica;

it("answers the same report while nothing has happened, and a new one after each thing that may", () => {
  const reports = new GroupReports();
  const fake = replicaWith([]);
  const replica = asReplica(fake);
  let last = reports.of(replica);
  expect(reports.of(replica)).toBe(last);
  const changes: (() => void)[] = [
    () => (fake.raft.term = 3),
    () => (fake.raft.leader = 9),
    () => (fake.raft.commit = 6),
    () => (fake.raft.lastIndex = 6),
    () => (fake.raft.configurationSettled = false),
    () => (fake.applied = { ...fake.applied, index: 6 as LogIndex }),
    () => (fake.isLeader = false),
  ];
  for (const change of changes) {
    change();
    const next = reports.of(replica);
    expect(next, String(change)).not.toBe(last);
    expect(next, String(change)).not.toEqual(last);
    expect(reports.of(replica)).toBe(next);
    last = next;
  }
});

it("asks a leader each time how the others stand", () => {
  const reports = new GroupReports();
  const peer = { id: 2, match: 4, commit: 4, recentlyActive: true, state: "replicate" };
  const replica = asReplica(replicaWith([peer]));
  expect(reports.of(replica).members[0]!.matchIndex).toBe(4n);
  peer.match = 5;
  expect(reports.of(replica).members[0]!.matchIndex).toBe(5n);
});
