/** The log that a simulated run opens again and again: the real one, in small segments. */
import type { Clock } from "#shared/clock.ts";
import type { KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import type { Wal } from "#storage-node/wal/types.ts";
import { openWal } from "#storage-node/wal/wal.ts";

const SEGMENT_SIZE_BYTES = 8192;

export function openLog(
  fs: MemoryFileSystem,
  clock: Clock,
  random: Random,
  onFatal: (error: KvError) => void,
): Promise<Wal> {
  return openWal({
    ...{ directory: "/data/wal", nodeId: toNodeId(7), segmentSizeBytes: SEGMENT_SIZE_BYTES },
    ...{ fs, clock, random, onFatal },
  });
}
