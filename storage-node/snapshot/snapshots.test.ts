/** Whole transfers between nodes: a member that needs what its leader has compacted gets a snapshot. */
import { afterEach, describe, expect, it } from "vitest";
import { nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { SNAPSHOT_RESUME_WITHIN_MS, SNAPSHOT_STALL_TIMEOUT_MS } from "#shared/limits.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { decodeFrame, encodeFrame, type Frame, Verdict } from "./frames.ts";
import { GROUP, SnapshotCluster } from "./testing/cluster.ts";
import { becomesEven, laggingCluster, watchFrames } from "./testing/lagging.ts";
import { SlowEngine } from "./testing/slow-engine.ts";

let cluster: SnapshotCluster;
afterEach(() => {
  expect(cluster.fatal).toEqual([]);
});

const nothingStaged = (id: number): void => expect(cluster.staged(id)).toEqual([]);

describe("NodeSnapshots", () => {
  it.each([
    ["that answers at once", (_id: number, engine: Engine) => engine],
    ["that answers later", (_id: number, engine: Engine) => new SlowEngine(engine)],
  ])("bring a lagging member up while writes go on, with an engine %s", async (_how, engine) => {
    cluster = await laggingCluster({ engine });
    cluster.cutOff.clear();
    let written = 0;
    await cluster.until(() => {
      if (written < 40) cluster.put(1, `meanwhile ${written++}`, "x".repeat(50));
      return written === 40 && cluster.isEven;
    });
    await becomesEven(cluster);
    expect(await cluster.peek(3, "key 7")).toBe("value 7 ");
    expect(await cluster.peek(3, "early 1")).toBeUndefined();
    expect(await cluster.peek(3, "meanwhile 39")).toBe("x".repeat(50));
    expect(cluster.streams.opened).toBe(1);
    nothingStaged(3);
    // What came meanwhile is behind the snapshot in the leader's log, and has to stay there.
    const { keepLogUntilMs } = cluster.node(1).replica;
    expect(keepLogUntilMs).toBeGreaterThan(cluster.clock.monotonicMs());
    const { logStart } = cluster.node(3).replica.raft;
    expect(logStart.index).toBeGreaterThan(15);
  });

  it("make a new learner out of nothing, members included", async () => {
    cluster = await laggingCluster();
    cluster.cutOff.clear();
    const learner = { replica: 4 as ReplicaId, to: "learner" } as const;
    expect(cluster.node(1).replica.raft.proposeConfiguration([learner])).toMatchObject({
      kind: "accepted",
    });
    cluster.node(1).loop.markDirty(cluster.node(1).replica);
    await cluster.start(4);
    await cluster.until(() => cluster.isEven);
    const { raft } = cluster.node(4).replica;
    expect(raft.configuration).toEqual(cluster.node(1).replica.raft.configuration);
    expect((await cluster.hashOf(4)).hash).toBe((await cluster.hashOf(1)).hash);
    nothingStaged(4);
  });

  it("survive a restart of the receiver once installed", async () => {
    cluster = await laggingCluster();
    await becomesEven(cluster);
    const { fs, engineDisk } = cluster.disks.get(3)!;
    const after = fs.crash({ sector: () => false, name: () => false });
    cluster.kill(3, { fs: after, engineDisk });
    await cluster.start(3);
    await cluster.putAll(1, 3, "after");
    await becomesEven(cluster);
  });

  it("go on where a stream broke off, and send no chunk twice that was confirmed", async () => {
    cluster = await laggingCluster();
    const chunks = new Map<number, number>();
    const frames = watchFrames(cluster, (frame, bytes) => {
      if (frame.kind === "rows") {
        chunks.set(frame.sequence, (chunks.get(frame.sequence) ?? 0) + 1);
        // Each stream breaks after a few chunks.
        if ([...chunks.values()].reduce((sum, count) => sum + count, 0) % 4 === 0) return "cut";
      }
      return bytes;
    });
    await becomesEven(cluster);
    const openings = frames.filter(({ kind }) => kind === "open");
    expect(openings.length).toBeGreaterThan(3);
    expect(new Set(openings.map((open) => JSON.stringify(open))).size).toBe(1);
    const sent = [...chunks.values()].reduce((sum, count) => sum + count, 0);
    // The one that was lost with its stream, and those confirmed in the same moment.
    expect(sent).toBeLessThan(chunks.size + 4 * openings.length);
  });

  it("go on after a restart of the receiver with what is intact in its file", async () => {
    cluster = await laggingCluster();
    let arrived = 0;
    watchFrames(cluster, (frame, bytes) => {
      if (frame.kind === "rows") arrived++;
      return arrived >= 6 && frame.kind !== "next" ? "lost" : bytes;
    });
    cluster.cutOff.clear();
    await cluster.until(() => arrived >= 6);
    await cluster.steps(3);
    const { fs, engineDisk } = cluster.disks.get(3)!;
    const part = fs.paths.find((path) => path.endsWith(".part"))!;
    const left = fs.restarted();
    // The last chunk was written in part.
    left.put(part, left.content(part).slice(0, -5));
    cluster.kill(3, { fs: left, engineDisk });
    await cluster.start(3);
    const frames = watchFrames(cluster, (_frame, bytes) => bytes);
    await becomesEven(cluster);
    const next = frames.find(({ kind }) => kind === "next");
    expect(next).toEqual({ kind: "next", sequence: 4 });
  });

  it("begin again with another view when the sender kept none for so long", async () => {
    cluster = await laggingCluster();
    let arrived = 0;
    const frames = watchFrames(cluster, (frame, bytes) => {
      if (frame.kind !== "rows") return bytes;
      if (++arrived === 4) cluster.cutOff.add(3);
      return arrived === 4 ? "cut" : bytes;
    });
    cluster.cutOff.clear();
    await cluster.until(() => arrived === 4);
    await cluster.putAll(1, 3, "later");
    await cluster.steps((SNAPSHOT_RESUME_WITHIN_MS * 2) / 10);
    nothingStaged(3);
    expect(cluster.node(1).snapshots.counts.sending).toBe(0);
    await becomesEven(cluster);
    const indexes = frames.flatMap((frame) => (frame.kind === "open" ? [frame.snapshotIndex] : []));
    expect(new Set(indexes).size).toBe(2);
  });

  it("are refused, and sent anew, when a chunk is not as it was sent", async () => {
    cluster = await laggingCluster();
    let damaged = 0;
    const frames = watchFrames(cluster, (frame, bytes) => {
      if (frame.kind !== "rows" || frame.sequence !== 5 || damaged++ > 0) return bytes;
      const other = Uint8Array.from(bytes);
      other[bytes.length - 1] = bytes[bytes.length - 1]! ^ 1;
      return other;
    });
    await becomesEven(cluster);
    expect(damaged).toBeGreaterThan(0);
    const verdicts = frames.flatMap((frame) => (frame.kind === "over" ? [frame.verdict] : []));
    expect(verdicts).toEqual([Verdict.Refused, Verdict.Received]);
    expect(frames.filter(({ kind }) => kind === "open")).toHaveLength(2);
    nothingStaged(3);
  });

  it("are refused, and sent anew, when less came than was sent", async () => {
    cluster = await laggingCluster();
    let ends = 0;
    const frames = watchFrames(cluster, (frame, bytes) =>
      frame.kind === "end" && ends++ === 0
        ? encodeFrame({ ...frame, rows: frame.rows + 1 })
        : bytes,
    );
    await becomesEven(cluster);
    const verdicts = frames.flatMap((frame) => (frame.kind === "over" ? [frame.verdict] : []));
    expect(verdicts).toEqual([Verdict.Refused, Verdict.Received]);
    expect(cluster.transferErrors).toMatchObject([{ code: "DATA_CORRUPT" }]);
  });

  it("report a failure in bounded time when the receiver says nothing", async () => {
    cluster = await laggingCluster();
    let answers = 0;
    watchFrames(cluster, (frame, bytes) => {
      if (frame.kind !== "next" && frame.kind !== "over") return bytes;
      answers++;
      return "lost";
    });
    cluster.cutOff.clear();
    const progress = () =>
      cluster
        .node(1)
        .replica.raft.status()
        .peers.find(({ id }) => id === 3)!;
    await cluster.until(() => progress().pendingSnapshot > 0);
    const first = progress().pendingSnapshot;
    await cluster.putAll(1, 2, "later");
    const stepsMax = (SNAPSHOT_RESUME_WITHIN_MS + 2 * SNAPSHOT_STALL_TIMEOUT_MS) / 10;
    await cluster.until(() => progress().pendingSnapshot !== first, stepsMax);
    expect(answers).toBeGreaterThan(1);
    cluster.streams.onMessage = (bytes) => bytes;
    await becomesEven(cluster);
  });

  it("count as received when the last answer is lost", async () => {
    cluster = await laggingCluster();
    let lost = 0;
    watchFrames(cluster, (frame, bytes) => (frame.kind === "over" && lost++ === 0 ? "cut" : bytes));
    await becomesEven(cluster);
    expect(lost).toBeGreaterThan(0);
    await cluster.until(() => cluster.node(1).snapshots.counts.sending === 0);
  });

  it("are given up when the sender no longer leads", async () => {
    cluster = await laggingCluster();
    let arrived = 0;
    watchFrames(cluster, (frame, bytes) => {
      if (frame.kind === "rows" && ++arrived >= 4) cluster.streams.isStuck = true;
      return bytes;
    });
    cluster.cutOff.clear();
    await cluster.until(() => arrived >= 4);
    cluster.node(1).replica.raft.transferLeadership(2 as ReplicaId);
    cluster.node(1).loop.markDirty(cluster.node(1).replica);
    await cluster.until(() => cluster.node(2).replica.isLeader);
    cluster.streams.isStuck = false;
    await cluster.until(() => cluster.node(1).snapshots.counts.sending === 0, 20);
    // The new leader still has the entries, or sends one of its own.
    await cluster.putAll(2, 2, "later");
    await becomesEven(cluster);
    expect(cluster.staged(3)).toHaveLength(1);
    await cluster.steps(SNAPSHOT_RESUME_WITHIN_MS / 10);
    nothingStaged(3);
  });

  it("do not fill the receiver's disk", async () => {
    cluster = await laggingCluster({ reserveBytes: 1_000 });
    const frames = watchFrames(cluster, (_frame, bytes) => bytes);
    cluster.freeBytes = 999;
    cluster.cutOff.clear();
    await cluster.until(() => frames.filter(({ kind }) => kind === "over").length >= 2);
    expect(frames.some(({ kind }) => kind === "rows")).toBe(false);
    nothingStaged(3);
    cluster.freeBytes = 1_000;
    await becomesEven(cluster);
    const verdicts = frames.flatMap((frame) => (frame.kind === "over" ? [frame.verdict] : []));
    expect(verdicts.slice(0, 2)).toEqual([Verdict.Busy, Verdict.Busy]);
  });

  it("refuse reads while rows are being replaced", async () => {
    cluster = await laggingCluster();
    cluster.cutOff.clear();
    const during: Promise<string | undefined>[] = [];
    await cluster.until(() => {
      if (cluster.node(3).replica.installing) during.push(cluster.peek(3, "early 4"));
      return cluster.isEven;
    });
    const seen = new Set(await Promise.all(during));
    expect([...seen]).toEqual(["refused: the replica is leaving or taking over a snapshot"]);
    expect(await cluster.peek(3, "early 4")).toBe(await cluster.peek(1, "early 4"));
  });

  it("refuse a read that has asked the engine before, and is answered after", async () => {
    cluster = await laggingCluster({ engine: (_id, engine) => new SlowEngine(engine) });
    cluster.cutOff.clear();
    const { replica } = cluster.node(3);
    const asked: Promise<string | undefined>[] = [];
    // The last read before the installation meets rows that are being deleted.
    await cluster.until(() => {
      if (!replica.installing) asked.push(cluster.peek(3, "early 4"));
      return replica.installing;
    });
    await becomesEven(cluster);
    for (const found of await Promise.all(asked.slice(-3))) {
      expect([
        "refused: the replica is leaving or taking over a snapshot",
        "value 4 ".repeat(5),
      ]).toContain(found);
    }
  });

  it("refuse a read that was asked before the replica left, and whose rows are being deleted", async () => {
    cluster = await SnapshotCluster.create(3, { engine: (_id, engine) => new SlowEngine(engine) });
    await cluster.putAll(1, 5, "early");
    const { replica } = cluster.node(1);
    const asked = cluster.peek(1, "early 4");
    // What hosting.ts does before it deletes the rows.
    replica.leave();
    expect(await asked).toMatch(/^refused: /);
  });

  it("apply nothing behind the installation that was handed out before", async () => {
    const gate = { isOpen: true };
    cluster = await SnapshotCluster.create(3, {
      engine: (id, engine) => (id === 3 ? new SlowEngine(engine, gate) : engine),
    });
    await cluster.putAll(1, 5, "early");
    await cluster.until(() => cluster.isEven);
    // One round of the receiver waits for its engine, and more entries wait for that round.
    gate.isOpen = false;
    await cluster.putAll(1, 20, "key");
    await cluster.until(() => cluster.node(3).replica.raft.commit >= 12);
    cluster.cutOff.add(3);
    await cluster.putAll(1, 20, "key");
    await cluster.deleteAll(1, 10, "key");
    await cluster.compact(1);
    cluster.cutOff.clear();
    await cluster.until(() => cluster.node(3).replica.installing);
    await cluster.steps(20);
    gate.isOpen = true;
    await becomesEven(cluster);
  });

  it("never make one snapshot of two views", async () => {
    cluster = await laggingCluster();
    const frames: Uint8Array[] = [];
    let arrived = 0;
    cluster.streams.onMessage = (bytes, way) => {
      if (way === "to receiver") frames.push(bytes);
      return way === "to receiver" && ++arrived > 5 ? "cut" : bytes;
    };
    cluster.cutOff.clear();
    await cluster.until(() => arrived > 5);
    // Of the same index, taken by a sender that has begun anew.
    const opening = decodeFrame(frames[0]!) as Frame & { kind: "open" };
    const ask = async (transfer: Uint8Array): Promise<readonly Frame[]> => {
      const answers: Frame[] = [];
      const { near, far } = cluster.streams.open();
      near.listen({
        onMessage: (bytes) => answers.push(decodeFrame(bytes)),
        onDrain: () => {},
        onClosed: () => {},
      });
      cluster.streams.onMessage = (bytes) => bytes;
      cluster.node(3).snapshots.accept(nodeOfReplica(opening.from), far);
      near.write(encodeFrame({ ...opening, transfer }));
      await cluster.until(() => answers.length > 0);
      return answers;
    };
    cluster.cutOff.add(3);
    expect(await ask(opening.transfer)).toEqual([{ kind: "next", sequence: 4 }]);
    expect(await ask(new Uint8Array(16))).toEqual([{ kind: "next", sequence: 0 }]);
    await becomesEven(cluster);
  });
});

describe("NodeSnapshots.stop()", () => {
  it("leaves an installation to the next start, and ends what is sent and received", async () => {
    cluster = await laggingCluster({ chunkBytes: 100 });
    cluster.cutOff.clear();
    await cluster.until(() => cluster.node(3).replica.installing);
    const { snapshots, engine, loop } = cluster.node(3);
    loop.stop();
    let stopped = false;
    void snapshots.stop().then(() => {
      stopped = true;
    });
    await cluster.until(() => stopped, 20);
    expect(cluster.staged(3).filter((name) => name.endsWith(".install"))).toHaveLength(1);
    await engine.close();
    const { fs, engineDisk } = cluster.disks.get(3)!;
    cluster.kill(3, { fs: fs.restarted(), engineDisk });
    await cluster.start(3);
    await cluster.putAll(1, 3, "after");
    await becomesEven(cluster);
    nothingStaged(3);
  });

  it("gives up the sender's view of the engine at once", async () => {
    cluster = await laggingCluster();
    watchFrames(cluster, (frame, bytes) => (frame.kind === "rows" ? "lost" : bytes));
    cluster.cutOff.clear();
    const { snapshots, engine } = cluster.node(1);
    await cluster.until(() => snapshots.counts.sending > 0);
    await cluster.steps(5);
    expect(engine.stats().details.cursors).toBe(1);
    await snapshots.stop();
    expect(engine.stats().details.cursors).toBe(0);
  });
});

describe("NodeSnapshots.forget()", () => {
  it.each(["receiving", "installing"] as const)("ends what is %s", async (when) => {
    cluster = await laggingCluster({ chunkBytes: 100 });
    let arrived = 0;
    watchFrames(cluster, (frame, bytes) => {
      if (frame.kind === "rows") arrived++;
      return bytes;
    });
    cluster.cutOff.clear();
    const { snapshots, replica, wal } = cluster.node(3);
    await cluster.until(() => (when === "receiving" ? arrived > 3 : replica.installing));
    // As in hosting.ts.
    replica.leave();
    let isForgotten = false;
    void snapshots.forget(replica).then(() => {
      isForgotten = true;
    });
    await cluster.until(() => isForgotten, 20);
    await new Promise<void>((resolve) =>
      wal.append([{ kind: "removeGroup", group: GROUP }], resolve),
    );
    await snapshots.forgotten(replica);
    await cluster.steps(50);
    nothingStaged(3);
    // Nothing has brought it back.
    const { fs, engineDisk } = cluster.disks.get(3)!;
    cluster.kill(3, { fs: fs.restarted(), engineDisk });
    expect(await cluster.groupsInLog(3)).toEqual([]);
  });

  it("leaves what an installation needs to a start before the log has forgotten the replica", async () => {
    cluster = await laggingCluster({
      chunkBytes: 100,
      engine: (_id, engine) => new SlowEngine(engine),
    });
    const { snapshots, replica, engine } = cluster.node(3);
    const before = await cluster.hashOf(3);
    cluster.cutOff.clear();
    await cluster.until(() => cluster.staged(3).some((name) => name.endsWith(".install")));
    // Some rows of the old state are gone, or some of the new one have come.
    await cluster.steps(3);
    expect(await cluster.hashOf(3)).not.toEqual(before);
    replica.leave();
    let isForgotten = false;
    void snapshots.forget(replica).then(() => {
      isForgotten = true;
    });
    await cluster.until(() => isForgotten, 50);
    // Killed here: what was written is on disk, the record that removes the replica is not.
    await engine.flush();
    const { fs, engineDisk } = cluster.disks.get(3)!;
    cluster.kill(3, { fs: fs.restarted(), engineDisk });
    await cluster.start(3);
    expect(await cluster.hashOf(3)).toEqual(await cluster.hashOf(1));
  });
});
