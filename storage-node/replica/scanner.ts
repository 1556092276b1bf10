/**
 * Serves steps of scans from the engine: those that a ReadIndex round has confirmed, and stale ones.
 *
 * A gateway asks all vshards at once, and each step costs more than a point read. So steps wait in one
 * line for the whole node, run for `SCAN_SLICE_MS_MAX` at a time, and let everything else go first. A
 * step that finds little (it counts, or the keys have expired) ends early and says from where to go on,
 * so that none takes long either.
 *
 * Waiting costs no step its linearizability: what it reads then is newer than what was confirmed.
 *
 * Expired keys are not returned, and that is part of linearizability here as in `reader.ts`: once a
 * scan has left a key out, no later read may find it, not even at a new leader whose clock is behind.
 * Keys that had expired by the log time that was applied are safe, because every later leader applies
 * that too. For the others the leader proposes their expiry, and answers when that is applied: whether
 * or not it names all of them, its entry carries the log time by which they had expired.
 */
import { failureOf } from "#proto/codec/failure.ts";
import type { Mutation, Reply, ResultBody, Scan, ScanRow } from "#proto/codec/messages.ts";
import { concatBytes, EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import {
  EXPIRY_KEYS_PER_COMMAND_MAX,
  SCAN_SLICE_MS_MAX,
  SCAN_STEP_MS_MAX,
  SCAN_STEP_ROWS_READ_MAX,
  SCAN_STEPS_PENDING_MAX,
} from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import { dataRowAddress, dataRowsRange } from "#storage-node/engine/layout.ts";
import {
  type DataRow,
  decodeDataRow,
  decodeDataRowHead,
  isExpired,
} from "#storage-node/machine/data-row.ts";
import { readRows } from "#storage-node/machine/read-rows.ts";
import type { Replica } from "./replica.ts";

/** Rows of one call of the engine at most, which does not yield. */
const ROWS_PER_READ_MAX = 256;
/** The clock is asked once in so many rows. */
const ROWS_PER_CLOCK = 64;

const BEHIND = new Uint8Array(1);

export type ScannerOptions = {
  readonly engine: Engine;
  readonly clock: Clock;
  /** Proposes expiries; `done` runs with the command's outcome. */
  readonly expire: (replica: Replica, mutations: readonly Mutation[], done: Reply) => void;
};

type Step = { readonly replica: Replica; readonly scan: Scan; readonly reply: Reply };

export class Scanner {
  readonly #options: ScannerOptions;
  /** Those whose turn it is, from `#next` on, and those that came meanwhile. */
  #line: Step[] = [];
  #next = 0;
  #arrived: Step[] = [];
  #scheduled = false;
  /** A step waits for the engine. */
  #running = false;

  constructor(options: ScannerOptions) {
    this.#options = options;
  }

  /** No step waits or runs. */
  get idle(): boolean {
    return this.#waiting === 0 && !this.#running;
  }

  get #waiting(): number {
    return this.#line.length - this.#next + this.#arrived.length;
  }

  /** The caller has made sure that the replica is fresh enough. */
  serve(replica: Replica, scan: Scan, reply: Reply): void {
    if (this.#waiting >= SCAN_STEPS_PENDING_MAX) {
      reply(failureOf("OVERLOADED", "too many scans wait for this node", { notApplied: true }));
      return;
    }
    this.#arrived.push({ replica, scan, reply });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#waiting === 0 || this.#scheduled || this.#running) return;
    this.#scheduled = true;
    setImmediate(this.#slice);
  }

  readonly #slice = (): void => {
    this.#scheduled = false;
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + SCAN_SLICE_MS_MAX;
    do {
      const step = this.#takeStep();
      if (step === undefined) return;
      const stepping = this.#step(step);
      if (isPromise(stepping)) {
        this.#running = true;
        void stepping.then(this.#stepEnded);
        return;
      }
    } while (clock.monotonicMs() < untilMs);
    this.#schedule();
  };

  readonly #stepEnded = (): void => {
    this.#running = false;
    this.#schedule();
  };

  #takeStep(): Step | undefined {
    if (this.#next === this.#line.length) {
      this.#line = this.#arrived;
      this.#next = 0;
      this.#arrived = [];
    }
    return this.#next < this.#line.length ? this.#line[this.#next++] : undefined;
  }

  /** Answers in any case; never throws and never rejects. */
  #step({ replica, scan, reply }: Step): MaybePromise<void> {
    const { engine, clock } = this.#options;
    // Whoever scans asks every vshard; when he goes, much of that still waits here.
    if (reply.isWanted?.() === false) {
      reply(failureOf("CANCELLED", "nobody waits for the answer", { notApplied: true }));
      return;
    }
    // Its rows have begun to go, or to be replaced, while the step waited in line.
    if (replica.isGone || replica.installing) {
      const detail = "the replica is leaving or taking over a snapshot";
      reply(failureOf("UNAVAILABLE", detail, { notApplied: true }));
      return;
    }
    const logTimeMs = replica.logTimeMs(clock.nowMs());
    const found = new StepResult(scan, logTimeMs, clock);
    const rowsPerRead = scan.countOnly ? ROWS_PER_READ_MAX : scan.rowsMax + 1;
    const failed = (error: unknown): void => reply(failureFor(error));
    try {
      const range = { ...dataRowsRange(replica.group, scan), reverse: scan.reverse };
      const reading = readRows(engine, range, Math.min(rowsPerRead, ROWS_PER_READ_MAX), found.take);
      if (isPromise(reading)) {
        return reading.then(() => this.#answer(replica, found, reply)).catch(failed);
      }
      this.#answer(replica, found, reply);
    } catch (error) {
      failed(error);
    }
  }

  #answer(replica: Replica, found: StepResult, reply: Reply): void {
    const { scan, logTimeMs } = found;
    // The clock may step back before an expiry is stamped; what was seen as past stays past.
    if (found.leftOut) replica.advanceLogTime(logTimeMs);
    const unproven = scan.maxStalenessMs > 0 ? [] : found.expiriesAfter(replica.machine.logTimeMs);
    const result = found.result();
    if (unproven.length === 0) {
      reply(result);
      return;
    }
    this.#options.expire(replica, unproven, (outcome) => {
      reply(outcome.kind === "failure" ? outcome : result);
    });
  }
}

