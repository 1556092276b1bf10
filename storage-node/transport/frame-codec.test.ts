/** The codec of frames between nodes against the generated code, and against hostile bytes. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LINK_PATH, SNAPSHOT_PATH } from "#proto/codec/service.ts";
import {
  anyBytes,
  anyString,
  anyUint32,
  anyUint64,
  mutated,
  withUnknownFields,
} from "#proto/codec/testing.ts";
import {
  type HeartbeatsSchema,
  type Lane,
  LinkFrameSchema,
  NodeService,
  type RaftMessageSchema,
  SnapshotFrameSchema,
} from "#proto/gen/minikv/v1/node_pb.ts";
import { AssertionError } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  replicaIdOf,
  sequenceOfReplica,
  type Term,
} from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import { EntryKind, type Message } from "#storage-node/raft/types.ts";
import { EntryMemory } from "./entry-memory.ts";
import {
  decodeLinkFrame,
  decodeSnapshotFrame,
  encodeLinkFrame,
  encodeSnapshotEnd,
  encodeSnapshotFrame,
} from "./frame-codec.ts";
import { type Heartbeat, isHeartbeat } from "./heartbeat-codec.ts";
import { decodeHelloFrame, encodeHelloFrame, type NodeHello } from "./hello-codec.ts";
import type { PlainMessage } from "./message-codec.ts";

const NODES = { from: 3 as NodeId, to: 7 as NodeId };

const index = () => anyUint64().map((value) => value as LogIndex);
const term = () => anyUint64().map((value) => value as Term);
const anyReplica = () => anyUint64().map((value) => value as ReplicaId);
const replicaOn = (node: NodeId) =>
  fc
    .oneof(fc.constant(0), fc.nat({ max: 9 }), anyUint32())
    .map((sequence) => replicaIdOf(node, sequence));

const envelope = {
  group: fc.nat({ max: 0xffff }).map((value) => value as GroupId),
  from: replicaOn(NODES.from),
  to: replicaOn(NODES.to),
  term: term(),
};

const anyHeartbeat = (): fc.Arbitrary<Heartbeat> =>
  fc.record({
    ...envelope,
    kind: fc.constantFrom("heartbeat", "heartbeatReply"),
    commit: index(),
    readRound: fc.oneof(fc.constantFrom(0, 5), anyUint64()),
  });

/** As a leader sends them: of founding replicas, under one read round. */
const alikeHeartbeats = (): fc.Arbitrary<Heartbeat[]> =>
  fc
    .record({ heartbeats: fc.array(anyHeartbeat(), { maxLength: 9 }), readRound: anyUint64() })
    .map(({ heartbeats, readRound }) =>
      heartbeats.map((heartbeat) => ({
        ...heartbeat,
        from: replicaIdOf(NODES.from, 0),
        to: replicaIdOf(NODES.to, 0),
        readRound,
      })),
    );

type Append = Extract<Message, { readonly kind: "append" }>;

const anyAppend = (): fc.Arbitrary<Append> =>
  fc
    .record({
      ...envelope,
      kind: fc.constant("append"),
      previousIndex: fc.maxSafeNat().map((value) => Math.max(value - 10, 0) as LogIndex),
      previousTerm: term(),
      commit: index(),
      bodies: fc.array(
        fc.record({
          term: term(),
          kind: fc.constantFrom(EntryKind.Normal, EntryKind.Configuration),
          data: anyBytes(),
        }),
        { maxLength: 5 },
      ),
    })
    .map(({ bodies, ...append }) => ({
      ...append,
      entries: bodies.map((body, i) => ({
        index: (append.previousIndex + 1 + i) as LogIndex,
        ...body,
      })),
    }));

const anyConfiguration = () => {
  const ids = fc.array(anyReplica(), { maxLength: 4 });
  return fc.record({
    voters: ids,
    outgoing: ids,
    learners: ids,
    learnersNext: ids,
    highestId: anyReplica(),
  });
};

