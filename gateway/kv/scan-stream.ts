/**
 * A scan to its end as lines of JSON (NDJSON), one key each, made as fast as the client takes them.
 *
 * A stream that breaks off must not look like one that is complete. What fails after the first line is
 * told by a last line `{"error":{…},"cursor":"…"}`: the error as its problem would be, and the cursor
 * with which the same request goes on behind the last key that was sent.
 */
import type { BodyStream } from "#gateway/http/exchange.ts";
import { problemJson, problemOfError } from "#gateway/http/problem.ts";
import type { GetOptions, Scan, ScannedRow } from "#gateway/storage/storage.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { SCAN_CHUNK_BYTES_MAX, SCAN_CHUNK_ROWS_MAX } from "#shared/limits.ts";

const LIMITS = { rowsMax: SCAN_CHUNK_ROWS_MAX, bytesMax: SCAN_CHUNK_BYTES_MAX };

export type ScanStreamOptions = {
  /** Undefined when no key can be in the range. */
  readonly scan: Scan | undefined;
  /** For the next page, whose time begins now. */
  readonly options: () => GetOptions;
  /** Before each page but the first. @throws KvError when its reader may not read on */
  readonly renew: () => Promise<void>;
  readonly lineOf: (row: ScannedRow) => string;
  readonly cursorOf: (lastKey: Uint8Array) => string;
  readonly requestId: string;
  /** Told of what breaks the stream off. */
  readonly onError: (error: unknown) => void;
  /** Runs once. */
  readonly onEnd: () => void;
};

export class ScanStream implements BodyStream {
  readonly #options: ScanStreamOptions;
  /** Of the first page, until it is asked for. */
  #first: Uint8Array | undefined;
  #lastKey: Uint8Array | undefined;
  #hasMore: boolean;
  #isStopping = false;
  #isOver = false;

  constructor(options: ScanStreamOptions) {
    this.#options = options;
    this.#hasMore = options.scan !== undefined;
  }

  /** Reads the first page. @throws KvError, and the stream is over */
  async begin(): Promise<void> {
    try {
      this.#first = await this.#page();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async next(): Promise<Uint8Array | undefined> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined && first.length > 0) return first;
    if (this.#isOver || !this.#hasMore) return undefined;
    try {
      if (this.#isStopping) throw new KvError("UNAVAILABLE", "the gateway is stopping");
      // It lasts as long as its reader likes: longer, perhaps, than the key with which it was asked for.
      await this.#options.renew();
      const page = await this.#page();
      return page.length > 0 ? page : undefined;
    } catch (error) {
      this.#hasMore = false;
      this.#options.onError(error);
      return this.#errorLine(error);
    }
  }

  stop(): void {
    this.#isStopping = true;
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.onEnd();
  }

  /** At least one line, unless the range ends without one. */
  async #page(): Promise<Uint8Array> {
    const { scan, options, lineOf } = this.#options;
    while (this.#hasMore) {
      const { rows, lastKey, hasMore } = await scan!.nextPage(LIMITS, options());
      this.#hasMore = hasMore;
      if (lastKey !== undefined) this.#lastKey = lastKey;
      if (rows.length > 0) return utf8(rows.map(lineOf).join(""));
    }
    return EMPTY_BYTES;
  }

  #errorLine(error: unknown): Uint8Array {
    const { requestId, cursorOf } = this.#options;
    const problem = problemJson(requestId, problemOfError(error, false));
    const cursor = this.#lastKey === undefined ? null : cursorOf(this.#lastKey);
    return utf8(`{"error":${problem},"cursor":${JSON.stringify(cursor)}}\n`);
  }
}
