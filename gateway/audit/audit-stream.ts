/**
 * Lines of the audit log for a reader: older ones from the files, newer ones from memory, and those to come.
 *
 * Read at the pace of the reader, a bounded piece at a time. What has been rotated away is missing at the
 * beginning; within a stream, numbers have no holes.
 */
import type { BodyStream } from "#gateway/http/exchange.ts";
import {
  AUDIT_FOLLOW_MS_MAX,
  AUDIT_HEARTBEAT_MS,
  AUDIT_STREAM_PIECE_LINES_MAX,
} from "#shared/audit-limits.ts";
import { utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { filesOf } from "./audit-file.ts";
import type { AuditLog } from "./audit-log.ts";
import { placeOf } from "./entry.ts";
import { linesOf } from "./lines.ts";

export type AuditStreamOptions = {
  readonly log: AuditLog;
  /** Undefined when lines are in memory only. */
  readonly path: string | undefined;
  readonly clock: Clock;
  /** Number of the last line that is not wanted. */
  readonly since: number;
  readonly linesMax: number;
  /** Waits for lines to come. */
  readonly follows: boolean;
  readonly onClose: () => void;
};

const HEARTBEAT = utf8("\n");

export class AuditStream implements BodyStream {
  readonly #options: AuditStreamOptions;
  readonly #untilMs: number;
  #seq: number;
  #left: number;
  #older: AsyncGenerator<readonly string[]> | undefined;
  #ended = false;
  readonly #end = Promise.withResolvers<void>();

  constructor(options: AuditStreamOptions) {
    this.#options = options;
    this.#seq = options.since;
    this.#left = options.linesMax;
    this.#untilMs = options.clock.nowMs() + AUDIT_FOLLOW_MS_MAX;
  }

  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#ended || this.#left === 0) return undefined;
      const lines = await this.#nextLines();
      if (lines.length > 0) return utf8(`${lines.join("\n")}\n`);
      const { follows, clock, log } = this.#options;
      if (!follows || clock.nowMs() >= this.#untilMs) return undefined;
      const hasNews = await this.#waitFor(log.news);
      if (!hasNews) return this.#ended ? undefined : HEARTBEAT;
    }
  }

  stop(): void {
    this.#ended = true;
    this.#end.resolve();
  }

  close(): void {
    this.stop();
    void this.#older?.return(undefined);
    this.#options.onClose();
  }

  /** None when there are none for now. */
  async #nextLines(): Promise<readonly string[]> {
    const countMax = Math.min(this.#left, AUDIT_STREAM_PIECE_LINES_MAX);
    const kept = this.#options.log.keptAfter(this.#seq, countMax);
    if (kept !== undefined) {
      this.#took(kept.length, kept.at(-1)?.seq);
      return kept.map(({ line }) => line);
    }
    const older = await this.#olderLines(countMax);
    if (older.length > 0) return older;
    // Nobody has them any more: go on with the oldest that there are.
    this.#seq = this.#options.log.firstKeptSeq - 1;
    return this.#nextLines();
  }

  async #olderLines(countMax: number): Promise<readonly string[]> {
    const { path } = this.#options;
    if (path === undefined) return [];
    this.#older ??= linesInFiles(path, this.#seq);
    const { value, done } = await this.#older.next();
    if (done) {
      this.#older = undefined;
      return [];
    }
    const lines = value.slice(0, countMax);
    this.#took(lines.length, placeOf(lines.at(-1)!)?.seq);
    return lines;
  }

  #took(count: number, lastSeq: number | undefined): void {
    this.#left -= count;
    if (lastSeq !== undefined) this.#seq = lastSeq;
  }

  /** False when it took too long, or the stream has ended. */
  async #waitFor(news: Promise<void>): Promise<boolean> {
    let cancel = (): void => undefined;
    const pause = new Promise<false>((resolve) => {
      cancel = this.#options.clock.after(AUDIT_HEARTBEAT_MS, () => resolve(false));
    });
    const ended = this.#end.promise.then(() => false);
    const hasNews = await Promise.race([news.then(() => true), pause, ended]);
    cancel();
    return hasNews;
  }
}

/** Lines behind number `since`, in pieces, from all files of the log. */
async function* linesInFiles(path: string, since: number): AsyncGenerator<readonly string[]> {
  let seq = since;
  for (const file of await filesOf(path)) {
    if (file.lastSeq <= seq) continue;
    let piece: string[] = [];
    for await (const { line, isWhole } of linesOf(file.path)) {
      const place = isWhole ? placeOf(line) : undefined;
      if (place === undefined || place.seq <= seq) continue;
      seq = place.seq;
      piece.push(line);
      if (piece.length < AUDIT_STREAM_PIECE_LINES_MAX) continue;
      yield piece;
      piece = [];
    }
    if (piece.length > 0) yield piece;
  }
}
