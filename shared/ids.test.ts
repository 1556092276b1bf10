/** Branded numbers: what `to…` lets in. */
import { describe, expect, it } from "vitest";
import {
  groupOfVshard,
  META_GROUP,
  NODE_ID_MAX,
  nodeOfReplica,
  REPLICA_SEQUENCE_MAX,
  replicaIdOf,
  Space,
  sequenceOfReplica,
  toGroupId,
  toLogIndex,
  toNodeId,
  toReplicaId,
  toRevision,
  toTenantId,
  toTerm,
  toVshardId,
  VSHARD_COUNT,
} from "./ids.ts";

const CONVERTERS: readonly (readonly [string, (value: number) => number, number])[] = [
  ["toNodeId", toNodeId, NODE_ID_MAX],
  ["toReplicaId", toReplicaId, Number.MAX_SAFE_INTEGER],
  ["toGroupId", toGroupId, 0xffff],
  ["toVshardId", toVshardId, 255],
  ["toTerm", toTerm, Number.MAX_SAFE_INTEGER],
  ["toLogIndex", toLogIndex, Number.MAX_SAFE_INTEGER],
  ["toRevision", toRevision, Number.MAX_SAFE_INTEGER],
  ["toTenantId", toTenantId, 0xffff_ffff],
];

describe.each(CONVERTERS)("%s()", (_, convert, max) => {
  it(`takes 0 to ${max}`, () => {
    expect([convert(0), convert(1), convert(max)]).toEqual([0, 1, max]);
  });

  it.each([-1, max + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])("rejects %d", (value) => {
    expect(() => convert(value)).toThrow(RangeError);
  });
});

describe("groupOfVshard()", () => {
  it("is the same number, and never the meta group", () => {
    for (let vshard = 0; vshard < VSHARD_COUNT; vshard++) {
      expect(groupOfVshard(toVshardId(vshard))).toBe(vshard);
    }
    expect(META_GROUP).toBeGreaterThanOrEqual(VSHARD_COUNT);
  });
});

describe("Space", () => {
  it("keeps its numbers, which are on disk", () => {
    expect(Space).toEqual({ Kv: 1, Meta: 2, Directory: 3, Ticket: 4 });
  });
});

describe("replicaIdOf()", () => {
  it.each([
    [1, 0, 1],
    [3, 1, 2 ** 20 + 3],
    [NODE_ID_MAX, REPLICA_SEQUENCE_MAX, 2 ** 52 - 1],
  ])("node %d, sequence %d: %d, and back", (node, sequence, replica) => {
    const id = replicaIdOf(toNodeId(node), sequence);
    expect(id).toBe(replica);
    expect([nodeOfReplica(id), sequenceOfReplica(id)]).toEqual([node, sequence]);
  });

  it("refuses a sequence out of range", () => {
    expect(() => replicaIdOf(toNodeId(1), REPLICA_SEQUENCE_MAX + 1)).toThrow(RangeError);
  });
});
