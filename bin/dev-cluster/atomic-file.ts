/**
 * Small JSON files that are there whole or not at all, however the process ends: temporary file, sync,
 * rename. Readers need no lock.
 */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";

/** Synchronous, so that two writes never mix. */
export function writeJsonFile(path: string, value: unknown): void {
  const temporary = `${path}.tmp`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
