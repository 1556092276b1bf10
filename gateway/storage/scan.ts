/**
 * A range of keys in byte order, merged from all vshards.
 *
 * Keys are spread over the vshards by their hash, so each has a share of every range. One round of
 * steps asks all of them for little more than their share of a page; a heap gives the least key; a
 * vshard that runs dry before the page is full is asked again. A page of `rowsMax` rows so reads
 * O(rowsMax + vshards) rows, mostly in one round.
 *
 * **Memory** is bounded whatever is stored: a round asks for `SCAN_ROUND_VALUE_BYTES_MAX` of values
 * over all vshards, and what does not fit comes without its value. Values that are missing are read by
 * themselves when their row is in the page, whose size is then known.
 */
import type { OperationBody, ScanResult, ScanRow } from "#proto/codec/messages.ts";
import { compareBytes, concatBytes } from "#shared/bytes.ts";
import type { KvError } from "#shared/errors.ts";
import { Space, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import {
  SCAN_ROUND_VALUE_BYTES_MAX,
  SCAN_STEP_ROWS_MAX,
  SCAN_STEP_VALUE_BYTES_MAX,
  SCAN_VALUES_AT_ONCE_MIN,
} from "#shared/limits.ts";
import { vshardOf } from "#shared/vshard.ts";
import { CallGroup, type StartCall } from "./call-group.ts";
import { toScanResult, toStoredValue } from "./results.ts";
import type { ScanSlots } from "./scan-slots.ts";
import type {
  GetOptions,
  PageLimits,
  RowsQuery,
  Scan,
  ScannedRow,
  ScanPage,
  ScanQuery,
  StoredValue,
} from "./storage.ts";

/** What one vshard has of the range. */
type Source = {
  readonly vshard: VshardId;
  /** Rows that were read and not taken yet: those from `at` on. */
  rows: readonly ScanRow[];
  at: number;
  /** What is left to read. */
  start: Uint8Array;
  end: Uint8Array;
  isDone: boolean;
};

function sourcesOf({ vshard, start, end }: ScanQuery): Source[] {
  const sourceOf = (number: number): Source => ({
    ...{ vshard: number as VshardId, rows: [], at: 0, start, end },
    isDone: false,
  });
  if (vshard !== undefined) return [sourceOf(vshard)];
  return Array.from({ length: VSHARD_COUNT }, (_, number) => sourceOf(number));
}

const buffered = ({ rows, at }: Source): number => rows.length - at;

/**
 * Rows to ask each of `sources` for, so that a page of `rowsMax` seldom needs a second round: their
 * share, and two standard deviations of it.
 */
function rowsPerSource(rowsMax: number, sources: number): number {
  const share = rowsMax / sources;
  const rows = sources === 1 ? share : Math.ceil(share + 2 * Math.sqrt(share) + 2);
  return Math.min(rows, rowsMax, SCAN_STEP_ROWS_MAX);
}

/** A stream asks for so many times what its next page needs. */
const STREAM_READ_AHEAD = 4;

export type MergedScanParts = {
  readonly query: RowsQuery;
  readonly slots: ScanSlots;
  readonly startCall: StartCall;
};

export class MergedScan implements Scan {
  readonly #parts: MergedScanParts;
  /** Those that have rows, or may have. */
  #sources: Source[];

  constructor(parts: MergedScanParts) {
    this.#parts = parts;
    this.#sources = sourcesOf(parts.query);
  }

  async nextPage(limits: PageLimits, options: GetOptions): Promise<ScanPage> {
    const { slots, startCall } = this.#parts;
    const calls = this.#sources.length;
    await slots.take(calls, options);
    const group = new CallGroup(startCall, options);
    try {
      const rows = await this.#merge(limits, options, group);
      this.#sources = this.#sources.filter((source) => !source.isDone || buffered(source) > 0);
      return {
        rows: await this.#whole(rows, options, group, Math.max(calls, SCAN_VALUES_AT_ONCE_MIN)),
        lastKey: rows.at(-1)?.key,
        hasMore: this.#sources.length > 0,
      };
    } finally {
      group.cancel();
      group.release();
      slots.giveBack(calls);
    }
  }

  async #merge(limits: PageLimits, options: GetOptions, group: CallGroup): Promise<ScanRow[]> {
    const { reverse, keysOnly } = this.#parts.query;
    const wanted = rowsPerSource(limits.rowsMax, this.#sources.length);
    await this.#refill(this.#sources, wanted, options, group);
    const heap = new SourceHeap(this.#sources.filter(buffered), reverse);
    const rows: ScanRow[] = [];
    let bytes = 0;
    for (let least = heap.least; least !== undefined && rows.length < limits.rowsMax; ) {
      const row = least.rows[least.at]!;
      bytes += row.key.length + (keysOnly ? 0 : row.valueSizeBytes);
      if (rows.length > 0 && bytes > limits.bytesMax) break;
      rows.push(row);
      least.at++;
      if (rows.length === limits.rowsMax) break;
      // Not before the next row is needed: the keys that are left may all be of other vshards.
      if (buffered(least) === 0 && !least.isDone) {
        await this.#refill([least], wanted, options, group);
      }
      heap.leastChanged();
      least = heap.least;
    }
    return rows;
  }

  /** Reads until each of `sources` has a row, or nothing left. */
  async #refill(
    sources: readonly Source[],
    wanted: number,
    options: GetOptions,
    group: CallGroup,
  ): Promise<void> {
    let asked = sources.filter((source) => !source.isDone && buffered(source) < wanted);
    // Who reads to the end will want the rest as well, and a step costs more than a few rows.
    const rowsMax = Math.min(
      this.#parts.query.isStream ? STREAM_READ_AHEAD * wanted : wanted,
      SCAN_STEP_ROWS_MAX,
    );
    while (asked.length > 0) {
      await this.#ask(asked, rowsMax, options, group);
      // A step that found nothing may have been cut short.
      asked = asked.filter((source) => !source.isDone && buffered(source) === 0);
    }
  }

  #ask(
    sources: readonly Source[],
    rowsMax: number,
    options: GetOptions,
    group: CallGroup,
  ): Promise<void> {
    const share = Math.floor(SCAN_ROUND_VALUE_BYTES_MAX / this.#sources.length);
    const valueBytesMax = Math.min(share, SCAN_STEP_VALUE_BYTES_MAX);
    return allOf(sources, (source, done, failed) => {
      const body = this.#step(source, rowsMax, valueBytesMax, options.maxStalenessMs ?? 0);
      const take = (result: ScanResult): void => {
        this.#take(source, result);
        done();
      };
      group.start(source.vshard, body, toScanResult, take, failed);
    });
  }

  #step(
    { start, end }: Source,
    rowsMax: number,
    valueBytesMax: number,
    maxStalenessMs: number,
  ): OperationBody {
    const { tenant, reverse, keysOnly } = this.#parts.query;
    return {
      ...{ kind: "scan", tenant, space: Space.Kv, start, end, reverse, keysOnly },
      ...{ rowsMax, valueBytesMax, maxStalenessMs, countOnly: false },
    };
  }

  #take(source: Source, { rows, next }: ScanResult): void {
    const { reverse, isStream } = this.#parts.query;
    // Views of a message keep all of it, and a stream's rows may lie here for as long as its reader
    // likes.
    const kept = isStream ? compact(rows) : rows;
    const left = source.rows.slice(source.at);
    source.rows = left.length === 0 ? kept : [...left, ...kept];
    source.at = 0;
    if (next.length === 0) source.isDone = true;
    else if (reverse) source.end = next;
    else source.start = next;
  }

  /** The rows with all their values. */
  async #whole(
    rows: readonly ScanRow[],
    options: GetOptions,
    group: CallGroup,
    atOnceMax: number,
  ): Promise<readonly ScannedRow[]> {
    const { tenant, keysOnly, vshard } = this.#parts.query;
    const missing = keysOnly ? [] : rows.filter((row) => row.valueOmitted);
    if (missing.length === 0) return rows;
    const read = new Map<ScanRow, StoredValue | undefined>();
    const readOne = (row: ScanRow, done: () => void, failed: (error: KvError) => void): void => {
      const address = { tenant, space: Space.Kv, key: row.key };
      const maxStalenessMs = options.maxStalenessMs ?? 0;
      const body = { kind: "get", ...address, metadataOnly: false, maxStalenessMs } as const;
      const take = (stored: StoredValue | undefined): void => {
        read.set(row, stored);
        done();
      };
      group.start(vshard ?? vshardOf(address), body, toStoredValue, take, failed);
    };
    await allOf(missing, readOne, atOnceMax);
    return rows.flatMap((row) => {
      if (!row.valueOmitted) return row;
      // Gone meanwhile, or newer than the row: either is what a scan a moment later would have found.
      const stored = read.get(row);
      return stored === undefined ? [] : { ...stored, key: row.key };
    });
  }
}

