/** What the rows of data keys say of themselves: with which master keys they are wrapped, and which are damaged. */
import { setImmediate } from "node:timers/promises";
import type { DirectoryRow } from "#gateway/directory/directory.ts";
import { KvError } from "#shared/errors.ts";
import { KEYS_CHECKED_PER_TURN } from "#shared/limits-codec.ts";
import { readDataKeyRow, unwrapDataKey } from "./data-key-rows.ts";
import type { MasterKeys } from "./master-keys.ts";

export type KeySurvey = {
  /** Keys by the id of what wraps them, damaged ones too where that can be read. */
  readonly byMasterKey: ReadonlyMap<string, number>;
  readonly unreadable: readonly { readonly row: string; readonly reason: string }[];
};

/** Unwraps each key that can be unwrapped here: most of a row is the wrapped key, so most damage is found so. */
export async function surveyDataKeys(
  rows: readonly DirectoryRow[],
  masterKeys: MasterKeys | undefined,
): Promise<KeySurvey> {
  const byMasterKey = new Map<string, number>();
  const unreadable: { readonly row: string; readonly reason: string }[] = [];
  for (const [i, row] of rows.entries()) {
    if (i % KEYS_CHECKED_PER_TURN === KEYS_CHECKED_PER_TURN - 1) await setImmediate();
    try {
      const { masterKeyId } = readDataKeyRow(row);
      byMasterKey.set(masterKeyId, (byMasterKey.get(masterKeyId) ?? 0) + 1);
      if (masterKeys?.has(masterKeyId)) unwrapDataKey(row, masterKeys).fill(0);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      unreadable.push({ row: row.name, reason: error.message });
    }
  }
  return { byMasterKey, unreadable };
}

/** Whether no gateway can use the key of a row, whichever master keys it has. */
export function isDamaged(row: DirectoryRow, masterKeys: MasterKeys): boolean {
  try {
    unwrapDataKey(row, masterKeys).fill(0);
    return false;
  } catch (error) {
    return error instanceof KvError && error.code === "DATA_CORRUPT";
  }
}
