import { describe, expect, it } from "vitest";
import type { GroupId, LogIndex, NodeId, ReplicaId, Term } from "#shared/ids.ts";
import { EntryKind, type Message } from "#storage-node/raft/types.ts";
import { EntryMemory } from "./entry-memory.ts";
import { decodeLinkFrame, encodeLinkFrame } from "./frame-codec.ts";

const NODES = { from: 1 as NodeId, to: 2 as NodeId };

type Append = Extract<Message, { readonly kind: "append" }>;

function appendOf(group: number, data: readonly Uint8Array[]): Append {
  const entries = data.map((bytes, i) => ({
    index: (10 + i) as LogIndex,
    term: 2 as Term,
    kind: EntryKind.Normal,
    data: bytes,
  }));
  return {
    kind: "append",
    group: group as GroupId,
    from: 1 as ReplicaId,
    to: 2 as ReplicaId,
    term: 2 as Term,
    previousIndex: 9 as LogIndex,
    previousTerm: 2 as Term,
    commit: 9 as LogIndex,
    entries,
  };
}

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

/** Data of each entry of each append, after a journey in one frame. */
function received(memory: EntryMemory, appends: readonly Append[]): readonly Uint8Array[][] {
  const messages = decodeLinkFrame(encodeLinkFrame(appends), NODES, memory) as readonly Append[];
  expect(messages).toEqual(appends);
  return messages.map(({ entries }) => entries.map(({ data }) => data));
}

describe("EntryMemory", () => {
  it("leaves entries where they are that are most of their frame", () => {
    const frame = encodeLinkFrame([appendOf(1, [filled(100_000, 1), filled(100_000, 2)])]);
    const [append] = decodeLinkFrame(frame, NODES, new EntryMemory()) as Append[];
    for (const { data } of append!.entries) expect(data.buffer).toBe(frame.buffer);
  });

  it("lets small entries share memory with others of their group only", () => {
    const memory = new EntryMemory();
    const small = () => [filled(100, 3), filled(0, 0), filled(50, 4)];
    const [first, other] = received(memory, [appendOf(1, small()), appendOf(2, small())]);
    const [second] = received(memory, [appendOf(1, small())]);
    const buffers = [first!, second!].flat().map(({ buffer }) => buffer);
    expect(new Set(buffers).size).toBe(1);
    expect(other![0]!.buffer).not.toBe(buffers[0]);
    expect(buffers[0]!.byteLength).toBeLessThanOrEqual(8 * 1024);
  });

  it("begins another slab when one is full, and keeps what is in the first", () => {
    const memory = new EntryMemory();
    const kept = Array.from({ length: 20 }, (_, i) => {
      return received(memory, [appendOf(1, [filled(1_000, i)])])[0]![0]!;
    });
    kept.forEach((data, i) => {
      expect(data).toEqual(filled(1_000, i));
    });
    expect(new Set(kept.map(({ buffer }) => buffer)).size).toBe(3);
  });

  it("gives larger appends memory of their own", () => {
    const large = filled(1_000_000, 1);
    const [, second] = received(new EntryMemory(), [
      appendOf(1, [large]),
      appendOf(2, [filled(5_000, 2), filled(5_000, 3)]),
    ]);
    expect(second![0]!.buffer.byteLength).toBe(10_000);
    expect(second![1]!.buffer).toBe(second![0]!.buffer);
  });

  it("takes any number of groups", () => {
    const memory = new EntryMemory();
    for (let group = 0; group < 2_000; group++) received(memory, [appendOf(group, [filled(9, 9)])]);
  });
});
