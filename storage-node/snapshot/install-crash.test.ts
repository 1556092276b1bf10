/**
 * A snapshot is received and installed, and the node ends at every single operation of its files and its
 * engine, in several ways. The next start finds the old state or the new one, whole; the new one if
 * anybody was told of it; and keeps it.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { NodeId } from "#shared/ids.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { MemoryDisk } from "#storage-node/engine/memory.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";
import type { StateHash } from "#storage-node/replica/state-hash.ts";
import type { Keep, MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import { decodeFrame } from "./frames.ts";
import { SnapshotCluster } from "./testing/cluster.ts";

const RECEIVER = 3;
const CHUNK_BYTES = 1_500;
const NEVER = new Promise<never>(() => {});

/** Of the receiver before anything arrives, and what arrives. */
type Scene = {
  readonly fs: MemoryFileSystem;
  readonly engineDisk: MemoryDisk;
  readonly before: StateHash;
  readonly frames: readonly Uint8Array[];
  readonly after: StateHash;
};

async function makeScene(): Promise<Scene> {
  const cluster = await SnapshotCluster.create(3, { chunkBytes: CHUNK_BYTES });
  await cluster.putAll(1, 30, "early");
  await cluster.until(() => cluster.isEven);
  cluster.cutOff.add(RECEIVER);
  await cluster.putAll(1, 40, "key");
  await cluster.deleteAll(1, 20, "early");
  await cluster.compact(1);
  await cluster.steps(20);
  const before = await cluster.hashOf(RECEIVER);
  await cluster.node(RECEIVER).engine.flush();
  const { fs, engineDisk } = cluster.disks.get(RECEIVER)!;
  const kept = { fs: fs.restarted(), engineDisk: copyOf(engineDisk) };
  const frames: Uint8Array[] = [];
  cluster.streams.onMessage = (bytes, way) => {
    if (way === "to receiver") frames.push(bytes);
    return bytes;
  };
  cluster.cutOff.clear();
  await cluster.until(() => cluster.node(RECEIVER).replica.installing);
  await cluster.until(() => cluster.isEven);
  expect(frames.map((bytes) => decodeFrame(bytes).kind)).toContain("end");
  const after = await cluster.hashOf(1);
  expect(after.index).toBeGreaterThan(before.index);
  return { ...kept, before, frames, after };
}

function copyOf(disk: MemoryDisk): MemoryDisk {
  const copy = new MemoryDisk();
  copy.save(disk.saved);
  return copy;
}

type Counted = (act: () => MaybePromise<void>) => MaybePromise<void>;

/** An engine whose changes go through `counted`. */
class CountedEngine extends ForwardingEngine {
  readonly #counted: Counted;

  constructor(inner: Engine, counted: Counted) {
    super(inner);
    this.#counted = counted;
  }

  override write(batch: EngineBatch): MaybePromise<void> {
    return this.#counted(() => this.inner.write(batch));
  }

  override async flush(): Promise<void> {
    await this.#counted(() => this.inner.flush());
  }
}

