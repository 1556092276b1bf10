/** The log of a stopped server as bytes: which segments there are, and where each batch lies. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  decodeSegmentHeader,
  type Frame,
  frameAt,
  SEGMENT_HEADER_SIZE_BYTES,
} from "#storage-node/wal/frame.ts";

export type PlacedFrame = Frame & { readonly offset: number };

/** Paths of the segments in `<dataDir>/wal`, oldest first. */
export function segmentPaths(dataDir: string): readonly string[] {
  const directory = join(dataDir, "wal");
  const names = readdirSync(directory).filter((name) => name.endsWith(".wal"));
  return names.sort().map((name) => join(directory, name));
}

/** The intact batches of a segment, in order. @throws Error when its header is not intact. */
export function framesOf(segment: Uint8Array): readonly PlacedFrame[] {
  const header = decodeSegmentHeader(segment);
  if (header === undefined) throw new Error("the segment has no header");
  const frames: PlacedFrame[] = [];
  let offset = SEGMENT_HEADER_SIZE_BYTES;
  for (;;) {
    const frame = frameAt(segment, offset, header.salt, 0, Number.MAX_SAFE_INTEGER);
    if (frame === undefined) return frames;
    frames.push({ ...frame, offset });
    offset += frame.lengthBytes;
  }
}

/** Sequence of the last intact batch of the whole log. */
export function lastSequence(dataDir: string): number {
  const newest = segmentPaths(dataDir).at(-1);
  if (newest === undefined) throw new Error(`${dataDir} has no log`);
  return framesOf(readFileSync(newest)).at(-1)!.sequence;
}
