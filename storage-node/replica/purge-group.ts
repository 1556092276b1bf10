/**
 * Deletes all rows of a group: of a replica that was destroyed, or that is to be replaced as a whole.
 *
 * In steps of some milliseconds, with turns of the event loop in between, each step a batch of its
 * own. So a crash leaves part of the rows: the caller has noted durably before that they are to go, and
 * purges again. Nothing may write rows of the group meanwhile.
 */
import type { GroupId } from "#shared/ids.ts";
import { ROWS_PER_STEP_MAX } from "#shared/limits.ts";
import type { Engine, EngineIterator } from "#storage-node/engine/engine.ts";
import { RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { nextTurn } from "./turn.ts";

/**
 * Answers how many rows were deleted. Not durable before the engine is flushed.
 * @param goesOn asked before each step; once false, the rest stays
 */
export async function purgeGroup(
  engine: Pick<Engine, "iterate" | "batch" | "write">,
  group: GroupId,
  goesOn: () => boolean = () => true,
): Promise<number> {
  let count = 0;
  for (const kind of Object.values(RowKind)) {
    // One cursor for all steps: a new one would walk over what the engine keeps of deleted rows.
    const rows = engine.iterate({ ...rowsOf(kind, group), keysOnly: true });
    try {
      count += await purgeRows(engine, rows, goesOn);
    } finally {
      await rows.close();
    }
  }
  return count;
}

async function purgeRows(
  engine: Pick<Engine, "batch" | "write">,
  rows: EngineIterator,
  goesOn: () => boolean,
): Promise<number> {
  let count = 0;
  const batch = engine.batch();
  while (goesOn()) {
    const some = await rows.next(ROWS_PER_STEP_MAX);
    if (some.length === 0) break;
    batch.clear();
    for (const { key } of some) batch.delete(key);
    await engine.write(batch);
    count += some.length;
    await nextTurn();
  }
  return count;
}
