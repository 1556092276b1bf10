/** A cluster whose third member needs a snapshot, what it is sent, and the end: all are the same. */
import { expect } from "vitest";
import { decodeFrame, type Frame } from "#storage-node/snapshot/frames.ts";
import { type ClusterOptions, SnapshotCluster } from "./cluster.ts";

/** Replica 3 has heard nothing of what is now in the log's place. */
export async function laggingCluster(options: ClusterOptions = {}): Promise<SnapshotCluster> {
  const cluster = await SnapshotCluster.create(3, options);
  await cluster.putAll(1, 5, "early");
  await cluster.until(() => cluster.isEven);
  cluster.cutOff.add(3);
  await cluster.putAll(1, 60, "key");
  await cluster.deleteAll(1, 3, "early");
  await cluster.compact(1);
  return cluster;
}

/** @returns the frames that arrive, in order, as they are before `change`. */
export function watchFrames(
  cluster: SnapshotCluster,
  change: (frame: Frame, bytes: Uint8Array) => Uint8Array | "cut" | "lost",
): Frame[] {
  const frames: Frame[] = [];
  cluster.streams.onMessage = (bytes) => {
    const frame = decodeFrame(bytes);
    frames.push(frame);
    return change(frame, bytes);
  };
  return frames;
}

/** Nobody is cut off any more, and the members become the same. */
export async function becomesEven(cluster: SnapshotCluster): Promise<void> {
  cluster.cutOff.clear();
  await cluster.until(() => cluster.isEven && cluster.node(3).snapshots.counts.receiving === 0);
  const hashes = await Promise.all([1, 2, 3].map((id) => cluster.hashOf(id)));
  expect(hashes[1]).toEqual(hashes[0]);
  expect(hashes[2]).toEqual(hashes[0]);
}