type Expired = { readonly rowKey: Uint8Array; readonly expiresAtMs: number };

/** What one step has found so far. */
class StepResult {
  readonly scan: Scan;
  readonly logTimeMs: number;
  readonly #clock: Clock;
  readonly #untilMs: number;
  readonly #rows: ScanRow[] = [];
  /** The first of them. */
  readonly #expired: Expired[] = [];
  #expiredLatestMs = 0;
  #count = 0;
  #valueBytesLeft: number;
  #read = 0;
  #lastKey: Uint8Array = EMPTY_BYTES;
  /** The range was not read to its end. */
  #isCut = false;

  constructor(scan: Scan, logTimeMs: number, clock: Clock) {
    this.scan = scan;
    this.logTimeMs = logTimeMs;
    this.#clock = clock;
    this.#untilMs = clock.monotonicMs() + SCAN_STEP_MS_MAX;
    this.#valueBytesLeft = scan.keysOnly ? 0 : scan.valueBytesMax;
  }

  /** An expired key was left out. */
  get leftOut(): boolean {
    return this.#expired.length > 0;
  }

  /** Takes a row. False when the step ends before or with it. @throws KvError DATA_CORRUPT */
  readonly take = ({ key: rowKey, value: bytes }: Row): boolean => {
    const { scan } = this;
    if (!scan.countOnly && this.#rows.length === scan.rowsMax) {
      this.#isCut = true;
      return false;
    }
    this.#lastKey = rowKey;
    const head = decodeDataRowHead(bytes);
    if (isExpired(head, this.logTimeMs)) this.#leaveOut(rowKey, head.expiresAtMs);
    else if (scan.countOnly) this.#count++;
    else this.#rows.push(this.#rowOf(rowKey, decodeDataRow(bytes)));
    this.#read++;
    if (this.#read % ROWS_PER_CLOCK !== 0) return true;
    const isLong =
      this.#read >= SCAN_STEP_ROWS_READ_MAX || this.#clock.monotonicMs() >= this.#untilMs;
    if (isLong) this.#isCut = true;
    return !isLong;
  };

  #rowOf(rowKey: Uint8Array, row: DataRow): ScanRow {
    const { value, revision, contentType, expiresAtMs, modifiedAtMs } = row;
    const valueOmitted = this.scan.keysOnly || value.length > this.#valueBytesLeft;
    if (!valueOmitted) this.#valueBytesLeft -= value.length;
    return {
      key: dataRowAddress(rowKey).key,
      revision,
      value: valueOmitted ? EMPTY_BYTES : value,
      valueOmitted,
      contentType,
      expiresAtMs,
      modifiedAtMs,
      valueSizeBytes: row.logicalSizeBytes,
      encoding: row.encoding,
    };
  }

  #leaveOut(rowKey: Uint8Array, expiresAtMs: number): void {
    this.#expiredLatestMs = Math.max(this.#expiredLatestMs, expiresAtMs);
    if (this.#expired.length >= EXPIRY_KEYS_PER_COMMAND_MAX) return;
    this.#expired.push({ rowKey, expiresAtMs });
  }

  /** Expiries to propose if a key was left out that had not expired by `provenMs`; else none. */
  expiriesAfter(provenMs: number): readonly Mutation[] {
    if (this.#expiredLatestMs <= provenMs) return [];
    return this.#expired.map(({ rowKey }) => ({
      ...dataRowAddress(rowKey),
      condition: undefined,
      action: { kind: "expire" },
    }));
  }

  result(): ResultBody {
    return { kind: "scan", rows: this.#rows, count: this.#count, next: this.#rest() };
  }

  /** The least key behind the last one, or in reverse that key itself as the new end. */
  #rest(): Uint8Array {
    if (!this.#isCut) return EMPTY_BYTES;
    const { key } = dataRowAddress(this.#lastKey);
    return this.scan.reverse ? key : concatBytes(key, BEHIND);
  }
}

/** One damaged row must not take the node down, nor be skipped: the scan gets the error. */
function failureFor(error: unknown): ResultBody {
  const code = error instanceof KvError ? error.code : "INTERNAL";
  const detail = error instanceof Error ? error.message : String(error);
  return failureOf(code, `the keys could not be read: ${detail}`, { notApplied: true });
}
