/** One stream over a group of three replicas under manual control. */
import { beforeEach, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { ERRORS, GrpcStatus } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  type ReplicaId,
  type Revision,
  Space,
  type VshardId,
} from "#shared/ids.ts";
import { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import { TestGroup } from "#storage-node/replica/testing.ts";
import { NodeChanges } from "./node-changes.ts";
import { helloOf, TestStream, turns } from "./testing.ts";

const VSHARD = 7 as VshardId;
const OTHER = 8 as VshardId;

let group: TestGroup;
let nodes: NodeChanges[];

beforeEach(async () => {
  nodes = [];
  group = await TestGroup.create(3, ({ replica, engine, clock }) => {
    const hosted = new HostedReplicas();
    hosted.add(replica);
    const changes = new NodeChanges({ engine, clock, hosted });
    nodes.push(changes);
    return { listener: changes.tail, onRole: (of) => changes.tail.roleChanged(of) };
  });
  await group.elect(1);
});

function streamTo(node: number, hello = helloOf()): TestStream {
  const stream = new TestStream();
  nodes[node - 1]!.serve(stream, hello);
  stream.say({ hello: helloOf() });
  return stream;
}

async function handOver(from: number, to: number): Promise<void> {
  const { replica, loop } = group.member(from);
  replica.raft.transferLeadership(to as ReplicaId);
  loop.markDirty(replica);
  await group.stabilize();
  expect(group.member(to).replica.isLeader).toBe(true);
}

let requests = 0;
async function put(key: string, node = 1): Promise<void> {
  const answers = group.put(node, key, ++requests % 256);
  await group.stabilize();
  expect(answers).toMatchObject([{ kind: "write", applied: true }]);
}

describe("a follow", () => {
  it("begins at the head, and gets what is applied with small values", async () => {
    await put("before");
    const stream = streamTo(1);
    stream.follow(VSHARD, "head");
    await turns();
    expect(stream.batches).toEqual([{ vshard: VSHARD, previousRevision: 1, changes: [] }]);
    await put("key");
    expect(stream.batches).toHaveLength(2);
    expect(stream.batches[1]).toMatchObject({ vshard: VSHARD, previousRevision: 1 });
    expect(stream.batches[1]!.changes).toEqual([
      {
        kind: ChangeKind.Put,
        revision: 2,
        previousRevision: 0,
        tenant: DEFAULT_TENANT,
        space: Space.Kv,
        key: utf8("key"),
        valueSizeBytes: 12,
        expiresAtMs: 0,
        timeMs: group.clock.nowMs(),
        transactionId: new Uint8Array(0),
        value: { value: utf8("value of key"), encoding: 0, contentType: "" },
        traceContext: new Uint8Array(0),
      },
    ]);
  });

  it("is confirmed once, and again only when it is replaced", async () => {
    await put("a");
    const stream = streamTo(1);
    stream.follow(VSHARD, 1);
    await turns();
    stream.follow(VSHARD, 0);
    await turns();
    expect(stream.batches.map(({ previousRevision }) => previousRevision)).toEqual([1, 0]);
    expect(stream.batches[1]!.changes).toMatchObject([{ revision: 1, value: undefined }]);
    await put("b");
    expect(stream.batches).toHaveLength(3);
    expect(nodes[0]!.figures()).toMatchObject({ follows: 1, streams: 1, tailSwitches: 2 });
  });

  it("ends, with a hint, where the node does not lead, and when it loses the lead", async () => {
    const elsewhere = streamTo(2);
    elsewhere.follow(VSHARD, 0);
    elsewhere.follow(OTHER, 0);
    await turns();
    const { wire: code } = ERRORS.NOT_LEADER;
    expect(elsewhere.endings).toMatchObject([
      { vshard: VSHARD, failure: { code, leaderNodeId: 1 } },
      { vshard: OTHER, failure: { code, leaderNodeId: 0 } },
    ]);
    const stream = streamTo(1);
    stream.follow(VSHARD, 0);
    await turns();
    expect(stream.endings).toEqual([]);
    await handOver(1, 2);
    expect(stream.endings).toMatchObject([{ vshard: VSHARD, failure: { code } }]);
    await put("later", 2);
    expect(stream.batches).toHaveLength(1);
    expect(nodes[0]!.figures().follows).toBe(0);
  });

  it("ends when its replica is destroyed", async () => {
    const stream = streamTo(1);
    stream.follow(VSHARD, 0);
    await turns();
    const { replica } = group.member(1);
    replica.leave();
    nodes[0]!.tail.roleChanged(replica);
    await turns();
    expect(stream.endings).toMatchObject([{ vshard: VSHARD }]);
  });

  it("waits behind the head of a leader that knows less", async () => {
    await put("a");
    const stream = streamTo(1);
    stream.follow(VSHARD, 3);
    await turns();
    for (const key of ["b", "c", "d", "e"]) await put(key);
    expect(stream.batches.map(({ previousRevision }) => previousRevision)).toEqual([3, 3, 4]);
    expect(stream.endings).toEqual([]);
  });

  it("is queued nothing while its transport asks for a pause, and goes on from the journal", async () => {
    const stream = streamTo(1);
    stream.follow(VSHARD, 0);
    await turns();
    await put("a");
    stream.isOpen = false;
    await put("b");
    const { length } = stream.received;
    for (let i = 0; i < 50; i++) await put(`c${i}`);
    expect(stream.received).toHaveLength(length);
    stream.open();
    await turns();
    const changes = stream.batches.flatMap((batch) => batch.changes);
    expect(changes.map(({ revision }) => revision)).toEqual(
      Array.from({ length: 52 }, (_, i) => i + 1),
    );
    // From the journal in one piece, and live again.
    expect(stream.batches).toHaveLength(4);
    await put("d");
    expect(stream.batches.at(-1)!.changes[0]!.value).toBeDefined();
    expect(nodes[0]!.figures()).toMatchObject({ fallsBehind: 1, tailSwitches: 2 });
  });

  it("shares one encoding with others, and what one turn applies is one message", async () => {
    const streams = [streamTo(1), streamTo(1)];
    for (const stream of streams) stream.follow(VSHARD, "head");
    await turns();
    const before = streams.map(({ received }) => received.length);
    for (let i = 0; i < 20; i++) group.put(1, `key ${i}`, 100 + i);
    await group.stabilize();
    streams.forEach((stream, i) => {
      expect(stream.received).toHaveLength(before[i]! + 1);
      expect(stream.batches.at(-1)!.changes).toHaveLength(20);
    });
    expect(nodes[0]!.figures()).toMatchObject({ freshBatches: 1, freshChanges: 20 });
  });

  it("is no more after unfollow", async () => {
    const stream = streamTo(1);
    stream.follow(VSHARD, 0);
    await turns();
    stream.say({ unfollow: [VSHARD, OTHER] });
    await put("a");
    expect(stream.batches).toHaveLength(1);
    expect(nodes[0]!.tail.wants(group.member(1).replica)).toBe(false);
  });
});

describe("a read", () => {
  it("gives a piece, at least one change, and where the log begins and ends", async () => {
    for (const key of ["a", "b", "c"]) await put(key);
    const stream = streamTo(1);
    stream.read(1, VSHARD, 0);
    stream.read(2, VSHARD, 1, 1);
    stream.read(3, VSHARD, 3);
    stream.head(4, VSHARD);
    await turns();
    const pieces = stream.results.map(({ callId, batch, headRevision, oldestRevision }) => [
      ...[callId, headRevision, oldestRevision],
      batch?.changes.map(({ revision }) => revision),
    ]);
    expect(pieces).toEqual([
      [1, 3, 1, [1, 2, 3]],
      [2, 3, 1, [2]],
      [3, 3, 1, []],
      [4, 3, 1, undefined],
    ]);
    expect(nodes[0]!.figures()).toMatchObject({ reads: 4, readsPending: 0 });
  });

  it("of an empty log finds nothing, and nothing compacted", async () => {
    const stream = streamTo(1);
    stream.read(1, VSHARD, 0);
    stream.read(2, VSHARD, 9);
    stream.head(3, VSHARD);
    await turns();
    for (const result of stream.results) {
      expect(result).toMatchObject({ failure: undefined, headRevision: 0, oldestRevision: 1 });
    }
  });

  it("is refused where the node does not lead", async () => {
    const stream = streamTo(3);
    stream.read(1, VSHARD, 0);
    stream.head(2, OTHER);
    await turns();
    const code = ERRORS.NOT_LEADER.wire;
    expect(stream.results).toMatchObject([
      { callId: 1, failure: { code, leaderNodeId: 1 } },
      { callId: 2, failure: { code, leaderNodeId: 0 } },
    ]);
  });

  it("beyond the window is answered OVERLOADED, and far beyond it ends the stream", async () => {
    const stream = streamTo(1, helloOf({ windowOperations: 2 }));
    const ask = (from: number, count: number) =>
      stream.say({
        reads: Array.from({ length: count }, (_, i) => ({
          ...{ callId: from + i, vshard: VSHARD, headOnly: true, bytesMax: 0 },
          afterRevision: 0 as Revision,
        })),
      });
    ask(1, 3);
    await turns();
    const codes = stream.results.map(({ failure }) => failure?.code);
    expect(codes).toEqual([ERRORS.OVERLOADED.wire, undefined, undefined]);
    ask(10, 100);
    expect(stream.ended).toMatchObject({ code: GrpcStatus.ResourceExhausted });
    expect(nodes[0]!.figures()).toMatchObject({ streams: 0, readsPending: 0 });
  });
});

describe("a stream", () => {
  it("answers an empty message with an empty one", async () => {
    const stream = streamTo(1);
    stream.say({});
    expect(stream.received.slice(1)).toEqual([
      { hello: undefined, results: [], batches: [], ended: [] },
    ]);
  });

  it.each<[string, (stream: TestStream) => void]>([
    ["no hello", (stream) => stream.say({})],
    ["an old protocol", (stream) => stream.say({ hello: helloOf({ protocolVersion: 1 }) })],
    ["another cluster", (stream) => stream.say({ hello: helloOf({ clusterId: "other" }) })],
    ["no message at all", (stream) => stream.sayBytes(Uint8Array.of(0xff))],
  ])("ends with %s", (_, speak) => {
    const stream = new TestStream();
    nodes[0]!.serve(stream, helloOf());
    speak(stream);
    expect(stream.ended).toMatchObject({ code: expect.any(Number) });
    expect(stream.received).toEqual([]);
    expect(nodes[0]!.figures().streams).toBe(0);
  });

  it("ends with a second hello, and with a call id that is in flight", () => {
    for (const speak of [
      (stream: TestStream) => stream.say({ hello: helloOf() }),
      (stream: TestStream) => {
        stream.head(1, VSHARD);
        stream.head(1, VSHARD);
      },
    ]) {
      const stream = streamTo(1);
      speak(stream);
      expect(stream.ended).toMatchObject({ code: GrpcStatus.InvalidArgument });
    }
  });

  it("leaves nothing behind when it closes, and none is taken by a node that stops", async () => {
    const stream = streamTo(1);
    stream.follow(VSHARD, 0);
    stream.read(1, VSHARD, 0);
    stream.close({ code: GrpcStatus.Cancelled, details: "" });
    await put("a");
    expect(stream.received).toHaveLength(1);
    expect(nodes[0]!.figures()).toMatchObject({ streams: 0, follows: 0, readsPending: 0 });
    const open = streamTo(1);
    nodes[0]!.close();
    expect(open.ended).toBe("end");
    const late = new TestStream();
    nodes[0]!.serve(late, helloOf());
    expect(late.ended).toMatchObject({ code: GrpcStatus.Unavailable });
  });
});

describe("ChangeTail", () => {
  it("tells listeners what this node leads, and what has been applied of it", async () => {
    const fresh: number[] = [];
    const stops = nodes.map(({ tail }, i) =>
      tail.subscribe({ onFresh: ({ endRevision }) => fresh.push((i + 1) * 100 + endRevision) }),
    );
    await put("a");
    await put("b");
    expect(fresh).toEqual([101, 102]);
    expect(nodes.map(({ tail }) => tail.heads())).toEqual([
      [{ vshard: VSHARD, revision: 2 }],
      [],
      [],
    ]);
    for (const stop of stops) stop();
    await put("c");
    expect(fresh).toHaveLength(2);
  });

  it("is not asked for anything when nobody listens", () => {
    expect(nodes[0]!.tail.wants(group.member(1).replica)).toBe(false);
  });
});