export type CountInput = {
  readonly query: ScanQuery;
  readonly options: GetOptions;
  readonly slots: ScanSlots;
  readonly startCall: StartCall;
};

/**
 * Counts all vshards step by step, in rounds of one step each. A large range takes many rounds, and
 * other scans get their turn between them.
 */
export async function countKeys(input: CountInput): Promise<number> {
  const { query, options, slots } = input;
  let sources = sourcesOf(query);
  let count = 0;
  while (sources.length > 0) {
    const calls = sources.length;
    await slots.take(calls, options);
    try {
      count += await countRound(input, sources);
    } finally {
      slots.giveBack(calls);
    }
    sources = sources.filter(({ isDone }) => !isDone);
  }
  return count;
}

async function countRound(input: CountInput, sources: readonly Source[]): Promise<number> {
  const { query, options, startCall } = input;
  const group = new CallGroup(startCall, options);
  let count = 0;
  try {
    await allOf(sources, (source, done, failed) => {
      const { start, end } = source;
      const body: OperationBody = {
        ...{ kind: "scan", tenant: query.tenant, space: Space.Kv, start, end, reverse: false },
        ...{ rowsMax: 0, valueBytesMax: 0, keysOnly: false, countOnly: true },
        maxStalenessMs: options.maxStalenessMs ?? 0,
      };
      const take = (result: ScanResult): void => {
        count += result.count;
        source.start = result.next;
        source.isDone = result.next.length === 0;
        done();
      };
      group.start(source.vshard, body, toScanResult, take, failed);
    });
    return count;
  } finally {
    group.cancel();
    group.release();
  }
}

