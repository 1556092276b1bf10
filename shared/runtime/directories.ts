/**
 * Directories of a start: made where they are missing, and told in plain words when they cannot be used.
 */
import { accessSync, constants, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * Makes a directory and those above it, as far as they are missing.
 *
 * Not `mkdir` with `recursive`: where the system says ENOENT though the directory above is there (`/proc`, some
 * automounts), Node tries for ever, and a start would hang without a word.
 *
 * @throws the system's error
 */
export function makeDirectory(path: string, mode: number): void {
  const missing: string[] = [];
  for (let at = resolve(path); !exists(at); at = dirname(at)) missing.push(at);
  for (const at of missing.reverse()) {
    try {
      mkdirSync(at, { mode });
    } catch (error) {
      // Somebody else was faster.
      if (codeOf(error) !== "EEXIST") throw error;
    }
  }
}

/** Throws when it cannot be known; the root always exists, so that every loop over parents ends. */
function exists(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return path === dirname(path);
  if (found.isDirectory()) return true;
  throw Object.assign(new Error(`${path} is a file`), { code: "ENOTDIR" });
}

const PLAIN_WORDS: ReadonlyMap<string, string> = new Map([
  ["ENOTDIR", "there is a file where a directory is needed. Remove it, or name another place"],
  ["EROFS", "the file system is read-only. Mount it writable, or name another place"],
  ["ENOSPC", "the disk is full. Free some space, or name another place"],
  ["ENOENT", "there is no such directory, and none can be made. Name another place"],
]);

/**
 * Why something cannot be done in a directory, and what to do.
 *
 * SQLite, which locks files, only says that it cannot: then the system is asked.
 */
export function pathTrouble(error: unknown, directory: string): string {
  const cause = codeOf(error) === "ERR_SQLITE_ERROR" ? (whyNotWritable(directory) ?? error) : error;
  const code = codeOf(cause) ?? "";
  if (code === "EACCES" || code === "EPERM") {
    const user = process.getuid === undefined ? "this user" : `user ${process.getuid()}`;
    return `permission denied to ${user}. Give the directory to that user, or name another place`;
  }
  const words = PLAIN_WORDS.get(code);
  if (words !== undefined) return words;
  return cause instanceof Error ? cause.message : String(cause);
}

function whyNotWritable(directory: string): unknown {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return error;
  }
}

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error ? String(error.code) : undefined;
