/**
 * What recovery may say of a log on a disk that lied: the boundary that docs/formats/wal.md draws,
 * told from the log as it should be and as it is.
 *
 * `whole`: everything is there. `refused`: DATA_CORRUPT. `cut`: the log ends in front of the first
 * damaged batch, because nothing behind it bears witness: no intact later batch, no seal, no later
 * segment. That is the one case that cannot be told from a torn write, or from an older state.
 */
import { equalBytes } from "#shared/bytes.ts";
import {
  decodeSegmentHeader,
  frameAt,
  SEGMENT_HEADER_SIZE_BYTES,
} from "#storage-node/wal/frame.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";

export type Boundary = {
  readonly allowed: ReadonlySet<"whole" | "refused" | "cut">;
  /**
   * The log in front of the first damaged batch, which a cut leaves at least; or which is refused, when
   * the rest told that entries in removed segments were not needed. Undefined: any older state.
   */
  readonly undamaged: MemoryFileSystem | undefined;
  readonly why: string;
};

type FrameOnDisk = { readonly offset: number; readonly end: number; readonly sequence: number };

type Segment = {
  readonly path: string;
  readonly honest: Uint8Array;
  /** Undefined when the file is not there. */
  readonly found: Uint8Array | undefined;
  readonly frames: readonly FrameOnDisk[];
};

const HEADER_FIELDS_SIZE_BYTES = 52;

/** `honest` is what the disk should hold, without any damage; `found` is what it holds. */
export function boundaryOf(honest: MemoryFileSystem, found: MemoryFileSystem): Boundary {
  const segments = segmentsOf(honest, found);
  const present = segments.filter((segment) => segment.found !== undefined);
  const whole = copyOf(segments);
  const say = (why: string, ...allowed: ("whole" | "refused" | "cut")[]): Boundary => ({
    allowed: new Set(allowed),
    undamaged: whole,
    why,
  });
  const extra = found.paths.filter((path) => isSegment(path) && !honest.paths.includes(path));
  const missing = segments.findIndex((segment) => segment.found === undefined);
  const lastPresent = segments.findLastIndex((segment) => segment.found !== undefined);
  // The oldest may have been obsolete; a hole never is.
  const isOldestMissing = missing === 0 && lastPresent > 0;
  if (missing > 0 && missing < lastPresent) return say("a hole between segments", "refused");
  if (isOldestMissing || extra.length > 0) {
    const why = isOldestMissing ? "the oldest segment is missing" : `removed are back: ${extra}`;
    // If names of both kinds were lost, or something is damaged besides, it is an older state.
    const isNewestMissing = lastPresent < segments.length - 1;
    const isLess = isNewestMissing || present.some((segment) => damageOf(segment) !== undefined);
    if (!isLess) return say(why, "whole", "refused");
    return { allowed: new Set(["cut", "refused"]), undamaged: undefined, why };
  }
  for (const [i, segment] of present.entries()) {
    const damage = damageOf(segment);
    if (damage === undefined) continue;
    const isNewest = i === present.length - 1;
    if (damage === "header") return say(`header of ${segment.path}`, "refused");
    const { frames } = segment;
    const number = frames.indexOf(damage);
    if (!isNewest) return say("a segment with a successor is damaged", "refused");
    if (number === 0) return say("the first batch of a segment is damaged", "refused");
    const witness = frames.slice(number + 1).find((frame) => isIntact(segment, frame));
    if (witness !== undefined) return say(`batch ${witness.sequence} bears witness`, "refused");
    const why = `batch ${damage.sequence} and all behind it`;
    const undamaged = copyOf(present, damage.offset);
    const allowed = hasWitness(segment, damage) ? ["cut", "refused"] : ["cut"];
    return { allowed: new Set(allowed as ("cut" | "refused")[]), undamaged, why };
  }
  if (missing >= 0) {
    return { allowed: new Set(["cut"]), undamaged: copyOf(present), why: "newest files missing" };
  }
  const newest = present.at(-1);
  const end = newest?.frames.at(-1)?.end ?? 0;
  const same = !newest || equalBytes(newest.honest.subarray(end), newest.found!.subarray(end));
  if (same) return say("no damage", "whole");
  // A frame of this segment that landed there may look like one that is missing.
  return say("noise behind the last batch", "whole", "refused");
}

function segmentsOf(honest: MemoryFileSystem, found: MemoryFileSystem): Segment[] {
  const paths = honest.paths.filter(isSegment);
  return paths.map((path, i) => {
    const bytes = honest.content(path);
    return {
      path,
      honest: bytes,
      found: found.paths.includes(path) ? found.content(path) : undefined,
      frames: framesOf(bytes, paths[i + 1]),
    };
  });
}

const isSegment = (path: string): boolean => path.endsWith(".wal");

/** Those that count: a seal whose place the next segment's first batch has taken does not. */
function framesOf(bytes: Uint8Array, nextPath: string | undefined): FrameOnDisk[] {
  const frames: FrameOnDisk[] = [];
  const header = decodeSegmentHeader(bytes);
  if (header === undefined) return frames;
  const name = nextPath?.slice(nextPath.lastIndexOf("/") + 1, -".wal".length);
  const sequenceEnd = name === undefined ? Number.MAX_SAFE_INTEGER : Number.parseInt(name, 16);
  let offset = SEGMENT_HEADER_SIZE_BYTES;
  for (;;) {
    const frame = frameAt(bytes, offset, header.salt, 0, sequenceEnd - 1);
    if (frame === undefined) return frames;
    frames.push({ offset, end: offset + frame.lengthBytes, sequence: frame.sequence });
    offset += frame.lengthBytes;
  }
}

function damageOf(segment: Segment): "header" | FrameOnDisk | undefined {
  const { honest, frames } = segment;
  const found = segment.found!;
  const header = honest.subarray(0, HEADER_FIELDS_SIZE_BYTES);
  if (!equalBytes(header, found.subarray(0, HEADER_FIELDS_SIZE_BYTES))) return "header";
  return frames.find((frame) => !isIntact(segment, frame));
}

const isIntact = ({ honest, found }: Segment, { offset, end }: FrameOnDisk): boolean =>
  equalBytes(honest.subarray(offset, end), found!.subarray(offset, end));

/**
 * What is not in its place may be in another; and where a batch was lost, the seal that it should have
 * overwritten may be left. Both tell the truth of what is missing.
 */
function hasWitness({ honest, found }: Segment, { offset, sequence }: FrameOnDisk): boolean {
  const { salt } = decodeSegmentHeader(honest)!;
  for (let at = offset + 1; at < found!.length; at++) {
    if (frameAt(found!, at, salt, sequence, Number.MAX_SAFE_INTEGER) !== undefined) return true;
  }
  return false;
}

/** A disk with these segments as they should be, the last one only up to `end`. */
function copyOf(segments: readonly Segment[], end = Number.POSITIVE_INFINITY): MemoryFileSystem {
  const fs = new MemoryFileSystem();
  for (const [i, { path, honest }] of segments.entries()) {
    const bytes = honest.slice();
    if (i === segments.length - 1 && end < bytes.length) bytes.fill(0, end);
    fs.put(path, bytes);
  }
  return fs;
}