/**
 * Begins work on all `items`, so many at the same time; resolves when each is done, rejects when the first
 * one failed, and then begins no more.
 */
function allOf<T>(
  items: readonly T[],
  begin: (item: T, done: () => void, failed: (error: KvError) => void) => void,
  atOnceMax = items.length,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let begun = 0;
    let ended = 0;
    let isBeginning = false;
    // A loop: what is begun may end at once.
    const beginNext = (): void => {
      if (isBeginning) return;
      isBeginning = true;
      while (begun < items.length && begun - ended < atOnceMax)
        begin(items[begun++]!, done, failed);
      isBeginning = false;
    };
    const done = (): void => {
      if (++ended === items.length) resolve();
      else beginNext();
    };
    const failed = (error: KvError): void => {
      begun = items.length;
      reject(error);
    };
    beginNext();
  });
}

/** Copies of the rows, whose bytes lie in one buffer of their own. */
function compact(rows: readonly ScanRow[]): readonly ScanRow[] {
  if (rows.length === 0) return rows;
  const whole = concatBytes(...rows.flatMap(({ key, value }) => [key, value]));
  let at = 0;
  const view = (size: number): Uint8Array => whole.subarray(at, (at += size));
  return rows.map((row) => ({ ...row, key: view(row.key.length), value: view(row.value.length) }));
}

/** Sources that have a row, by the least key, or the greatest in reverse. */
class SourceHeap {
  readonly #heap: Source[];
  readonly #sign: 1 | -1;

  constructor(sources: Source[], reverse: boolean) {
    this.#heap = sources;
    this.#sign = reverse ? -1 : 1;
    for (let at = (sources.length >>> 1) - 1; at >= 0; at--) this.#sink(at);
  }

  get least(): Source | undefined {
    return this.#heap[0];
  }

  /** The least one has another first row now, or none. */
  leastChanged(): void {
    const heap = this.#heap;
    if (buffered(heap[0]!) === 0) {
      const last = heap.pop()!;
      if (heap.length === 0) return;
      heap[0] = last;
    }
    this.#sink(0);
  }

  #sink(from: number): void {
    const heap = this.#heap;
    const source = heap[from]!;
    let at = from;
    for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && this.#isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#isBefore(heap[child]!, source)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = source;
  }

  #isBefore(a: Source, b: Source): boolean {
    return compareBytes(a.rows[a.at]!.key, b.rows[b.at]!.key) * this.#sign < 0;
  }
}
