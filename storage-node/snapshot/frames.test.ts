import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { toGroupId, toLogIndex, toReplicaId, toTerm } from "#shared/ids.ts";
import { SNAPSHOT_FRAME_SIZE_BYTES_MAX } from "#shared/limits.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import {
  decodeFrame,
  decodeRows,
  encodeFrame,
  encodeRows,
  FRAME_HEAD_SIZE_BYTES,
  type Frame,
  frameSizeBytes,
  rowSizeBytes,
  Verdict,
} from "./frames.ts";

const replica = fc.maxSafeNat().map(toReplicaId);
const term = fc.maxSafeNat().map(toTerm);
const sequence = fc.integer({ min: 0, max: 0xffff_ffff });
const replicas = fc.array(replica, { maxLength: 5 });
const row = fc.record({
  key: fc.uint8Array({ maxLength: 40 }),
  value: fc.uint8Array({ maxLength: 90 }),
});

type Plain = Exclude<Frame, { kind: "rows" }>;
const frame: fc.Arbitrary<Plain> = fc.oneof(
  fc.record({
    kind: fc.constant("open" as const),
    transfer: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    group: fc.integer({ min: 0, max: 0xffff }).map(toGroupId),
    from: replica,
    to: replica,
    term,
    snapshotIndex: fc.maxSafeNat().map(toLogIndex),
    snapshotTerm: term,
    configuration: fc.record({
      voters: replicas,
      outgoing: replicas,
      learners: replicas,
      learnersNext: replicas,
      highestId: replica,
    }),
  }),
  fc.record({
    kind: fc.constant("end" as const),
    chunks: sequence,
    rows: fc.maxSafeNat(),
    hash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    term,
  }),
  fc.record({ kind: fc.constant("next" as const), sequence }),
  fc.record({
    kind: fc.constant("over" as const),
    verdict: fc.constantFrom(...Object.values(Verdict)),
  }),
);

/** With plain arrays of bytes, whatever their class. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Array.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
}

const chunkOf = (number: number, rows: readonly Row[]): Uint8Array =>
  encodeRows(
    number,
    rows,
    rows.reduce((size, each) => size + rowSizeBytes(each), 0),
  );

/** Frames of every kind. */
const SAMPLES = [
  ...fc.sample(frame, { numRuns: 12, seed: 5 }).map(encodeFrame),
  chunkOf(3, [{ key: new Uint8Array([1, 0, 5, 9]), value: new Uint8Array(20).fill(7) }]),
];

describe("encodeFrame()", () => {
  it("writes what decodeFrame() reads", () => {
    fc.assert(
      fc.property(frame, (each) => {
        expect(plain(decodeFrame(encodeFrame(each)))).toEqual(plain(each));
      }),
    );
  });
});

describe("encodeRows()", () => {
  it("writes what decodeFrame() and decodeRows() read", () => {
    fc.assert(
      fc.property(sequence, fc.array(row, { maxLength: 6 }), (number, rows) => {
        const decoded = decodeFrame(chunkOf(number, rows));
        expect(decoded).toMatchObject({ kind: "rows", sequence: number });
        const found: Row[] = [];
        if (decoded.kind === "rows") decodeRows(decoded.bytes, (each) => found.push(each));
        expect(plain(found)).toEqual(plain(rows));
      }),
    );
  });
});

describe("decodeFrame()", () => {
  it("refuses every frame with a flipped bit, whichever", () => {
    for (const sample of SAMPLES) {
      for (let offset = 0; offset < sample.length; offset++) {
        for (let bit = 0; bit < 8; bit++) {
          const damaged = Uint8Array.from(sample);
          damaged[offset] = damaged[offset]! ^ (1 << bit);
          expect(() => decodeFrame(damaged)).toThrow(RangeError);
        }
      }
    }
  });

  it("refuses a frame that is cut, or has something behind it", () => {
    for (const sample of SAMPLES) {
      for (let length = 0; length < sample.length; length++) {
        expect(() => decodeFrame(sample.subarray(0, length))).toThrow(RangeError);
      }
      expect(() => decodeFrame(Buffer.concat([sample, new Uint8Array(1)]))).toThrow(RangeError);
    }
  });
});

describe("decodeRows()", () => {
  it("answers rows or throws RangeError, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          decodeRows(bytes, () => {});
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });
});

describe("frameSizeBytes()", () => {
  it("refuses a length that would claim more memory than any frame has", () => {
    const head = Buffer.alloc(FRAME_HEAD_SIZE_BYTES);
    head.writeUInt32BE(SNAPSHOT_FRAME_SIZE_BYTES_MAX, 4);
    expect(frameSizeBytes(head)).toBe(SNAPSHOT_FRAME_SIZE_BYTES_MAX);
    head.writeUInt32BE(SNAPSHOT_FRAME_SIZE_BYTES_MAX + 1, 4);
    expect(() => frameSizeBytes(head)).toThrow(RangeError);
  });
});
