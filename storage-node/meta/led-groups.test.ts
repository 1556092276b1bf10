import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap, type Placement } from "#shared/cluster-map.ts";
import { type GroupId, type NodeId, type ReplicaId, replicaIdOf, toNodeId } from "#shared/ids.ts";
import { LEADER_TRANSFER_RETRY_MS_MAX, TICK_MS } from "#shared/limits.ts";
import type { MemberChange } from "#storage-node/raft/types.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { LedGroups } from "./led-groups.ts";
import { makeNode } from "./testing/fixtures.ts";

const [A, B, C] = [1, 2, 3].map((id) => replicaIdOf(toNodeId(id), 0)) as [
  ReplicaId,
  ReplicaId,
  ReplicaId,
];
/** Ticks until an attempt is given up. */
const ATTEMPT_TICKS = 10;

/** Vshard 7, led by node 1, whose attempts to hand leadership over all come to nothing. */
function setUp(change: Partial<Placement>) {
  const clock = new ManualClock();
  const base = fullyReplicatedMap("c", [makeNode(1), makeNode(2), makeNode(3)]);
  const row = { ...base.placements[7]!, lastSequence: 1, ...change };
  const map = { ...base, placements: base.placements.with(7, row) };
  const transfers: { readonly to: ReplicaId; readonly atMs: number }[] = [];
  const changes: (readonly MemberChange[])[] = [];
  const startMs = clock.monotonicMs();
  const state = { term: 3, transferee: 0, ticksLeft: 0, isLeader: true };
  const configuration = {
    voters: [A, B, C],
    outgoing: [],
    learners: [],
    learnersNext: [],
    highestId: C,
  };
  const peer = (id: ReplicaId) => ({ id, state: "replicate", match: 9, recentlyActive: true });
  const raft = {
    id: A,
    get term() {
      return state.term;
    },
    configuration,
    configurationSettled: true,
    status: () => ({ transferee: state.transferee, lastIndex: 9, peers: [peer(B), peer(C)] }),
    proposeConfiguration: (next: readonly MemberChange[]) => changes.push(next),
    transferLeadership(to: ReplicaId) {
      transfers.push({ to, atMs: clock.monotonicMs() - startMs });
      state.transferee = to;
      state.ticksLeft = ATTEMPT_TICKS;
      return { kind: "started" };
    },
  };
  const replica = {
    group: 7 as GroupId,
    raft,
    get isLeader() {
      return state.isLeader;
    },
  } as unknown as Replica;
  const groups = new LedGroups({
    nodeId: toNodeId(1),
    host: { hosted: [replica], markDirty: () => {} },
    maps: { current: map },
    clock,
  });
  const pass = (ms: number): void => {
    for (let passed = 0; passed < ms; passed += TICK_MS) {
      groups.reconcile();
      clock.advance(TICK_MS);
      if (state.transferee !== 0 && --state.ticksLeft === 0) state.transferee = 0;
    }
  };
  return { pass, transfers, changes, state };
}

describe("LedGroups", () => {
  it("tries to hand leadership to the preferred leader less and less often, and never gives it up", () => {
    const { pass, transfers } = setUp({ preferredLeader: 2 as NodeId });
    pass(10 * LEADER_TRANSFER_RETRY_MS_MAX);
    expect(new Set(transfers.map(({ to }) => to))).toEqual(new Set([B]));
    // Doubling to the longest pause, and then that: of 6,000 ticks only a few begin an attempt.
    expect(transfers.length).toBeGreaterThan(10);
    expect(transfers.length).toBeLessThan(20);
    const pauses = transfers.slice(1).map(({ atMs }, i) => atMs - transfers[i]!.atMs);
    expect(pauses).toEqual(pauses.toSorted((a, b) => a - b));
  });

  it("tries another voter when it has to go, and goes without a successor after all of them", () => {
    const leaving = [
      { replica: A, role: "leaving" as const },
      { replica: B, role: "voter" as const },
      { replica: C, role: "voter" as const },
    ];
    const { pass, transfers, changes } = setUp({ replicas: leaving, preferredLeader: 2 as NodeId });
    pass(TICK_MS * (2 * ATTEMPT_TICKS + 2));
    expect(transfers.map(({ to }) => to)).toEqual([B, C]);
    expect(changes[0]).toEqual([{ replica: A, to: "removed" }]);
  });

  it("begins anew when it leads again", () => {
    const { pass, transfers, state } = setUp({ preferredLeader: 2 as NodeId });
    pass(TICK_MS);
    expect(transfers).toHaveLength(1);
    Object.assign(state, { transferee: 0, term: 5 });
    pass(TICK_MS);
    expect(transfers).toHaveLength(2);
    Object.assign(state, { transferee: 0, isLeader: false });
    pass(TICK_MS);
    Object.assign(state, { isLeader: true });
    pass(TICK_MS);
    expect(transfers).toHaveLength(3);
  });
});
