import { describe, expect, it } from "vitest";
import type { ReplicaId } from "#shared/ids.ts";
import type { RaftStatus } from "#storage-node/raft/types.ts";
import { Role } from "#storage-node/raft/types.ts";
import { groupFigures } from "./group-figures.ts";

const replica = (id: number) => id as ReplicaId;
const SELF = replica(1);

/** A group that this replica leads; `answering` are the others that do. */
function led(voters: readonly number[], answering: readonly number[], outgoing: number[] = []) {
  const others = [...new Set([...voters, ...outgoing])].filter((id) => id !== 1);
  const status = {
    ...{ role: Role.Leader, leader: SELF, commit: 10, lastIndex: 12 },
    configuration: {
      voters: voters.map(replica),
      outgoing: outgoing.map(replica),
      learners: [],
    },
    peers: others.map((id) => ({
      ...{ id: replica(id), match: 12 - id, recentlyActive: answering.includes(id) },
    })),
  } as unknown as RaftStatus;
  return { status, self: SELF, appliedIndex: 7 };
}

describe("groupFigures()", () => {
  it.each([
    ["one voter", led([1], []), 0],
    ["all of three", led([1, 2, 3], [2, 3]), 0],
    ["two of three", led([1, 2, 3], [2]), 1],
    ["four of five", led([1, 2, 3, 4, 5], [2, 3, 4]), 0],
    ["three of five", led([1, 2, 3, 4, 5], [2, 3]), 1],
    ["two of two", led([1, 2], [2]), 0],
    ["an outgoing half of which one is gone", led([1, 2, 3], [2, 3], [1, 2, 4]), 1],
  ])("says of %s whether the quorum is at risk", (_, group, atRisk) => {
    expect(groupFigures([group]).quorumAtRisk).toBe(atRisk);
  });

  it("sums up groups, and takes the worst lag", () => {
    const follower = {
      status: { role: Role.Follower, leader: 0, commit: 3, peers: [] } as unknown as RaftStatus,
      ...{ self: SELF, appliedIndex: 3 },
    };
    expect(groupFigures([led([1, 2, 3], [2, 3]), follower])).toEqual({
      ...{ groups: 2, led: 1, withoutLeader: 1, quorumAtRisk: 0 },
      ...{ applyLagEntries: 3, followerLagEntries: 3 },
    });
  });
});
