import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  FRAME_HEADER_SIZE_BYTES,
  frameAt,
  SEGMENT_HEADER_SIZE_BYTES,
  sealFrame,
} from "./frame.ts";

const ANY = Number.MAX_SAFE_INTEGER;
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const sequence = fc.maxSafeNat();

describe("sealFrame()", () => {
  it("makes what frameAt() reads, anywhere in a buffer", () => {
    fc.assert(
      fc.property(
        fc.record({ sequence, previousCrc: uint32, durable: sequence }),
        fc.uint8Array({ maxLength: 200 }),
        uint32,
        fc.nat({ max: 20 }),
        (fields, payload, salt, offset) => {
          const lengthBytes = FRAME_HEADER_SIZE_BYTES + payload.length;
          const bytes = new Uint8Array(offset + lengthBytes + 10);
          bytes.set(payload, offset + FRAME_HEADER_SIZE_BYTES);
          const crc = sealFrame(bytes.subarray(offset, offset + lengthBytes), salt, fields);
          expect(frameAt(bytes, offset, salt, 0, ANY)).toEqual({ ...fields, crc, lengthBytes });
        },
      ),
    );
  });
});

describe("frameAt()", () => {
  const salt = 0x1234_5678;
  const frame = new Uint8Array(60).fill(0xab);
  sealFrame(frame, salt, { sequence: 5, previousCrc: 77, durable: 4 });

  it("takes no frame with a flipped bit", () => {
    for (let bit = 0; bit < frame.length * 8; bit++) {
      const damaged = frame.slice();
      damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
      expect(frameAt(damaged, 0, salt, 0, ANY)).toBeUndefined();
    }
  });

  it("takes no frame that is cut", () => {
    for (let length = 0; length < frame.length; length++) {
      expect(frameAt(frame.subarray(0, length), 0, salt, 0, ANY)).toBeUndefined();
    }
  });

  it("takes no frame of another segment, nor zeros", () => {
    expect(frameAt(frame, 0, salt + 1, 0, ANY)).toBeUndefined();
    expect(frameAt(new Uint8Array(100), 0, salt, 0, ANY)).toBeUndefined();
    expect(frameAt(new Uint8Array(100), 0, 0, 0, ANY)).toBeUndefined();
  });

  it("takes only sequences asked for", () => {
    expect(frameAt(frame, 0, salt, 5, 5)).toMatchObject({ sequence: 5 });
    expect(frameAt(frame, 0, salt, 6, ANY)).toBeUndefined();
    expect(frameAt(frame, 0, salt, 0, 4)).toBeUndefined();
  });
});

describe("decodeSegmentHeader()", () => {
  const header = {
    version: 1,
    nodeId: 7,
    number: 3,
    firstSequence: 2 ** 40,
    sizeBytes: 65_536,
    previousCrc: 0xffff_ffff,
    salt: 0x8000_0001,
  };
  const bytes = new Uint8Array(SEGMENT_HEADER_SIZE_BYTES);
  encodeSegmentHeader(bytes, header);

  it("reads what encodeSegmentHeader() wrote", () => {
    expect(decodeSegmentHeader(bytes)).toEqual(header);
    expect(Buffer.from(bytes).toString("latin1", 0, 8)).toBe("minikvwl");
  });

  it("refuses every flipped bit, a cut, and zeros", () => {
    for (let bit = 0; bit < 52 * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3] = damaged[bit >> 3]! ^ (1 << (bit & 7));
      expect(decodeSegmentHeader(damaged)).toBeUndefined();
    }
    expect(decodeSegmentHeader(bytes.subarray(0, 4095))).toBeUndefined();
    expect(decodeSegmentHeader(new Uint8Array(SEGMENT_HEADER_SIZE_BYTES))).toBeUndefined();
  });
});