const anyPlainMessage = (): fc.Arbitrary<PlainMessage> =>
  fc.oneof(
    anyAppend(),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("preVote", "vote"),
      lastIndex: index(),
      lastTerm: term(),
      commit: index(),
      commitTerm: term(),
      forced: fc.boolean(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("preVoteReply", "voteReply"),
      granted: fc.boolean(),
      commit: index(),
      commitTerm: term(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constant("appendReply"),
      index: index(),
      rejected: fc.boolean(),
      hintIndex: index(),
      hintTerm: term(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("readIndex", "readIndexReply"),
      token: anyUint64(),
      index: index(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constant("snapshot"),
      snapshotIndex: index(),
      snapshotTerm: term(),
      configuration: anyConfiguration(),
    }),
    fc.record({ ...envelope, kind: fc.constant("timeoutNow") }),
  );

const anyMessages = (): fc.Arbitrary<Message[]> =>
  fc.oneof(
    fc.array(fc.oneof(anyHeartbeat(), anyPlainMessage()), { maxLength: 8 }),
    alikeHeartbeats(),
  );

type LinkFrameInit = MessageInitShape<typeof LinkFrameSchema>;

/** In the order in which a frame holds them. */
function framed(messages: readonly Message[]): readonly Message[] {
  const rank = ({ kind }: Message) => ["heartbeat", "heartbeatReply"].indexOf(kind) >>> 0;
  return messages.toSorted((a, b) => rank(a) - rank(b));
}

function forGenerated(messages: readonly Message[]): LinkFrameInit {
  const heartbeats = messages.filter(isHeartbeat);
  const requests = heartbeats.filter(({ kind }) => kind === "heartbeat");
  const replies = heartbeats.filter(({ kind }) => kind === "heartbeatReply");
  const others = messages.filter((message) => !isHeartbeat(message)) as PlainMessage[];
  return {
    ...(requests.length > 0 && { heartbeats: columnsOf(requests) }),
    ...(replies.length > 0 && { heartbeatReplies: columnsOf(replies) }),
    messages: others.map(messageForGenerated),
  };
}

function columnsOf(heartbeats: readonly Heartbeat[]): MessageInitShape<typeof HeartbeatsSchema> {
  const unlessZero = <T>(values: readonly T[]): T[] => (values.some(Boolean) ? [...values] : []);
  const rounds = heartbeats.map(({ readRound }) => BigInt(readRound));
  const shared = rounds.every((round) => round === rounds[0]);
  return {
    groups: heartbeats.map(({ group }) => group),
    terms: heartbeats.map((heartbeat) => BigInt(heartbeat.term)),
    commits: heartbeats.map(({ commit }) => BigInt(commit)),
    fromSequences: unlessZero(heartbeats.map(({ from }) => sequenceOfReplica(from))),
    toSequences: unlessZero(heartbeats.map(({ to }) => sequenceOfReplica(to))),
    readRounds: unlessZero(shared ? rounds.slice(0, 1) : rounds),
  };
}

function messageForGenerated(message: PlainMessage): MessageInitShape<typeof RaftMessageSchema> {
  return {
    group: message.group,
    from: BigInt(message.from),
    to: BigInt(message.to),
    term: BigInt(message.term),
    body: bodyForGenerated(message),
  };
}

type Body = NonNullable<
  Exclude<MessageInitShape<typeof RaftMessageSchema>, { $typeName: string }>["body"]
>;

function bodyForGenerated(message: PlainMessage): Body {
  switch (message.kind) {
    case "preVote":
    case "vote": {
      const value = {
        lastIndex: BigInt(message.lastIndex),
        lastTerm: BigInt(message.lastTerm),
        commit: BigInt(message.commit),
        commitTerm: BigInt(message.commitTerm),
        forced: message.forced,
      };
      return { case: message.kind, value };
    }
    case "preVoteReply":
    case "voteReply": {
      const { granted } = message;
      const known = { commit: BigInt(message.commit), commitTerm: BigInt(message.commitTerm) };
      return { case: message.kind, value: { granted, ...known } };
    }
    case "append": {
      const value = {
        previousIndex: BigInt(message.previousIndex),
        previousTerm: BigInt(message.previousTerm),
        commit: BigInt(message.commit),
        entries: message.entries.map((entry) => ({
          term: BigInt(entry.term),
          kind: entry.kind,
          data: entry.data,
        })),
      };
      return { case: "append", value };
    }
    case "appendReply": {
      const value = {
        index: BigInt(message.index),
        rejected: message.rejected,
        hintIndex: BigInt(message.hintIndex),
        hintTerm: BigInt(message.hintTerm),
      };
      return { case: "appendReply", value };
    }
    case "readIndex":
    case "readIndexReply":
      return {
        case: message.kind,
        value: { token: BigInt(message.token), index: BigInt(message.index) },
      };
    case "snapshot": {
      const { voters, outgoing, learners, learnersNext, highestId } = message.configuration;
      const configuration = {
        voters: voters.map(BigInt),
        outgoing: outgoing.map(BigInt),
        learners: learners.map(BigInt),
        learnersNext: learnersNext.map(BigInt),
        highestId: BigInt(highestId),
      };
      const index = BigInt(message.snapshotIndex);
      const value = { index, term: BigInt(message.snapshotTerm), configuration };
      return { case: "snapshot", value };
    }
    case "timeoutNow":
      return { case: "timeoutNow", value: {} };
  }
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return "none";
}

const memory = new EntryMemory();
const decode = (bytes: Uint8Array) => decodeLinkFrame(bytes, NODES, memory);

function appendOf(data: readonly Uint8Array[], group = 1): Append {
  return {
    kind: "append",
    group: group as GroupId,
    from: replicaIdOf(NODES.from, 0),
    to: replicaIdOf(NODES.to, 0),
    term: 2 as Term,
    previousIndex: 9 as LogIndex,
    previousTerm: 2 as Term,
    commit: 9 as LogIndex,
    entries: data.map((bytes, i) => ({
      index: (10 + i) as LogIndex,
      term: 2 as Term,
      kind: EntryKind.Normal,
      data: bytes,
    })),
  };
}

describe("encodeLinkFrame()", () => {
  it("is read by the generated code", () => {
    fc.assert(
      fc.property(anyMessages(), (messages) => {
        const read = fromBinary(LinkFrameSchema, new Uint8Array(encodeLinkFrame(messages)));
        expect(read).toEqual(create(LinkFrameSchema, forGenerated(messages)));
      }),
    );
  });

  it("comes back from decodeLinkFrame() unchanged but for the order of kinds", () => {
    fc.assert(
      fc.property(anyMessages(), (messages) => {
        expect(decode(encodeLinkFrame(messages))).toEqual(framed(messages));
      }),
    );
  });

  it("needs at most seven bytes for the heartbeat of one of 256 groups", () => {
    const heartbeats = Array.from({ length: 256 }, (_, group): Message => {
      const ids = { from: replicaIdOf(NODES.from, 0), to: replicaIdOf(NODES.to, 0) };
      const commit = (100_000 + group) as LogIndex;
      const envelope = { group: group as GroupId, ...ids, term: 40 as Term };
      return { kind: "heartbeat", ...envelope, commit, readRound: 12_345 };
    });
    expect(encodeLinkFrame(heartbeats).length).toBeLessThan(256 * 7);
  });

  it("refuses an append whose entries are not consecutive", () => {
    const append = appendOf([EMPTY_BYTES, EMPTY_BYTES]);
    const holed = { ...append, entries: [append.entries[0]!, append.entries[0]!] };
    expect(() => encodeLinkFrame([holed])).toThrow(AssertionError);
  });
});

describe("decodeLinkFrame()", () => {
  it("reads what the generated code writes", () => {
    fc.assert(
      fc.property(anyMessages(), (messages) => {
        const message = create(LinkFrameSchema, forGenerated(messages));
        const bytes = toBinary(LinkFrameSchema, message);
        expect(decode(bytes)).toEqual(framed(messages));
        expect(decode(withUnknownFields(bytes))).toEqual(framed(messages));
      }),
    );
  });

  it("takes lists of numbers unpacked", () => {
    // heartbeats { groups: 1, 2; terms: 3, 4; commits: 5, 6 }
    const heartbeats = [0x08, 1, 0x08, 2, 0x10, 3, 0x10, 4, 0x18, 5, 0x18, 6];
    const messages = decode(Uint8Array.from([0x12, heartbeats.length, ...heartbeats]));
    expect(messages).toMatchObject([
      { kind: "heartbeat", group: 1, from: 3, to: 7, term: 3, commit: 5, readRound: 0 },
      { kind: "heartbeat", group: 2, from: 3, to: 7, term: 4, commit: 6, readRound: 0 },
    ]);
    // snapshot { configuration { voters: 1, 2 } }
    const snapshot = [0x1a, 4, 0x08, 1, 0x08, 2];
    const body = [0x6a, snapshot.length, ...snapshot];
    const [message] = decode(Uint8Array.from([0x22, body.length, ...body]));
    expect(message).toMatchObject({ kind: "snapshot", configuration: { voters: [1, 2] } });
  });

  it.each([
    ["a message without a body", [0x22, 2, 0x08, 1]],
    ["a group beyond 65535", [0x22, 6, 0x08, 0x80, 0x80, 0x04, 0x72, 0]],
    ["a heartbeat's group beyond 65535", [0x12, 9, 0x08, 0x80, 0x80, 0x04, 0x10, 1, 0x18, 1]],
    ["heartbeats without terms", [0x12, 4, 0x08, 1, 0x18, 1]],
    [
      "a sequence for one of two heartbeats",
      [0x12, 11, 10, 2, 1, 1, 18, 2, 1, 1, 0x1a, 2, 1, 1, 32, 1],
    ],
    ["an entry of an unknown kind", [0x22, 8, 0x4a, 6, 0x22, 4, 0x08, 1, 0x10, 3]],
    ["an entry without a kind", [0x22, 6, 0x4a, 4, 0x22, 2, 0x08, 1]],
    ["a snapshot without a configuration", [0x22, 4, 0x6a, 2, 0x08, 1]],
    ["a second hello", [0x0a, 2, 0x08, 1]],
    ["a cut message", [0x22, 9, 0x08]],
  ])("refuses %s", (_, bytes) => {
    expect(codeOf(() => decode(Uint8Array.from(bytes)))).toBe("INVALID_ARGUMENT");
  });

  it("refuses more elements than DECODED_ELEMENTS_MAX", () => {
    const groups = new Uint8Array(DECODED_ELEMENTS_MAX + 1);
    const frame = toBinary(
      LinkFrameSchema,
      create(LinkFrameSchema, { heartbeats: { groups: [...groups] } }),
    );
    expect(codeOf(() => decode(frame))).toBe("INVALID_ARGUMENT");
  });

  it("throws nothing but KvError on any bytes", () => {
    const encoded = anyMessages().map(encodeLinkFrame);
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(encoded));
    fc.assert(
      fc.property(bytes, (input) => {
        expect(codeOf(() => decode(input))).toMatch(/^(none|INVALID_ARGUMENT)$/);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("encodeHelloFrame()", () => {
  const anyHello = (): fc.Arbitrary<NodeHello> =>
    fc.record({
      protocolVersion: anyUint32(),
      clusterId: anyString(),
      nodeId: anyUint32(),
      peerNodeId: anyUint32(),
      softwareVersion: anyString(),
      lane: fc.nat({ max: 3 }),
    });

  it("is the generated code's encoding, in both kinds of frame", () => {
    fc.assert(
      fc.property(anyHello(), (hello) => {
        const bytes = new Uint8Array(encodeHelloFrame(hello));
        const init = { ...hello, lane: hello.lane as Lane };
        const link = create(LinkFrameSchema, { hello: init });
        expect(fromBinary(LinkFrameSchema, bytes)).toEqual(link);
        expect(fromBinary(SnapshotFrameSchema, bytes)).toEqual(
          create(SnapshotFrameSchema, { hello: init }),
        );
        expect(decodeHelloFrame(toBinary(LinkFrameSchema, link))).toEqual(hello);
        expect(decodeHelloFrame(withUnknownFields(bytes))).toEqual(hello);
      }),
    );
  });

  it("decodeHelloFrame() throws nothing but KvError on any bytes", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      mutated(anyHello().map(encodeHelloFrame)),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        expect(codeOf(() => decodeHelloFrame(input))).toMatch(/^(none|INVALID_ARGUMENT)$/);
      }),
      { numRuns: 2_000 },
    );
  });

  it("decodeHelloFrame() refuses a frame without a hello", () => {
    expect(codeOf(() => decodeHelloFrame(EMPTY_BYTES))).toBe("INVALID_ARGUMENT");
  });
});

describe("encodeSnapshotFrame()", () => {
  it("is the generated code's encoding, both ways", () => {
    fc.assert(
      fc.property(anyBytes(), (payload) => {
        const message = create(SnapshotFrameSchema, { payload });
        const bytes = new Uint8Array(encodeSnapshotFrame(payload));
        expect(fromBinary(SnapshotFrameSchema, bytes)).toEqual(message);
        const generated = toBinary(SnapshotFrameSchema, message);
        expect(decodeSnapshotFrame(generated)).toEqual(payload);
        expect(decodeSnapshotFrame(withUnknownFields(generated))).toEqual(payload);
      }),
    );
  });

  it("has a frame for the end", () => {
    const message = create(SnapshotFrameSchema, { end: true });
    expect(fromBinary(SnapshotFrameSchema, new Uint8Array(encodeSnapshotEnd()))).toEqual(message);
    expect(decodeSnapshotFrame(toBinary(SnapshotFrameSchema, message))).toBe("end");
  });

  it("decodeSnapshotFrame() gives a view, and refuses a second hello and garbage", () => {
    const bytes = encodeSnapshotFrame(new Uint8Array(100));
    expect(decodeSnapshotFrame(bytes)).toMatchObject({ buffer: bytes.buffer });
    for (const input of [[0x0a, 0], [0xff], [0x12, 5, 0]]) {
      expect(codeOf(() => decodeSnapshotFrame(Uint8Array.from(input)))).toBe("INVALID_ARGUMENT");
    }
  });
});

describe("the paths", () => {
  it("are those of the generated service", () => {
    const { link, snapshot } = NodeService.method;
    expect(LINK_PATH).toBe(`/${NodeService.typeName}/${link.name}`);
    expect(SNAPSHOT_PATH).toBe(`/${NodeService.typeName}/${snapshot.name}`);
  });
});
