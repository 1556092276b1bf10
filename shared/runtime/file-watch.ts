/**
 * Files that a process reads again when they change: certificates that are renewed while it runs.
 *
 * Looked at every few seconds, not watched: notifications of the system miss files that are replaced by
 * way of a link, as orchestrators do. A look costs one `stat` for each file. What cannot be used is
 * logged and left alone, and what was in use stays in use; the next change is tried again.
 */
import { readFile, stat } from "node:fs/promises";
import { FILE_WATCH_INTERVAL_MS } from "#shared/limits.ts";
import type { Logger } from "./log.ts";

export type WatchedFiles = {
  /** For the log: "HTTPS certificate". */
  readonly name: string;
  readonly paths: readonly string[];
  /** What is in use, in the order of `paths`. */
  readonly current: readonly Buffer[];
  /** Takes new contents over. Throws, with nothing changed, when they cannot be used. */
  readonly apply: (contents: readonly Buffer[]) => void;
};

type Entry = { readonly files: WatchedFiles; current: readonly Buffer[]; signature: string };

export class FileWatch {
  readonly #logger: Logger;
  readonly #entries: Entry[] = [];
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(files: WatchedFiles): void {
    this.#entries.push({ files, current: files.current, signature: "" });
  }

  /** Does nothing when there is nothing to look at. */
  start(intervalMs = FILE_WATCH_INTERVAL_MS): void {
    if (this.#entries.length === 0) return;
    this.#timer = setInterval(() => void this.look(), intervalMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Whether there is anything to look at. */
  get isUsed(): boolean {
    return this.#entries.length > 0;
  }

  /** Reads everything again, because somebody said that it has changed. */
  async reload(): Promise<void> {
    await this.#looking;
    for (const entry of this.#entries) entry.signature = "";
    await this.look();
  }

  /** Takes over what has changed. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#lookAtAll().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookAtAll(): Promise<void> {
    for (const entry of this.#entries) await this.#lookAt(entry);
  }

  async #lookAt(entry: Entry): Promise<void> {
    const { name, paths, apply } = entry.files;
    try {
      const signature = await signatureOf(paths);
      if (signature === entry.signature) return;
      // Before the reading: what changes during it is seen as a change the next time.
      entry.signature = signature;
      const contents = await Promise.all(paths.map((path) => readFile(path)));
      if (contents.every((content, at) => content.equals(entry.current[at]!))) return;
      apply(contents);
      entry.current = contents;
      this.#logger.info({ files: paths }, `${name}: changed, and in use for new connections`);
    } catch (err) {
      const reason = err instanceof Error ? err.message : String(err);
      this.#logger.error(
        { files: paths, reason },
        `${name}: cannot use what changed, kept the old`,
      );
    }
  }
}

/** Of the files that links lead to. */
async function signatureOf(paths: readonly string[]): Promise<string> {
  const stats = await Promise.all(paths.map((path) => stat(path)));
  return stats.map(({ ino, size, mtimeMs }) => `${ino}:${size}:${mtimeMs}`).join(" ");
}
