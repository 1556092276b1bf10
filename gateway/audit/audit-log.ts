/**
 * The writer of the audit log: takes records without waiting, and writes them in batches, in their order.
 *
 * Nothing that a request does waits for it. Records get their number and hash when they are written, so a
 * write that fails is tried again as it was, every second, and meanwhile records wait in a bounded queue.
 * What the queue has no room for is counted, and a line says so as soon as one can be written: a gap is never
 * silent. Data changes may take half of the queue only, so that a flood of them drops none of the others.
 */

import {
  AUDIT_BATCH_RECORDS_MAX,
  AUDIT_LINES_KEPT,
  AUDIT_QUEUE_RECORDS_MAX,
  AUDIT_RETRY_MS,
  AUDIT_STDOUT_BYTES_WAITING_MAX,
} from "#shared/audit-limits.ts";
import type { Clock } from "#shared/clock.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { AuditFile } from "./audit-file.ts";
import { CHAIN_START, type ChainEnd, chained, type Entry } from "./entry.ts";

/** What is used of `process.stdout`. */
export type LineOutput = {
  readonly writableLength: number;
  write(text: string): unknown;
};

export type AuditLogOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names the gateway in each line. */
  readonly gateway: string;
  readonly file?: Pick<AuditFile, "append" | "close"> | undefined;
  /** Where the chain ends that is to go on; by default a new one begins. */
  readonly end?: ChainEnd;
  readonly stdout?: LineOutput | undefined;
  /** For tests. */
  readonly queueRecordsMax?: number;
};

/** An entry without what every entry has. */
export type Happening = Omit<Entry, "time" | "gateway">;

export type NumberedLine = { readonly seq: number; readonly line: string };

export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #queueMax: number;
  #queue: Entry[] = [];
  #lost = 0;
  #end: ChainEnd;
  /** The newest lines, written already. Numbers have no holes here. */
  #kept: NumberedLine[] = [];
  #writing: Promise<void> | undefined;
  #cancelRetry: (() => void) | undefined;
  #failing = false;
  #closed = false;
  #news = Promise.withResolvers<void>();
  /** Since the start. */
  readonly figures = { written: 0, writeFailures: 0, lost: 0 };

  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#queueMax = options.queueRecordsMax ?? AUDIT_QUEUE_RECORDS_MAX;
    this.#end = options.end ?? CHAIN_START;
  }

  /** Never waits and never fails. */
  record(happening: Happening): void {
    const { clock, gateway } = this.#options;
    const max = happening.event === "data" ? this.#queueMax / 2 : this.#queueMax;
    if (this.#closed || this.#queue.length >= max) {
      this.#lost++;
      this.figures.lost++;
      return;
    }
    const time = new Date(clock.nowMs()).toISOString();
    this.#queue.push({ ...happening, time, gateway });
    this.#pump();
  }

  /** Why nothing can be recorded now; undefined when it can. */
  get trouble(): string | undefined {
    if (this.#closed) return "the audit log is closed";
    if (this.#failing) return "the audit log cannot be written";
    return this.#queue.length < this.#queueMax ? undefined : "too much waits to be written";
  }

  /** Number of the last line that was written; 0 before the first. */
  get lastSeq(): number {
    return this.#end.seq;
  }

  /** Number of the oldest line that is in memory; that of the next line when none is. */
  get firstKeptSeq(): number {
    return this.#kept[0]?.seq ?? this.#end.seq + 1;
  }

  /** Lines behind number `seq` that are in memory; undefined when older ones are needed first. */
  keptAfter(seq: number, countMax: number): readonly NumberedLine[] | undefined {
    const first = this.firstKeptSeq;
    if (seq + 1 < first) return undefined;
    const at = seq + 1 - first;
    return this.#kept.slice(at, at + countMax);
  }

  /** Resolves when a line was written, or the log was closed. */
  get news(): Promise<void> {
    return this.#news.promise;
  }

  /** Resolves when all that was recorded is written, or cannot be for now. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Writes what waits and ends; what cannot be written by then is lost, and logged as such. */
  async close(timeoutMs: number): Promise<void> {
    const { clock, logger, file } = this.#options;
    if (this.#closed) return;
    this.record({ event: "close" });
    this.#closed = true;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    this.#pump();
    let cancel = (): void => undefined;
    const tooLate = new Promise<void>((resolve) => {
      cancel = clock.after(timeoutMs, resolve);
    });
    await Promise.race([this.flush(), tooLate]);
    cancel();
    const count = this.#queue.length + this.#lost;
    if (count > 0)
      logger.error({ count }, "records of the audit log are lost: it cannot be written");
    this.#news.resolve();
    await file?.close();
  }

  #pump(): void {
    if (this.#writing !== undefined || this.#cancelRetry !== undefined) return;
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = undefined;
      if (this.#queue.length > 0) this.#pump();
    });
  }

  async #writeAll(): Promise<void> {
    // What is recorded in one turn is one write.
    await Promise.resolve();
    while (this.#queue.length > 0 && this.#cancelRetry === undefined) await this.#writeBatch();
  }

  async #writeBatch(): Promise<void> {
    const { file } = this.#options;
    const batch = this.#queue.slice(0, AUDIT_BATCH_RECORDS_MAX);
    const lost = this.#lost;
    const lines: NumberedLine[] = [];
    let end = this.#end;
    const add = (entry: Entry): void => {
      const next = chained(entry, end);
      end = next.end;
      lines.push({ seq: end.seq, line: next.line });
    };
    for (const entry of batch) add(entry);
    if (lost > 0) add(this.#lostEntry(lost));
    const text = `${lines.map(({ line }) => line).join("\n")}\n`;
    try {
      await file?.append(text, this.#end.seq + 1);
    } catch (err) {
      this.#failed(err);
      return;
    }
    this.#written({ lines, end, text, batch: batch.length, lost });
  }

  #lostEntry(count: number): Entry {
    const { clock, gateway } = this.#options;
    const time = new Date(clock.nowMs()).toISOString();
    return { time, gateway, event: "lost", count };
  }

  #written(done: {
    readonly lines: readonly NumberedLine[];
    readonly end: ChainEnd;
    readonly text: string;
    readonly batch: number;
    readonly lost: number;
  }): void {
    const { logger, stdout } = this.#options;
    if (this.#failing) logger.info({}, "the audit log can be written again");
    this.#failing = false;
    this.figures.written += done.lines.length;
    this.#queue.splice(0, done.batch);
    this.#lost -= done.lost;
    this.#end = done.end;
    this.#kept.push(...done.lines);
    // Rarely, so that it costs little: up to twice as many are kept.
    if (this.#kept.length > 2 * AUDIT_LINES_KEPT) this.#kept = this.#kept.slice(-AUDIT_LINES_KEPT);
    // A reader that does not take its lines must not fill the memory. Its copy has a gap, and shows it.
    if (stdout !== undefined && stdout.writableLength < AUDIT_STDOUT_BYTES_WAITING_MAX) {
      stdout.write(done.text);
    }
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers<void>();
    resolve();
  }

  #failed(err: unknown): void {
    const { clock, logger } = this.#options;
    if (!this.#failing) {
      logger.error({ err }, "the audit log cannot be written; trying again every second");
    }
    this.#failing = true;
    this.figures.writeFailures++;
    if (this.#closed) {
      // `close` waits for the queue, and says what is lost.
      this.#lost += this.#queue.length;
      this.#queue = [];
      return;
    }
    this.#cancelRetry = clock.after(AUDIT_RETRY_MS, () => {
      this.#cancelRetry = undefined;
      this.#pump();
    });
  }
}
