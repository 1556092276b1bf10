/**
 * Turns what the bindings throw into a `KvError`.
 *
 * Trap: the abstract-level wrappers put a general sentence into the error and the real reason into
 * its `cause`; rocksdb-native gives RocksDB's status as text and no code. So the whole chain of
 * causes is read, and codes and texts are both looked at.
 */
import { type ErrorCode, KvError } from "#shared/errors.ts";

/** @param doing what failed, for the message: `open the engine in …` */
export function toEngineError(error: unknown, doing: string): KvError {
  if (error instanceof KvError) return error;
  const reasons = reasonsOf(error);
  const text = reasons.map((reason) => reason.message).join(": ");
  const [code, remark] = classify(reasons, text);
  return new KvError(code, `cannot ${doing}: ${remark}${text}`, { cause: error });
}

type Reason = { readonly message: string; readonly code: string };

function reasonsOf(error: unknown): readonly Reason[] {
  const reasons: Reason[] = [];
  let current = error;
  // The bound guards against a chain that refers to itself.
  while (current !== undefined && current !== null && reasons.length < 8) {
    if (!(current instanceof Error)) {
      reasons.push({ message: String(current), code: "" });
      break;
    }
    const code = "code" in current ? String(current.code) : "";
    reasons.push({ message: current.message, code });
    current = current.cause;
  }
  return reasons;
}

function classify(reasons: readonly Reason[], text: string): readonly [ErrorCode, string] {
  const hasCode = (code: string) => reasons.some((reason) => reason.code === code);
  if (hasCode("LEVEL_LOCKED") || /lock hold by current process|While lock file/.test(text)) {
    return ["UNAVAILABLE", "another process or engine has it open: "];
  }
  if (hasCode("ENOSPC") || /No space left on device/.test(text)) {
    return ["STORAGE_FULL", "the disk is full, free some space: "];
  }
  if (hasCode("LEVEL_CORRUPTION") || /Corruption|checksum mismatch/.test(text)) {
    return ["DATA_CORRUPT", "its files are damaged: "];
  }
  if (hasCode("LEVEL_IO_ERROR") || /IO error/.test(text) || reasons.some(isSystemError)) {
    return ["UNAVAILABLE", ""];
  }
  return ["INTERNAL", ""];
}

function isSystemError(reason: Reason): boolean {
  return /^E[A-Z]+$/.test(reason.code);
}
