/** Sending snapshots: few at once, within the bandwidth, and without harm to the node. */
import { afterEach, describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import type { ReplicaId } from "#shared/ids.ts";
import { SNAPSHOTS_SENT_AT_ONCE_MAX } from "#shared/limits.ts";
import type { EngineSnapshot } from "#storage-node/engine/engine.ts";
import { SnapshotCluster } from "./testing/cluster.ts";
import { becomesEven, laggingCluster, watchFrames } from "./testing/lagging.ts";
import { SlowEngine } from "./testing/slow-engine.ts";

let cluster: SnapshotCluster;
afterEach(() => {
  expect(cluster.fatal).toEqual([]);
});

describe("SnapshotSender", () => {
  it("sends few at once, and the others in turn", async () => {
    cluster = await SnapshotCluster.create(5);
    await cluster.putAll(1, 10, "early");
    // Two are enough for the quorum of three with the leader.
    for (const id of [4, 5]) cluster.cutOff.add(id);
    await cluster.putAll(1, 40, "key");
    await cluster.until(() => [2, 3].every((id) => isUpToDate(id)));
    await cluster.compact(1);
    const learners = [6, 7, 8].map((id) => ({ replica: id as ReplicaId, to: "learner" }) as const);
    cluster.node(1).replica.raft.proposeConfiguration(learners);
    cluster.node(1).loop.markDirty(cluster.node(1).replica);
    await cluster.steps(20);
    await cluster.compact(1);
    cluster.cutOff.clear();
    for (const id of [6, 7, 8]) await cluster.start(id);
    let most = 0;
    await cluster.until(() => {
      most = Math.max(most, cluster.node(1).snapshots.counts.sending);
      return cluster.isEven;
    });
    expect(most).toBe(SNAPSHOTS_SENT_AT_ONCE_MAX);
    for (const id of [4, 5, 6, 7, 8]) {
      expect(await cluster.hashOf(id)).toEqual(await cluster.hashOf(1));
    }
  });

  it("costs a member its snapshot, and not the node, when a row cannot be read", async () => {
    let failures = 0;
    class Unreadable extends SlowEngine {
      override snapshot(): EngineSnapshot {
        const view = this.inner.snapshot();
        if (failures >= 2) return view;
        const iterate = () => {
          failures++;
          throw new KvError("DATA_CORRUPT", "a block is damaged");
        };
        return { get: (key) => view.get(key), close: () => view.close(), iterate };
      }
    }
    cluster = await laggingCluster({
      engine: (id, engine) => (id === 1 ? new Unreadable(engine) : engine),
    });
    await becomesEven(cluster);
    expect(failures).toBe(2);
    expect(cluster.transferErrors).toMatchObject([
      { code: "DATA_CORRUPT" },
      { code: "DATA_CORRUPT" },
    ]);
  });

  it("keeps to its bytes per second", async () => {
    cluster = await laggingCluster({ bytesPerSecond: 10_000 });
    let bytesSent = 0;
    watchFrames(cluster, (frame, bytes) => {
      if (frame.kind === "rows") bytesSent += bytes.length;
      return bytes;
    });
    cluster.cutOff.clear();
    await cluster.until(() => bytesSent > 0);
    const startMs = cluster.clock.monotonicMs();
    await becomesEven(cluster);
    const tookMs = cluster.clock.monotonicMs() - startMs;
    expect(bytesSent).toBeGreaterThan(5_000);
    // A burst at the start, and a chunk that may leave before it is paid for.
    expect(bytesSent).toBeLessThan(10_000 * ((tookMs + 100) / 1000) + 1_000);
  });
});

const isUpToDate = (id: number): boolean =>
  cluster.node(id).replica.applied.index === cluster.node(1).replica.applied.index;
