/** Traces beside messages: against the generated code, against nodes that know none, and within bounds. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { withUnknownFields } from "#proto/codec/testing.ts";
import { EntryTraceSchema, LinkFrameSchema } from "#proto/gen/minikv/v1/node_pb.ts";
import type { GroupId, LogIndex, Term } from "#shared/ids.ts";
import { TRACED_ENTRIES_PER_FRAME_MAX, TRACED_ENTRIES_PER_GROUP_MAX } from "#shared/limits.ts";
import { EntryKind } from "#storage-node/raft/types.ts";
import { EntryMemory } from "./entry-memory.ts";
import { EntryTraces } from "./entry-traces.ts";
import { decodeLinkFrame, encodeLinkFrame } from "./frame-codec.ts";
import {
  type Append,
  anyMessages,
  anyTraces,
  forGenerated,
  framed,
  NODES,
} from "./testing/messages.ts";
import type { CarriedTrace } from "./transport.ts";

const CONTEXT = new Uint8Array(25).fill(7);

const generated = (traces: readonly CarriedTrace[]) =>
  traces.map(({ group, index, term, context }) =>
    create(EntryTraceSchema, { group, index: BigInt(index), term: BigInt(term), context }),
  );

function decode(bytes: Uint8Array) {
  const traces: CarriedTrace[] = [];
  const messages = decodeLinkFrame(bytes, NODES, new EntryMemory(), traces);
  return { messages, traces };
}

const traceOf = (group: number, index: number, term = 2): CarriedTrace => ({
  ...{ group: group as GroupId, index: index as LogIndex, term: term as Term, context: CONTEXT },
});

const appendOf = (group: number, previousIndex: number, count: number, term = 2) =>
  ({
    ...{ kind: "append", group, from: 3, to: 7, term, previousIndex, previousTerm: 1, commit: 1 },
    entries: Array.from({ length: count }, (_, i) => ({
      ...{ index: previousIndex + 1 + i, term, kind: EntryKind.Normal, data: CONTEXT },
    })),
  }) as unknown as Append;

describe("traces in a frame", () => {
  it("are those of the generated code, both ways", () => {
    fc.assert(
      fc.property(anyMessages(), anyTraces(), (messages, traces) => {
        const bytes = encodeLinkFrame(messages, traces);
        const message = create(LinkFrameSchema, forGenerated(messages));
        message.traces = generated(traces);
        expect(fromBinary(LinkFrameSchema, new Uint8Array(bytes))).toEqual(message);
        const both = { messages: framed(messages), traces };
        expect(decode(bytes)).toEqual(both);
        const theirs = toBinary(LinkFrameSchema, message);
        expect(decode(withUnknownFields(theirs))).toEqual(both);
      }),
    );
  });

  it("are skipped by who does not want them", () => {
    fc.assert(
      fc.property(anyMessages(), anyTraces(), (messages, traces) => {
        const bytes = encodeLinkFrame(messages, traces);
        expect(decodeLinkFrame(bytes, NODES, new EntryMemory())).toEqual(framed(messages));
      }),
    );
  });

  it("cost nothing when there are none", () => {
    expect(encodeLinkFrame([], [])).toHaveLength(0);
  });

  it("are not worth a link: those of no use are left out, and those beyond the bound", () => {
    const frameOf = (traces: readonly CarriedTrace[]) =>
      toBinary(LinkFrameSchema, create(LinkFrameSchema, { traces: generated(traces) }));
    const short = { ...traceOf(1, 1), context: CONTEXT.subarray(1) };
    const far = { ...traceOf(1, 1), group: 70_000 as GroupId };
    expect(decode(frameOf([short, far, traceOf(1, 2)])).traces).toEqual([traceOf(1, 2)]);
    const many = Array.from({ length: 200 }, (_, index) => traceOf(1, index));
    expect(decode(frameOf(many)).traces).toHaveLength(TRACED_ENTRIES_PER_FRAME_MAX);
  });

  it("do not keep the frame", () => {
    const [trace] = decode(encodeLinkFrame([], [traceOf(1, 2)])).traces;
    expect(trace!.context.buffer.byteLength).toBe(25);
  });
});

describe("EntryTraces", () => {
  it("gives a frame the traces of the entries in it", () => {
    const traces = new EntryTraces();
    for (const trace of [traceOf(1, 5), traceOf(1, 6), traceOf(2, 5), traceOf(3, 5, 9)]) {
      traces.add(trace);
    }
    expect(traces.of([appendOf(1, 4, 1), appendOf(4, 4, 9)])).toEqual([traceOf(1, 5)]);
    expect(traces.of([appendOf(1, 3, 9), appendOf(2, 0, 9)])).toHaveLength(3);
    // An entry of another term is another entry.
    expect(traces.of([appendOf(3, 4, 1)])).toEqual([]);
    expect(traces.of([appendOf(1, 6, 3), appendOf(1, 4, 0)])).toEqual([]);
  });

  it("forgets the oldest of a group beyond its bound", () => {
    const traces = new EntryTraces();
    for (let index = 1; index <= 20; index++) traces.add(traceOf(1, index));
    const held = () => traces.of([appendOf(1, 0, 30)]).map(({ index }) => index);
    expect(held()).toHaveLength(TRACED_ENTRIES_PER_GROUP_MAX);
    expect(held()[0]).toBe(21 - TRACED_ENTRIES_PER_GROUP_MAX);
  });

  it("gives a frame no more than it may have", () => {
    const traces = new EntryTraces();
    const appends = Array.from({ length: 20 }, (_, group) => appendOf(group, 0, 10));
    for (let group = 0; group < 20; group++) {
      for (let index = 1; index <= 8; index++) traces.add(traceOf(group, index));
    }
    expect(traces.of(appends)).toHaveLength(TRACED_ENTRIES_PER_FRAME_MAX);
  });
});