/** A node on the scene's disks that ends after so many operations of its files and its engine. */
class Attempt {
  operations = 0;
  limit = Number.POSITIVE_INFINITY;
  /** It has told a leader that it holds the snapshot. */
  isAcknowledged = false;
  readonly cluster: SnapshotCluster;
  readonly #scene: Scene;
  #engine: Engine | undefined;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.cluster = new SnapshotCluster({
      chunkBytes: CHUNK_BYTES,
      engine: (_id, engine) => {
        this.#engine = engine;
        return new CountedEngine(engine, (act) => this.#counted(act));
      },
    });
    this.cluster.onSend = (message) => {
      const { kind } = message;
      if (kind === "appendReply" && message.index >= scene.after.index) this.isAcknowledged = true;
    };
  }

  get #isOver(): boolean {
    return this.operations > this.limit;
  }

  #counted(act: () => MaybePromise<void>): MaybePromise<void> {
    this.operations++;
    return this.#isOver ? NEVER : act();
  }

  async receive(limit = Number.POSITIVE_INFINITY): Promise<void> {
    const { fs, engineDisk } = this.#scene;
    const watched = fs.restarted({
      intercept: () => {
        this.operations++;
        return this.#isOver ? { kind: "lost" } : undefined;
      },
    });
    this.cluster.disks.set(RECEIVER, { fs: watched, engineDisk: copyOf(engineDisk) });
    const { snapshots, replica } = await this.cluster.start(RECEIVER);
    await this.cluster.steps(2);
    this.operations = 0;
    this.limit = limit;
    const { near, far } = this.cluster.streams.open();
    near.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
    snapshots.accept(1 as NodeId, far);
    for (const frame of this.#scene.frames) near.write(frame);
    let calm = 0;
    let last = -1;
    // Until nothing is done any more.
    for (let step = 0; step < 200 && calm < 6; step++) {
      calm = this.operations === last && !(replica.installing && !this.#isOver) ? calm + 1 : 0;
      last = this.operations;
      await this.cluster.step();
    }
  }

  /** The machine or the process ends; what is left for the next start. */
  async end(how: End): Promise<void> {
    const { fs, engineDisk } = this.cluster.disks.get(RECEIVER)!;
    // What the process has written and not flushed reaches the disk, or does not.
    if (how.engine === "all") await this.#engine!.flush();
    const left = { fs: how.files(fs), engineDisk: copyOf(engineDisk) };
    this.cluster.kill(RECEIVER, left);
    this.limit = Number.POSITIVE_INFINITY;
  }
}

type End = {
  readonly name: string;
  readonly files: (fs: MemoryFileSystem) => MemoryFileSystem;
  readonly engine: "all" | "flushed";
};

const keep = (sector: () => boolean, name = sector): Keep => ({ sector, name });
function everyOther(): () => boolean {
  let count = 0;
  return () => count++ % 2 === 0;
}

const ENDS: readonly End[] = [
  { name: "killed", files: (fs) => fs.restarted(), engine: "all" },
  { name: "power loss", files: (fs) => fs.crash(keep(() => false)), engine: "flushed" },
  {
    name: "power loss, the engine's writes on disk",
    files: (fs) => fs.crash(keep(() => false)),
    engine: "all",
  },
  {
    name: "power loss, the files' writes on disk",
    files: (fs) => fs.crash(keep(() => true)),
    engine: "flushed",
  },
  { name: "power loss, torn", files: (fs) => fs.crash(keep(everyOther())), engine: "flushed" },
];

let scene: Scene;
beforeAll(async () => {
  scene = await makeScene();
});

describe("an installation", () => {
  it("is what this test takes it for, when nothing goes wrong", async () => {
    const attempt = new Attempt(scene);
    await attempt.receive();
    expect(attempt.isAcknowledged).toBe(true);
    expect(await attempt.cluster.hashOf(RECEIVER)).toEqual(scene.after);
    expect(attempt.cluster.staged(RECEIVER)).toEqual([]);
    // Chunks, syncs, renames; batches of the engine, its flush; the log.
    expect(attempt.operations).toBeGreaterThan(30);
  });

  it.each(ENDS)("survives the end at every operation: $name", async (how) => {
    const counts = { old: 0, new: 0, acknowledged: 0, reinstalled: 0 };
    for (let limit = 0; ; limit++) {
      const attempt = new Attempt(scene);
      await attempt.receive(limit);
      if (attempt.operations <= limit) break;
      const { cluster, isAcknowledged } = attempt;
      await attempt.end(how);
      if (cluster.staged(RECEIVER).some((name) => name.endsWith(".install"))) counts.reinstalled++;
      await cluster.start(RECEIVER);
      const found = await cluster.hashOf(RECEIVER);
      const isNew = found.index >= scene.after.index;
      expect(found).toEqual(isNew ? scene.after : scene.before);
      if (isAcknowledged) expect(isNew).toBe(true);
      counts[isNew ? "new" : "old"]++;
      if (isAcknowledged) counts.acknowledged++;
      await cluster.steps(5);
      // What is left is a transfer that could go on, or nothing.
      const isPart = (name: string): boolean => name.endsWith(".part");
      expect(cluster.staged(RECEIVER).every(isPart)).toBe(true);
      expect(cluster.node(RECEIVER).replica.applied.index).toBe(found.index);
      // It stays so.
      await attempt.end({ ...ENDS[1]!, engine: "flushed" });
      await cluster.start(RECEIVER);
      const again = await cluster.hashOf(RECEIVER);
      if (isNew) expect(again).toEqual(scene.after);
      else expect(again.index).toBeLessThanOrEqual(scene.before.index);
    }
    expect(counts.old).toBeGreaterThan(10);
    expect(counts.new).toBeGreaterThan(2);
    expect(counts.reinstalled).toBeGreaterThan(5);
  });
});
