/** The codec of frames between nodes against the generated code, and against hostile bytes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LINK_PATH, SNAPSHOT_PATH } from "#proto/codec/service.ts";
import { anyBytes, anyString, anyUint32, withUnknownFields } from "#proto/codec/testing.ts";
import {
  type Lane,
  LinkFrameSchema,
  NodeService,
  SnapshotFrameSchema,
} from "#proto/gen/minikv/v1/node_pb.ts";
import { AssertionError } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { type GroupId, type LogIndex, replicaIdOf, type Term } from "#shared/ids.ts";
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
import { decodeHelloFrame, encodeHelloFrame, type NodeHello } from "./hello-codec.ts";
import { type Append, anyMessages, forGenerated, framed, NODES } from "./testing/messages.ts";

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

  it("gives the bytes that docs/formats/wire.md shows", () => {
    const ids = { from: replicaIdOf(NODES.from, 0), to: replicaIdOf(NODES.to, 0), readRound: 9 };
    const heartbeats: Message[] = [
      { kind: "heartbeat", ...ids, group: 1 as GroupId, term: 3 as Term, commit: 5 as LogIndex },
      { kind: "heartbeat", ...ids, group: 2 as GroupId, term: 4 as Term, commit: 300 as LogIndex },
    ];
    const hex = "12100a020102120203041a0305ac02320109";
    expect(encodeLinkFrame(heartbeats).toHex()).toBe(hex);
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
    const heartbeats = (count: number): Uint8Array => {
      const groups = new Array<number>(count).fill(1);
      const zeros = new Array<bigint>(count).fill(0n);
      const columns = { groups, terms: zeros, commits: zeros };
      return toBinary(LinkFrameSchema, create(LinkFrameSchema, { heartbeats: columns }));
    };
    const countMax = Math.floor(DECODED_ELEMENTS_MAX / 3);
    expect(decode(heartbeats(countMax))).toHaveLength(countMax);
    expect(() => decode(heartbeats(countMax + 1))).toThrow("too many list elements");
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
