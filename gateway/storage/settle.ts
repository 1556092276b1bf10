/**
 * Waits until no write that was sent long ago can still come about.
 *
 * A deadline bounds when a command is stamped by a leader, and not when its entry is committed: an entry
 * that was stamped in time stays in its leader's log while it cannot be replicated, perhaps for minutes, and a
 * read that passes meanwhile does not see it. A later write to the same vshard does: it stands behind that
 * entry in the log, so when it is committed, the entry is applied. An entry that is in another log than that
 * of this write's leader is cut off there, and never committed.
 *
 * So, when all deadlines have passed, one write to each vshard settles them. These writes change nothing: each
 * is the removal of a key under a condition that never holds.
 */

import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { Space, type TenantId, VSHARD_COUNT } from "#shared/ids.ts";
import { vshardOf } from "#shared/vshard.ts";
import type { BatchOperation, Storage } from "./storage.ts";

/** No key ever has it: revisions count changes from 1 on. */
const NEVER = Number.MAX_SAFE_INTEGER;

/**
 * @param storage beneath quotas and encryption
 * @throws KvError when some vshard did not carry it out; then nothing is known, and it is to be tried again
 */
export async function settleWrites(
  storage: Pick<Storage, "batch">,
  tenant: TenantId,
  deadlineMs: number,
): Promise<void> {
  const condition = {
    mustBeAbsent: false,
    mustExist: false,
    revisionIs: [NEVER],
    revisionIsNot: [],
  };
  const operations = keyInEachVshard(tenant).map(
    (key): BatchOperation => ({ kind: "delete", key, condition }),
  );
  const outcomes = await storage.batch(tenant, operations, {
    deadlineMs,
    admitValue: () => undefined,
  });
  for (const outcome of outcomes) {
    if (outcome.kind === "failed") throw outcome.error;
    if (outcome.kind !== "conditionFailed" && outcome.kind !== "notFound") {
      throw new KvError("INTERNAL", "a removal under a condition that never holds was carried out");
    }
  }
}

function keyInEachVshard(tenant: TenantId): readonly Uint8Array[] {
  const keys = new Map<number, Uint8Array>();
  for (let n = 0; keys.size < VSHARD_COUNT; n++) {
    const key = utf8(`settle ${n}`);
    const vshard = vshardOf({ tenant, space: Space.Kv, key });
    if (!keys.has(vshard)) keys.set(vshard, key);
  }
  return [...keys.values()];
}
