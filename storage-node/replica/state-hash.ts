/**
 * A hash over the replicated state of a group, equal on all replicas at the same applied index.
 *
 * Left out are the journal rows: each replica trims its own, at its own time. Of the last one, which
 * every replica has, the applied index, its term and the revision are told beside the hash.
 */
import { createHash, type Hash } from "node:crypto";
import { writeUint32 } from "#shared/bytes.ts";
import type { GroupId, LogIndex, Revision, Term } from "#shared/ids.ts";
import { ROWS_PER_STEP_MAX } from "#shared/limits.ts";
import type { EngineSnapshot } from "#storage-node/engine/engine.ts";
import { journalRowPosition, RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { decodeJournalRow } from "#storage-node/machine/journal.ts";
import { nextTurn } from "./turn.ts";

export type StateHash = {
  /** 0 before the first entry, as are term and revision. */
  readonly index: LogIndex;
  readonly term: Term;
  readonly revision: Revision;
  /** SHA-256, 64 hex digits. */
  readonly hash: string;
};

/** In the order of their keys. */
const HASHED_KINDS = [RowKind.Data, RowKind.Expiry, RowKind.Counters, RowKind.Configuration];

/**
 * Reads all rows of the group, in steps between which others have their turn.
 * @param view taken between two rounds of the apply pump, so that it holds entries as a whole
 */
export async function stateHash(
  group: GroupId,
  view: Pick<EngineSnapshot, "iterate">,
): Promise<StateHash> {
  const hash = createHash("sha256");
  for (const kind of HASHED_KINDS) await hashRows(hash, group, kind, view);
  const position = await lastJournalRow(group, view);
  return { ...position, hash: hash.digest("hex") };
}

async function hashRows(
  hash: Hash,
  group: GroupId,
  kind: RowKind,
  view: Pick<EngineSnapshot, "iterate">,
): Promise<void> {
  const rows = view.iterate(rowsOf(kind, group));
  const head = new Uint8Array(8);
  try {
    for (;;) {
      const some = await rows.next(ROWS_PER_STEP_MAX);
      if (some.length === 0) return;
      for (const { key, value } of some) {
        writeUint32(head, 0, key.length);
        writeUint32(head, 4, value.length);
        hash.update(head).update(key).update(value);
      }
      await nextTurn();
    }
  } finally {
    await rows.close();
  }
}

async function lastJournalRow(
  group: GroupId,
  view: Pick<EngineSnapshot, "iterate">,
): Promise<Omit<StateHash, "hash">> {
  const rows = view.iterate({ ...rowsOf(RowKind.Journal, group), reverse: true });
  try {
    const row = (await rows.next(1))[0];
    if (row === undefined) {
      return { index: 0 as LogIndex, term: 0 as Term, revision: 0 as Revision };
    }
    const { index, revision } = journalRowPosition(row.key);
    return { index, revision, term: decodeJournalRow(row.key, row.value).term };
  } finally {
    await rows.close();
  }
}
