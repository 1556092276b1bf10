/**
 * Changes that have just been applied, with what only the entry knows of them: small values and the traces
 * of the writes.
 */
import { encodeChangeBatch } from "#proto/codec/change-batch.ts";
import type { ChangeBatch, ChangedValue, ChangeRecord } from "#proto/codec/change-messages.ts";
import { MutationStatus, type PutAction } from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import { CHANGE_BATCH_BYTES_SOFT_MAX, CHANGE_VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import type { AppliedEntry } from "#storage-node/replica/apply-pump.ts";
import { CHANGE_OVERHEAD_BYTES } from "./log-piece.ts";

/**
 * Byte fields are views of the messages in which the writes came: whoever keeps a batch for long keeps
 * `encoded`.
 */
export class FreshBatch implements ChangeBatch {
  readonly vshard: VshardId;
  readonly previousRevision: Revision;
  readonly changes: readonly ChangeRecord[];
  #encoded: Uint8Array | undefined;

  constructor(vshard: VshardId, changes: readonly ChangeRecord[]) {
    this.vshard = vshard;
    this.previousRevision = (changes[0]!.revision - 1) as Revision;
    this.changes = changes;
  }

  /** Revision of the last change. */
  get endRevision(): Revision {
    return (this.previousRevision + this.changes.length) as Revision;
  }

  /** As `encodeChangeBatch` writes it, once for all who want it. Not to be changed. */
  get encoded(): Uint8Array {
    this.#encoded ??= encodeChangeBatch(this);
    return this.#encoded;
  }
}

/**
 * Batches of what entries `from` to `to` of a round have changed; all of one vshard. Entries whose changes
 * were not noted, because nobody wanted them then, are left out: there is a gap.
 */
export function freshBatches(
  vshard: VshardId,
  round: readonly AppliedEntry[],
  from: number,
  to: number,
): readonly FreshBatch[] {
  const batches: FreshBatch[] = [];
  let changes: ChangeRecord[] = [];
  let sizeBytes = 0;
  const cut = (): void => {
    if (changes.length > 0) batches.push(new FreshBatch(vshard, changes));
    changes = [];
    sizeBytes = 0;
  };
  for (let i = from; i < to; i++) {
    const entry = round[i]!;
    if (entry.changes === undefined) {
      cut();
      continue;
    }
    for (const record of freshRecords(entry)) {
      if (sizeBytes >= CHANGE_BATCH_BYTES_SOFT_MAX) cut();
      changes.push(record);
      const valueBytes = record.value === undefined ? 0 : record.value.value.length;
      sizeBytes += CHANGE_OVERHEAD_BYTES + record.key.length + valueBytes;
    }
  }
  cut();
  return batches;
}

type Fresh = { -readonly [K in keyof ChangeRecord]: ChangeRecord[K] };

function freshRecords({
  body,
  writes,
  outcomes,
  changes,
  logTimeMs,
}: AppliedEntry): readonly Fresh[] {
  const records = changes!.map(
    (change): Fresh => ({
      ...change,
      timeMs: logTimeMs,
      transactionId: EMPTY_BYTES,
      value: undefined,
      traceContext: EMPTY_BYTES,
    }),
  );
  if (body === undefined || records.length === 0) return records;
  const first = records[0]!.revision;
  // A second copy of a command has the outcome of the first, and perhaps other contents: what was applied is
  // what came first.
  const isComplete = new Array<boolean>(records.length).fill(false);
  for (let i = 0; i < body.commands.length; i++) {
    const outcome = outcomes[i]!;
    if (outcome.kind === "failure") continue;
    const { mutations } = body.commands[i]!;
    const traceContext = writes?.[i]?.trace?.context ?? EMPTY_BYTES;
    for (let j = 0; j < mutations.length; j++) {
      const { status, revision } = outcome.mutations[j]!;
      const { action } = mutations[j]!;
      const record = records[revision - first];
      // Revisions of failed conditions and of reseals are those that the key had before.
      if (status !== MutationStatus.Applied || action.kind === "reseal") continue;
      if (record === undefined || isComplete[revision - first]) continue;
      isComplete[revision - first] = true;
      record.traceContext = traceContext;
      if (action.kind === "put") record.value = smallValue(action);
    }
  }
  return records;
}

function smallValue({ value, encoding = 0, contentType }: PutAction): ChangedValue | undefined {
  if (value.length > CHANGE_VALUE_SIZE_BYTES_MAX) return undefined;
  return { value, encoding, contentType };
}
