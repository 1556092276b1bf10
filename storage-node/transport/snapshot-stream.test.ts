/** Streams of snapshots between two nodes, over real gRPC. */
import { afterEach, describe, expect, it } from "vitest";
import { GrpcStatus } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import { LINK_WRITES_PENDING_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_SOFT_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { cleanUp, startNode, startNodes, startProxy, until, vote } from "./testing/nodes.ts";

afterEach(cleanUp);

/** Listens to a stream, and keeps what comes. */
function record(stream: MessageStream) {
  const payloads: Uint8Array[] = [];
  const statuses: StreamStatus[] = [];
  let drains = 0;
  stream.listen({
    onMessage: (bytes) => payloads.push(bytes),
    onDrain: () => drains++,
    onClosed: (status) => statuses.push(status),
  });
  return { stream, payloads, statuses, drains: () => drains };
}

describe("a snapshot stream", () => {
  it.each([
    ["the lower", 0, 1],
    ["the higher", 1, 0],
  ])("carries payloads both ways, opened by the node with %s id", async (_, from, to) => {
    const nodes = await startNodes(2);
    const [sender, receiver] = [nodes[from]!, nodes[to]!];
    const received: ReturnType<typeof record>[] = [];
    const origins: NodeId[] = [];
    receiver.onSnapshotStream = (origin, stream) => {
      origins.push(origin);
      received.push(record(stream));
      stream.write(Uint8Array.of(1));
    };
    const sent = record(sender.transport.openSnapshotStream(receiver.id)!);
    sent.stream.write(Uint8Array.of(2, 2));
    sent.stream.write(new Uint8Array(0));
    await until(() => received[0]?.payloads.length === 2 && sent.payloads.length === 1);
    expect(origins).toEqual([sender.id]);
    expect(received[0]!.payloads.map((bytes) => [...bytes])).toEqual([[2, 2], []]);
    expect(sent.payloads.map((bytes) => [...bytes])).toEqual([[1]]);
    sent.stream.end();
    await until(() => sent.statuses.length > 0 && received[0]!.statuses.length > 0);
    expect(sent.statuses[0]).toMatchObject({ code: GrpcStatus.Ok });
    expect(received[0]!.statuses[0]).toMatchObject({ code: GrpcStatus.Ok });
  });

  it("carries 64 MiB, with no more handed over at once than allowed", async () => {
    const [sender, receiver] = await startNodes(2);
    let bytes = 0;
    let sum = 0;
    receiver!.onSnapshotStream = (_, stream) => {
      stream.listen({
        onMessage: (payload) => {
          bytes += payload.length;
          sum += payload[0]! + payload.at(-1)!;
        },
        onDrain: () => {},
        onClosed: () => {},
      });
    };
    const chunks = (64 * 1024 * 1024) / SNAPSHOT_CHUNK_BYTES_SOFT_MAX;
    let next = 0;
    let pauses = 0;
    const stream = sender!.transport.openSnapshotStream(receiver!.id)!;
    const send = (): void => {
      while (next < chunks) {
        const chunk = new Uint8Array(SNAPSHOT_CHUNK_BYTES_SOFT_MAX).fill(next % 100);
        next++;
        if (!stream.write(chunk)) {
          pauses++;
          return;
        }
      }
    };
    let closed = false;
    stream.listen({ onMessage: () => {}, onDrain: send, onClosed: () => (closed = true) });
    send();
    await until(() => bytes === chunks * SNAPSHOT_CHUNK_BYTES_SOFT_MAX);
    expect(sum).toBe(2 * Array.from({ length: chunks }, (_, i) => i % 100).reduce((a, b) => a + b));
    const chunksAtOnceMax = LINK_WRITES_PENDING_BYTES_MAX / SNAPSHOT_CHUNK_BYTES_SOFT_MAX;
    expect(pauses).toBeGreaterThanOrEqual(Math.floor(chunks / chunksAtOnceMax) - 1);
    expect(closed).toBe(false);
  });

  it("asks for a pause while the receiver's machine does not read, and leaves the links alone", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    one.know([two]);
    two.know([one]);
    await until(() => one.connectedTo(two) && two.connectedTo(one));
    one.transport.setPeers(new Map([[two.id, proxy.address]]));
    await until(() => one.events.length === 3);
    two.onSnapshotStream = (_, stream) => record(stream);
    const sent = record(one.transport.openSnapshotStream(two.id)!);
    sent.stream.write(Uint8Array.of(1));
    await until(() => proxy.connections() === 2);
    proxy.stall();
    let accepted = 0;
    const chunk = new Uint8Array(SNAPSHOT_CHUNK_BYTES_SOFT_MAX);
    for (let paused = false; !paused; accepted += chunk.length) paused = !sent.stream.write(chunk);
    expect(accepted).toBeLessThanOrEqual(2 * LINK_WRITES_PENDING_BYTES_MAX);
    proxy.resume();
    await until(() => sent.drains() > 0);
    one.transport.send([vote({ from: one, to: two })]);
    await until(() => two.messages.length === 1);
  });

  it("tells the opener why the receiver aborts it", async () => {
    const [one, two] = await startNodes(2);
    const details = "four snapshots are coming in already";
    two!.onSnapshotStream = (_, stream) => {
      stream.abort({ code: GrpcStatus.ResourceExhausted, details });
    };
    const sent = record(one!.transport.openSnapshotStream(two!.id)!);
    await until(() => sent.statuses.length > 0);
    expect(sent.statuses[0]).toMatchObject({ code: GrpcStatus.ResourceExhausted, details });
  });

  it("ends for the receiver when the opener aborts it or goes away", async () => {
    const [one, two] = await startNodes(2);
    const received: ReturnType<typeof record>[] = [];
    two!.onSnapshotStream = (_, stream) => received.push(record(stream));
    const first = record(one!.transport.openSnapshotStream(two!.id)!);
    await until(() => received.length === 1);
    first.stream.abort({ code: GrpcStatus.Cancelled, details: "given up" });
    await until(() => received[0]!.statuses.length > 0);
    expect(received[0]!.statuses[0]!.code).not.toBe(GrpcStatus.Ok);

    record(one!.transport.openSnapshotStream(two!.id)!);
    await until(() => received.length === 2);
    await one!.kill();
    await until(() => received[1]!.statuses.length > 0);
    expect(received[1]!.statuses[0]!.code).not.toBe(GrpcStatus.Ok);
  });

  it("fails when the node refuses, cannot be reached, or is another", async () => {
    const [one, two] = await startNodes(2);
    const stranger = await startNode(3, { clusterId: "other" });
    one!.transport.setPeers(
      new Map([
        [two!.id, two!.address],
        [stranger.id, stranger.address],
        [4 as NodeId, "127.0.0.1:1"],
        [5 as NodeId, two!.address],
      ]),
    );
    const codes = [GrpcStatus.FailedPrecondition, GrpcStatus.Unavailable];
    for (const [to, code] of [
      [3, codes[0]],
      [4, codes[1]],
      [5, codes[0]],
    ] as const) {
      const sent = record(one!.transport.openSnapshotStream(to as NodeId)!);
      await until(() => sent.statuses.length > 0);
      expect(sent.statuses[0]!.code).toBe(code);
    }
  });

  it("is not opened to a node that is not known, nor to this one", async () => {
    const [one] = await startNodes(1);
    one!.transport.setPeers(new Map([[one!.id, one!.address]]));
    expect(one!.transport.openSnapshotStream(9 as NodeId)).toBeUndefined();
    expect(one!.transport.openSnapshotStream(one!.id)).toBeUndefined();
  });
});
