/**
 * What no crash does to a log: it is removed, or a byte goes bad in a batch that was durable.
 *
 * A batch was durable for certain if an intact one follows it, since the log writes a batch only when
 * the one before is synced. Damage to the last one cannot be told from a torn write, so it is spared.
 */
import type { SeededRandom } from "#shared/random.ts";
import {
  decodeSegmentHeader,
  FRAME_HEADER_SIZE_BYTES,
  frameAt,
  SEGMENT_HEADER_SIZE_BYTES,
} from "#storage-node/wal/frame.ts";
import {
  MemoryFileSystem,
  type MemoryFileSystemOptions,
} from "#storage-node/wal/memory-file-system.ts";

type Frame = { readonly offset: number; readonly lengthBytes: number };

/** A copy of `intact` with damage; undefined when there is nothing that could be damaged. */
export function damagedLog(
  intact: MemoryFileSystem,
  random: SeededRandom,
  options: MemoryFileSystemOptions,
  { mayRemove }: { readonly mayRemove: boolean },
): MemoryFileSystem | undefined {
  if (mayRemove && random.below(3) === 0) return new MemoryFileSystem(options);
  const segments = intact.paths.filter((path) => path.endsWith(".wal"));
  const path = segments.at(-1);
  if (path === undefined) return undefined;
  const bytes = intact.content(path).slice();
  const frames = framesOf(bytes);
  if (frames.length < 2) return undefined;
  const { offset, lengthBytes } = frames[random.below(frames.length - 1)]!;
  const at = offset + random.below(lengthBytes);
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  const damaged = intact.restarted(options);
  damaged.put(path, bytes);
  return damaged;
}

function framesOf(bytes: Uint8Array): readonly Frame[] {
  const frames: Frame[] = [];
  const header = decodeSegmentHeader(bytes);
  if (header === undefined) return frames;
  const sequenceMax = header.firstSequence + bytes.length / FRAME_HEADER_SIZE_BYTES;
  for (let offset = SEGMENT_HEADER_SIZE_BYTES; ; ) {
    const frame = frameAt(bytes, offset, header.salt, 0, sequenceMax);
    if (frame === undefined) return frames;
    frames.push({ offset, lengthBytes: frame.lengthBytes });
    offset += frame.lengthBytes;
  }
}
