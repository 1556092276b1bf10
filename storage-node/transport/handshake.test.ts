/** Who may speak with whom: hellos that fit and those that do not, over real gRPC. */
import { afterEach, describe, expect, it } from "vitest";
import { NODE_PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { ManualClock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { type GroupId, type NodeId, replicaIdOf, type Term } from "#shared/ids.ts";
import { LINK_GREETINGS_MAX, LINK_OPEN_TIMEOUT_MS, LINK_PEERS_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { encodeLinkFrame } from "./frame-codec.ts";
import { grpcConnection } from "./grpc-connection.ts";
import { greet, refusalOf } from "./handshake.ts";
import { decodeHelloFrame, encodeHelloFrame, Lane, type NodeHello } from "./hello-codec.ts";
import { CLUSTER, cleanUp, startNode, startNodes, TestNode, until } from "./testing/nodes.ts";

afterEach(cleanUp);

/** What node 1 says to node 2. */
const good: NodeHello = {
  protocolVersion: NODE_PROTOCOL_VERSION,
  clusterId: CLUSTER,
  nodeId: 1,
  peerNodeId: 2,
  softwareVersion: "test",
  lane: Lane.Control,
};

/** A peer that says `first`; what it is answered, and how the stream ends. */
function strangerTo(node: TestNode, first: Uint8Array, kind: "link" | "snapshot" = "link") {
  const connection = grpcConnection(node.address, insecureCredentials().channel);
  const stream = kind === "link" ? connection.openLink() : connection.openSnapshot();
  const frames: Uint8Array[] = [];
  const status = new Promise<StreamStatus>((resolve) => {
    stream.listen({
      onMessage: (bytes) => frames.push(bytes),
      onDrain: () => {},
      onClosed: resolve,
    });
  });
  stream.write(first);
  return { stream, frames, status, close: () => connection.close() };
}

describe("a node that is dialled", () => {
  it("answers a good hello with its own", async () => {
    const node = await startNode(2);
    const { frames, close } = strangerTo(node, encodeHelloFrame(good));
    await until(() => frames.length === 1);
    expect(decodeHelloFrame(frames[0]!)).toEqual({ ...good, nodeId: 2, peerNodeId: 1 });
    close();
  });

  // While a cluster is updated: the newer side says nothing that the older would misread.
  it("takes a peer of a newer build as it is", async () => {
    const node = await startNode(2);
    const newer = { ...good, protocolVersion: NODE_PROTOCOL_VERSION + 1 };
    const { frames, close } = strangerTo(node, encodeHelloFrame(newer));
    await until(() => frames.length === 1);
    expect(decodeHelloFrame(frames[0]!).protocolVersion).toBe(NODE_PROTOCOL_VERSION);
    close();
  });

  const cases: readonly (readonly [string, Partial<NodeHello>, string])[] = [
    [
      "a protocol that is too old",
      { protocolVersion: 0 },
      "node 1 (minikv test) speaks protocol 0, and 1 is the oldest understood here: update node 1",
    ],
    ["another cluster", { clusterId: "b" }, 'node 1 belongs to cluster "b", node 2 to "test"'],
    ["another node in mind", { peerNodeId: 3 }, "node 1 looks for node 3, and reached node 2"],
    ["this node's own id", { nodeId: 2 }, "node 2 is this node itself, or another with its id"],
    ["an id that cannot exist", { nodeId: 0 }, "node 0 cannot exist"],
    ["a higher id", { nodeId: 3 }, "of two nodes the one with the lower id dials"],
    ["no such lane", { lane: 9 }, "no such lane"],
    ["the lane of snapshots", { lane: Lane.Snapshot }, "no such lane"],
  ];
  it.each(cases)("refuses a peer with %s, and tells of it once", async (_, change, reason) => {
    const node = await startNode(2);
    const hello = { ...good, ...change };
    for (let attempt = 0; attempt < 3; attempt++) {
      const { status, frames, close } = strangerTo(node, encodeHelloFrame(hello));
      expect(await status).toMatchObject({ code: GrpcStatus.FailedPrecondition, details: reason });
      expect(frames).toEqual([]);
      close();
    }
    expect(node.events).toEqual([{ kind: "refused", node: hello.nodeId, reason }]);
  });

  it("refuses a stream of snapshots that says it is a lane", async () => {
    const node = await startNode(2);
    const { status, close } = strangerTo(node, encodeHelloFrame(good), "snapshot");
    expect((await status).code).toBe(GrpcStatus.FailedPrecondition);
    close();
  });

  it("tells again of a peer that is refused for another reason", async () => {
    const node = await startNode(2);
    for (const clusterId of ["a", "b"]) {
      const { status, close } = strangerTo(node, encodeHelloFrame({ ...good, clusterId }));
      await status;
      close();
    }
    expect(node.events).toHaveLength(2);
  });

  it.each([
    ["garbage", Buffer.from([0xff, 0xff])],
    ["no hello", Buffer.alloc(0)],
  ])("ends a stream that begins with %s", async (_, first) => {
    const node = await startNode(2);
    const { status, close } = strangerTo(node, first);
    expect((await status).code).toBe(GrpcStatus.InvalidArgument);
    expect(node.events).toEqual([]);
    close();
  });

  it.each([
    ["garbage", Buffer.from([0xff, 0xff])],
    ["a second hello", encodeHelloFrame(good)],
  ])("ends a greeted stream at %s", async (_, frame) => {
    const node = await startNode(2);
    const { stream, status, close } = strangerTo(node, encodeHelloFrame(good));
    stream.write(frame);
    expect((await status).code).toBe(GrpcStatus.InvalidArgument);
    expect(node.unreachable).toEqual([1]);
    close();
  });
});

describe("a node that is greeted", () => {
  it("drops messages of replicas that are not the peer's, and for such that are not its own", async () => {
    const node = await startNode(2);
    const { stream, close } = strangerTo(node, encodeHelloFrame(good));
    const message: Message = {
      kind: "timeoutNow",
      group: 5 as GroupId,
      from: replicaIdOf(1 as NodeId, 7),
      to: replicaIdOf(2 as NodeId, 8),
      term: 3 as Term,
    };
    stream.write(
      encodeLinkFrame([
        { ...message, from: replicaIdOf(3 as NodeId, 7) },
        { ...message, to: replicaIdOf(3 as NodeId, 8) },
        message,
      ]),
    );
    await until(() => node.messages.length > 0);
    expect(node.messages).toEqual([message]);
    expect(node.transport.statistics().get(1 as NodeId)).toMatchObject({
      messagesReceived: 1,
      messagesMisaddressed: 2,
    });
    close();
  });
});

describe("a node that dials", () => {
  it("is refused by a node of another cluster, and tells of it once", async () => {
    const one = await startNode(1);
    const two = await startNode(2, { clusterId: "other" });
    one.know([two]);
    await until(() => one.events.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const reason = 'node 1 belongs to cluster "test", node 2 to "other"';
    expect(one.events).toEqual([{ kind: "refused", node: 2, reason }]);
    expect(two.events).toEqual([{ kind: "refused", node: 1, reason }]);
    expect(one.unreachable).toEqual([2]);
  });

  it("does not take another node for the one it looks for", async () => {
    const [one, , three] = await startNodes(3);
    const expected = await startNode(4);
    one!.know([expected, three!.address]);
    await until(() => one!.events.some(({ kind }) => kind === "refused"));
    expect(one!.events.find(({ kind }) => kind === "refused")).toMatchObject({
      node: 4,
      reason: "node 1 looks for node 4, and reached node 3",
    });
  });
});

/** A stream whose other end is the test. */
class FakeStream implements MessageStream {
  listener: Parameters<MessageStream["listen"]>[0] | undefined;
  readonly written: Uint8Array[] = [];
  aborted: StreamStatus | undefined;

  listen(listener: Parameters<MessageStream["listen"]>[0]): void {
    this.listener = listener;
  }

  write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    return true;
  }

  end(): void {}

  abort(status: StreamStatus): void {
    this.aborted = status;
    this.listener?.onClosed(status);
  }
}

describe("a node that many dial", () => {
  const dialled = (node: TestNode, hello?: NodeHello): FakeStream => {
    const stream = new FakeStream();
    node.transport.acceptLink(stream);
    if (hello !== undefined) stream.listener!.onMessage(encodeHelloFrame(hello));
    return stream;
  };

  it("waits for a bounded number of hellos", () => {
    const node = new TestNode(2);
    const streams = Array.from({ length: LINK_GREETINGS_MAX }, () => dialled(node));
    const status = { code: GrpcStatus.ResourceExhausted, details: expect.stringMatching(/hello/) };
    expect(dialled(node).aborted).toEqual(status);
    // Neither who said hello, nor who was refused for it, nor who has gone keeps a place.
    streams[0]!.listener!.onMessage(encodeHelloFrame(good));
    streams[1]!.listener!.onMessage(encodeHelloFrame({ ...good, clusterId: "other" }));
    streams[2]!.listener!.onClosed({ code: GrpcStatus.Cancelled, details: "gone" });
    const later = Array.from({ length: 4 }, () => dialled(node).aborted?.code);
    expect(later).toEqual([undefined, undefined, undefined, GrpcStatus.ResourceExhausted]);
    for (const stream of streams) stream.abort(status);
    expect(dialled(node).aborted).toBeUndefined();
    node.transport.close();
  });

  it("takes in a bounded number of peers that it does not know", () => {
    const node = new TestNode(LINK_PEERS_MAX + 3);
    const peer = (nodeId: number): NodeHello => ({ ...good, nodeId, peerNodeId: node.id });
    for (let id = 1; id <= LINK_PEERS_MAX; id++) dialled(node, peer(id));
    expect(node.transport.statistics().size).toBe(LINK_PEERS_MAX);
    const refused = dialled(node, peer(LINK_PEERS_MAX + 1));
    expect(refused.aborted).toMatchObject({ code: GrpcStatus.ResourceExhausted });
    expect(dialled(node, { ...peer(1), lane: Lane.Appends }).aborted).toBeUndefined();
    const known = (LINK_PEERS_MAX + 2) as NodeId;
    node.transport.setPeers(new Map([[known, "127.0.0.1:1"]]));
    expect(dialled(node, peer(known)).aborted).toBeUndefined();
    node.transport.close();
  });
});

describe("greet()", () => {
  it("gives up when the other side says nothing in time, and then hears nothing more", () => {
    const clock = new ManualClock();
    const stream = new FakeStream();
    const failures: StreamStatus[] = [];
    const heard: NodeHello[] = [];
    greet({
      stream,
      clock,
      say: good,
      hear: (theirs) => {
        heard.push(theirs);
        return { kind: "refused", status: { code: GrpcStatus.Internal, details: "" } };
      },
      onFailed: (status) => failures.push(status),
    });
    expect(stream.written).toEqual([encodeHelloFrame(good)]);
    clock.advance(LINK_OPEN_TIMEOUT_MS - 1);
    expect(failures).toEqual([]);
    clock.advance(1);
    expect(failures).toMatchObject([{ code: GrpcStatus.DeadlineExceeded }]);
    expect(stream.aborted).toEqual(failures[0]);
    stream.listener!.onMessage(encodeHelloFrame(good));
    stream.listener!.onDrain();
    expect(heard).toEqual([]);
    expect(failures).toHaveLength(1);
  });

  it("hands on an accepted stream with all that comes after the hello", () => {
    const clock = new ManualClock();
    const stream = new FakeStream();
    const calls: string[] = [];
    const answer = { ...good, nodeId: 2, peerNodeId: 1 };
    greet({
      stream,
      clock,
      hear: () => ({
        kind: "accepted",
        answer,
        open: () => ({
          onMessage: (bytes) => calls.push(`message ${bytes[0]}`),
          onDrain: () => calls.push("drain"),
          onClosed: ({ details }) => calls.push(`closed ${details}`),
        }),
      }),
      onFailed: () => calls.push("failed"),
    });
    expect(stream.written).toEqual([]);
    stream.listener!.onMessage(encodeHelloFrame(good));
    expect(stream.written).toEqual([encodeHelloFrame(answer)]);
    clock.advance(2 * LINK_OPEN_TIMEOUT_MS);
    stream.listener!.onMessage(Uint8Array.of(5));
    stream.listener!.onDrain();
    stream.listener!.onClosed({ code: GrpcStatus.Ok, details: "done" });
    expect(calls).toEqual(["message 5", "drain", "closed done"]);
  });
});

describe("refusalOf()", () => {
  it("has nothing against a good hello", () => {
    const identity = { clusterId: CLUSTER, nodeId: 2 as NodeId, softwareVersion: "x" };
    expect(refusalOf(good, identity)).toBeUndefined();
  });
});
