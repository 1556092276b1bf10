import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ReportRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { GroupId, ReplicaId } from "#shared/ids.ts";
import { toNodeId } from "#shared/ids.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";
import { Reports } from "./reports.ts";

const [ONE, TWO] = [toNodeId(1), toNodeId(2)];
const REBUILD_AFTER_MS = 60_000;

const report = (groups: readonly object[] = []) =>
  create(ReportRequestSchema, { nodeId: ONE, writable: true, groups: [...groups] });

const lookOften = (reports: Reports): void => {
  for (let looks = 0; looks < 20; looks++) reports.look();
};

describe("Reports", () => {
  it("does not take a pause of this node for the silence of others", () => {
    const reports = new Reports();
    reports.begin(0);
    reports.take(report(), 0);
    const afterMs = NODE_SILENT_MS + 1;
    // It stood still. What has come meanwhile is not read yet.
    reports.look();
    expect(reports.nodes([ONE, TWO], afterMs, 1)).toEqual(
      new Map([[ONE, expect.objectContaining({ answering: true, lost: false })]]),
    );
    const group = { group: 7, replicaId: 1n, leaderReplicaId: 1n, voters: [1n] };
    reports.take(report([group]), 0);
    expect(reports.groups(afterMs).size).toBe(1);
    lookOften(reports);
    const found = reports.nodes([ONE, TWO], afterMs, 1);
    expect([...found.values()]).toMatchObject([
      { answering: false, lost: true },
      { answering: false, lost: true },
    ]);
    expect(reports.groups(afterMs).size).toBe(0);
  });

  it("says nothing of a node that a new leader has not heard of yet", () => {
    const reports = new Reports();
    reports.begin(1000);
    reports.take(report(), 1000);
    const soon = reports.nodes([ONE, TWO], 1000 + NODE_SILENT_MS - 1, REBUILD_AFTER_MS);
    expect([...soon.keys()]).toEqual([ONE]);
    lookOften(reports);
    const later = reports.nodes([ONE, TWO], 1000 + NODE_SILENT_MS, REBUILD_AFTER_MS);
    expect(later.get(TWO)).toMatchObject({ answering: false, lost: false });
    const muchLater = reports.nodes([ONE, TWO], 1000 + REBUILD_AFTER_MS, REBUILD_AFTER_MS);
    expect(muchLater.get(TWO)).toMatchObject({ answering: false, lost: true });
  });

  it("calls a node slow well above the others, until it is well below that again", () => {
    const reports = new Reports();
    const isSlow = (syncMillis: number, others = 2) => {
      for (const [nodeId, millis] of [
        [2, others],
        [3, others],
        [1, syncMillis],
      ] as const) {
        reports.take(create(ReportRequestSchema, { nodeId, syncMicros: millis * 1000 }), 0);
      }
      return reports.nodes([ONE], 0, REBUILD_AFTER_MS).get(ONE)!.slow;
    };
    const around = [90, 110, 90, 110, 60, 90, 49, 90, 99].map((millis) => isSlow(millis));
    expect(around).toEqual([false, true, true, true, true, true, false, false, false]);
    // All disks are like that: nobody would lead better.
    expect([isSlow(110, 20), isSlow(210, 20), isSlow(110, 20), isSlow(90, 20)]).toEqual([
      ...[false, true, true, false],
    ]);
  });

  it("forgets nodes that were removed", () => {
    const reports = new Reports();
    reports.take(create(ReportRequestSchema, { nodeId: ONE }), 0);
    reports.take(create(ReportRequestSchema, { nodeId: TWO }), 0);
    reports.keepOnly([TWO]);
    expect([...reports.all().keys()]).toEqual([TWO]);
  });

  // In a group with a short log it is not far behind, and would vote with nothing at all.
  it("takes no member for caught up that has never answered", () => {
    const reports = new Reports();
    const members = [
      { replicaId: 2n, matchIndex: 0n, active: true },
      { replicaId: 3n, matchIndex: 1n, active: true },
    ];
    const group = { group: 7, replicaId: 1n, leaderReplicaId: 1n, lastIndex: 3n, voters: [1n] };
    reports.take(report([{ ...group, members }]), 0);
    const observed = reports.groups(1).get(7 as GroupId)!.members;
    expect(observed.get(2 as ReplicaId)?.caughtUp).toBe(false);
    expect(observed.get(3 as ReplicaId)?.caughtUp).toBe(true);
  });
});
