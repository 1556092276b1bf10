import { describe, expect, it } from "vitest";
import type { GroupReplica, Placement } from "#shared/cluster-map.ts";
import type { GroupId, NodeId, ReplicaId } from "#shared/ids.ts";
import { replicaIdOf, sequenceOfReplica } from "#shared/ids.ts";
import type { Configuration } from "#storage-node/raft/types.ts";
import type { MemberObservation } from "./placement/types.ts";
import { reconcile } from "./reconcile.ts";

const id = (node: number, sequence = 0): ReplicaId => replicaIdOf(node as NodeId, sequence);
const [A, B, C] = [id(1), id(2), id(3)];
const D = id(4, 1);

function placement(roles: string, preferredLeader = 1): Placement {
  const ids: Record<string, ReplicaId> = { A, B, C, D };
  const replicas = roles.split(" ").map((text): GroupReplica => {
    const role = { v: "voter", l: "learner", x: "leaving" } as const;
    return { replica: ids[text[0]!]!, role: role[text[1] as "v"] };
  });
  return {
    group: 7 as GroupId,
    replicas,
    lastSequence: 1,
    preferredLeader: preferredLeader as NodeId,
  };
}

function configuration(
  voters: readonly ReplicaId[],
  learners: readonly ReplicaId[] = [],
): Configuration {
  const highestId = [...voters, ...learners].reduce((a, b) => (a > b ? a : b));
  return { voters, outgoing: [], learners, learnersNext: [], highestId };
}

const members = (late: readonly ReplicaId[] = []): Map<ReplicaId, MemberObservation> =>
  new Map(
    [A, B, C, D].map((member) => [member, { caughtUp: !late.includes(member), active: true }]),
  );

const wait = { kind: "wait", reason: expect.any(String) };

describe("reconcile()", () => {
  it("has nothing to do when the group is as its row says", () => {
    expect(reconcile(placement("Av Bv Cv"), A, configuration([A, B, C]), true, members())).toEqual({
      kind: "none",
    });
  });

  it("adds a learner, promotes it while it removes the leaving one, and removes what is left over", () => {
    const before = configuration([A, B, C]);
    expect(reconcile(placement("Av Bv Cv Dl"), A, before, true, members())).toEqual({
      kind: "change",
      changes: [{ replica: D, to: "learner" }],
    });
    const learning = configuration([A, B, C], [D]);
    expect(reconcile(placement("Av Bv Cx Dv"), A, learning, true, members())).toEqual({
      kind: "change",
      changes: [
        { replica: D, to: "voter" },
        { replica: C, to: "removed" },
      ],
    });
    expect(reconcile(placement("Av Bv Cv"), A, learning, true, members())).toEqual({
      kind: "change",
      changes: [{ replica: D, to: "removed" }],
    });
  });

  it("waits for a change under way, for the new voter, and for a quorum of what will be left", () => {
    const row = placement("Av Bv Cx Dv");
    const learning = configuration([A, B, C], [D]);
    expect(reconcile(row, A, learning, false, members())).toEqual(wait);
    const joint = { ...learning, outgoing: [A, B] };
    expect(reconcile(row, A, joint, true, members())).toEqual(wait);
    expect(reconcile(row, A, learning, true, members([D]))).toEqual(wait);
    const smaller = placement("Av Bv Cx");
    expect(reconcile(smaller, A, configuration([A, B, C]), true, members([B]))).toEqual(wait);
  });

  it("waits when the configuration is newer than the row", () => {
    const newer = configuration([A, B, id(5, 2)]);
    expect(reconcile(placement("Av Bv Cv"), A, newer, true, members())).toEqual(wait);
    expect(sequenceOfReplica(id(5, 2))).toBeGreaterThan(placement("Av").lastSequence);
  });

  it("does not add an id that was used before", () => {
    const used = { ...configuration([A, B, C]), highestId: D };
    expect(reconcile(placement("Av Bv Cv Dl"), A, used, true, members())).toEqual({ kind: "none" });
  });

  it("hands leadership over before the leader leaves, and leaves alone only when it must", () => {
    const row = placement("Ax Bv Cv Dv", 3);
    const learning = configuration([A, B, C], [D]);
    expect(reconcile(row, A, learning, true, members())).toEqual({ kind: "transfer", to: C });
    expect(reconcile(row, A, learning, true, members([C]))).toEqual({ kind: "transfer", to: B });
    const single = placement("Ax Dv", 4);
    expect(reconcile(single, A, configuration([A], [D]), true, members())).toEqual({
      kind: "change",
      changes: [
        { replica: D, to: "voter" },
        { replica: A, to: "removed" },
      ],
    });
  });

  it("passes over those that leadership could not be handed to, and goes by itself after all of them", () => {
    const row = placement("Ax Bv Cv Dv", 3);
    const learning = configuration([A, B, C], [D]);
    const without = (...tried: ReplicaId[]) =>
      reconcile(row, A, learning, true, members(), new Set(tried));
    expect(without(C)).toEqual({ kind: "transfer", to: B });
    expect(without(B, C)).toEqual({
      kind: "change",
      changes: [
        { replica: D, to: "voter" },
        { replica: A, to: "removed" },
      ],
    });
    const calm = placement("Av Bv Cv", 2);
    const three = configuration([A, B, C]);
    expect(reconcile(calm, A, three, true, members(), new Set([B]))).toEqual({ kind: "none" });
  });

  it("hands leadership to the preferred leader, once that one could lead at once", () => {
    const row = placement("Av Bv Cv", 2);
    const three = configuration([A, B, C]);
    expect(reconcile(row, A, three, true, members())).toEqual({ kind: "transfer", to: B });
    expect(reconcile(row, A, three, true, members([B]))).toEqual({ kind: "none" });
    expect(reconcile(row, B, three, true, members())).toEqual({ kind: "none" });
  });

  it("changes members before it hands leadership over, but does not wait with that", () => {
    const row = placement("Av Bv Cv Dl", 2);
    const three = configuration([A, B, C]);
    expect(reconcile(row, A, three, true, members())).toEqual({
      kind: "change",
      changes: [{ replica: D, to: "learner" }],
    });
    const promoting = placement("Av Bv Cx Dv", 2);
    const learning = configuration([A, B, C], [D]);
    expect(reconcile(promoting, A, learning, true, members([D]))).toEqual({
      kind: "transfer",
      to: B,
    });
  });
});
