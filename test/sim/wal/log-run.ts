/**
 * One write-ahead log over a disk that fails or lies, through several lives, against a model of what
 * was acknowledged.
 *
 * The real log code runs over simulated files and time. Random records of several groups are appended,
 * the disk answers in any order and does what disk-faults.ts draws, and each life ends somewhere: by
 * an error, a kill or a power loss. Then the log is opened again, and what it finds must be the state
 * after some number of appends, no fewer than were acknowledged. Where the disk has lied, it must be
 * what boundary.ts allows.
 */
import { assert } from "#shared/assert.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { WAL_IDLE_MS, WAL_SPACE_RETRY_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  afterRecords,
  describeState,
  type LogState,
  randomCommit,
  randomRecords,
} from "#storage-node/wal/log-model.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import type { Wal } from "#storage-node/wal/types.ts";
import { boundaryOf } from "./boundary.ts";
import { Completions, turn } from "./completions.ts";
import { DiskFaults, type FaultCounts } from "./disk-faults.ts";
import { openLog } from "./open-log.ts";

const LIVES = 8;
const ENTRY_SIZE_BYTES_MAX = 5000;
const GROUPS_MAX = 4;
/** Answers after which an open or close that still waits will never end. */
const ANSWERS_MAX = 5000;

export type LogRunOptions = {
  readonly seed: number;
  readonly honest: boolean;
};

export type LogRunResult = {
  readonly faults: FaultCounts;
  readonly acknowledged: number;
  readonly lives: number;
  readonly segmentsRemoved: number;
  readonly segmentsSeen: number;
  readonly tornTails: number;
  /** Of a disk that lied: how often each verdict was given. */
  readonly refused: number;
  readonly cut: number;
  readonly harmless: number;
  /** Of everything that happened, in order. */
  readonly trace: number;
};

/** @throws Error that names the seed. */
export async function runLog(options: LogRunOptions): Promise<LogRunResult> {
  const run = new LogRun(options);
  try {
    return await run.all();
  } catch (cause) {
    const { seed, honest } = options;
    const disk = honest ? "honest" : "lying";
    throw new Error(
      `${disk} disk, seed ${seed}: ${(cause as Error).message}. Replay: SIM_SEED=${seed} vitest ` +
        "run --project sim test/sim/wal.test.ts",
      { cause },
    );
  }
}

type Judged =
  | { readonly kind: "open"; readonly wal: Wal }
  | { readonly kind: "refused"; readonly error: KvError };

class LogRun {
  readonly #options: LogRunOptions;
  readonly #random: SeededRandom;
  readonly #groups: number;
  readonly #errorChance: number;
  readonly #lieChance: number;
  readonly #counts: FaultCounts = new Map();
  #fs = new MemoryFileSystem();
  /** As the disk should be; differs from `#fs` only where it has lied. */
  #honestFs = new MemoryFileSystem();
  #faults!: DiskFaults;
  #completions!: Completions;
  #clock!: ManualClock;
  #fatal: KvError | undefined;
  /** After each append, lazy ones included; the first is that of an empty log. */
  #states: LogState[] = [new Map()];
  /** Position in `#states`. */
  #acknowledged = 0;
  /** Position in `#states` of the last append of this life that reports back. */
  #lastAppended = 0;
  /**
   * What a lying disk has left was judged, and no start has made durable since what it found. Dirty
   * pages may hide damage, or make it harmless, and get lost themselves.
   */
  #isJudged = false;
  #acknowledgedInAll = 0;
  #segmentsRemoved = 0;
  #segmentsSeen = 0;
  #tornTails = 0;
  #refused = 0;
  #cut = 0;
  #harmless = 0;
  #trace = 0;

  constructor(options: LogRunOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    const random = this.#random;
    this.#groups = 1 + random.below(GROUPS_MAX);
    this.#errorChance = random.below(3) === 0 ? 0 : random.float() ** 3 * 0.1;
    this.#lieChance = options.honest ? 0 : random.float() ** 2 * 0.15;
  }

  async all(): Promise<LogRunResult> {
    let lives = 0;
    while (lives < LIVES) {
      lives++;
      if (!(await this.#life())) break;
    }
    const last = await this.#openUndisturbed(this.#fs);
    if (last.kind === "open") this.#find(last.wal, "at the end");
    return {
      faults: this.#counts,
      acknowledged: this.#acknowledgedInAll,
      lives,
      segmentsRemoved: this.#segmentsRemoved,
      segmentsSeen: this.#segmentsSeen,
      tornTails: this.#tornTails,
      refused: this.#refused,
      cut: this.#cut,
      harmless: this.#harmless,
      trace: this.#trace,
    };
  }

  #note(value: number): void {
    this.#trace = (Math.imul(this.#trace ^ value, 0x85ebca6b) ^ (this.#trace >>> 13)) >>> 0;
  }

  /** False when the log has refused: this replica never comes back. */
  async #life(): Promise<boolean> {
    this.#begin();
    const random = this.#random;
    if (random.below(6) > 0) this.#faults.operationsLeft = random.below(random.below(600) + 1);
    const wal = await this.#open();
    if (wal !== undefined) {
      await this.#use(wal);
      this.#segmentsSeen += wal.recovery.segments;
    }
    this.#completions.drop();
    this.#die();
    return this.#options.honest || (await this.#judge());
  }

  #begin(): void {
    const random = this.#random;
    this.#fatal = undefined;
    this.#lastAppended = 0;
    this.#clock = new ManualClock();
    this.#completions = new Completions();
    this.#faults = new DiskFaults({
      random,
      counts: this.#counts,
      errorChance: this.#errorChance,
      lieChance: this.#lieChance,
    });
    this.#fs = this.#fs.restarted(this.#faults.fileSystemOptions(this.#completions.defer));
    this.#faults.fs = this.#fs;
  }

  /** Undefined when the process died, or its machine lost power, before the log was open. */
  async #open(): Promise<Wal | undefined> {
    const opening = openLog(this.#fs, this.#clock, this.#random, (error) => {
      this.#fatal = error;
    });
    const settled = await this.#settled(opening);
    if (settled === undefined) return undefined;
    if ("error" in settled) {
      const { code } = settled.error as KvError;
      assert(code !== "DATA_CORRUPT", `the log refuses: ${settled.error}`);
      const isExpected = this.#faults.hadError || code === "STORAGE_FULL";
      assert(isExpected, `the log does not open: ${settled.error}`);
      return undefined;
    }
    const wal = settled.value;
    this.#rely(wal);
    return wal;
  }

  /** The result of `work`; undefined when its process has died meanwhile. */
  async #settled<T>(work: Promise<T>): Promise<{ value: T } | { error: unknown } | undefined> {
    let result: { value: T } | { error: unknown } | undefined;
    work.then(
      (value) => {
        result = { value };
      },
      (error: unknown) => {
        result = { error };
      },
    );
    await turn();
    for (let answers = 0; result === undefined && answers < ANSWERS_MAX; answers++) {
      if (this.#faults.dead || this.#fatal !== undefined) return undefined;
      if (await this.#completions.next(this.#random)) continue;
      this.#clock.advance(WAL_SPACE_RETRY_MS);
      this.#faults.isFull = false;
      await turn();
    }
    assert(result !== undefined, "the log neither opens nor closes nor fails");
    return result;
  }

  /** What recovery has found is the state after some append, none acknowledged being lost. */
  #find(wal: Wal, when: string): number {
    const text = describeState(wal.recovery.groups);
    const found = this.#states.findLastIndex((state) => describeState(state) === text);
    assert(found >= 0, `${when} the log holds what was never written: ${text}`);
    assert(
      found >= this.#acknowledged,
      `${when} append ${found} is the last one in the log, and ${this.#acknowledged} was acknowledged`,
    );
    return found;
  }

  /** From here on, all that recovery has found is relied on. */
  #rely(wal: Wal): void {
    const found = this.#find(wal, "at a start");
    this.#states.length = found + 1;
    this.#acknowledged = found;
    this.#isJudged = false;
    if (wal.recovery.tornTail) this.#tornTails++;
    this.#note(found);
  }

  async #use(wal: Wal): Promise<void> {
    const random = this.#random;
    const steps = random.below(80);
    for (let step = 0; step < steps && !this.#over; step++) {
      this.#step(wal);
      let answers = random.below(4) === 0 ? 40 : random.below(6);
      while (answers-- > 0 && !this.#over && (await this.#completions.next(random))) {
        this.#note(this.#acknowledged);
      }
      await turn();
    }
    if (!this.#over && random.below(3) === 0) {
      const closed = await this.#settled(wal.close());
      if (closed !== undefined && "error" in closed)
        assert(this.#faults.hadError, `${closed.error}`);
      return;
    }
    // An error of a file operation is never the log's own secret.
    while (!this.#over && (await this.#completions.next(random)));
    const isKnown = !this.#faults.hasFailed || this.#fatal !== undefined || this.#faults.dead;
    assert(isKnown, "the log goes on after a disk error");
  }

  get #over(): boolean {
    return this.#fatal !== undefined || this.#faults.dead;
  }

  #step(wal: Wal): void {
    const random = this.#random;
    const state = this.#states.at(-1)!;
    const options = { random, groups: this.#groups, entrySizeBytesMax: ENTRY_SIZE_BYTES_MAX };
    const dice = random.below(20);
    if (dice < 13) {
      const records = randomRecords(state, options);
      const number = this.#states.push(afterRecords(state, records)) - 1;
      const of = this.#faults;
      this.#lastAppended = number;
      wal.append(records, () => this.#durable(number, of));
    } else if (dice === 13) {
      const record = randomCommit(state, options);
      if (record === undefined) return;
      this.#states.push(afterRecords(state, [record]));
      wal.appendLazily([record]);
    } else if (dice === 14) {
      const number = this.#lastAppended;
      const of = this.#faults;
      wal.append([], () => {
        if (of !== this.#faults) return;
        assert(this.#acknowledged >= number, "a barrier passes before what stands in front of it");
      });
    } else if (dice <= 16) {
      void wal.removeObsoleteSegments().then((removed) => {
        this.#segmentsRemoved += removed;
      });
    } else if (dice === 17 && this.#errorChance > 0) {
      this.#faults.isFull = random.below(2) === 0;
    } else {
      this.#clock.advance(random.below(4) === 0 ? WAL_SPACE_RETRY_MS : 2 * WAL_IDLE_MS);
    }
  }

  #durable(number: number, of: DiskFaults): void {
    if (of !== this.#faults) return;
    assert(this.#fatal === undefined, "an append is acknowledged after the log has failed");
    assert(number > this.#acknowledged, "appends are acknowledged in order");
    this.#acknowledged = number;
    this.#acknowledgedInAll++;
  }

  /** The end of a life: of the process, or of the machine's power. */
  #die(): void {
    const random = this.#random;
    if (!this.#options.honest && random.below(8) === 0) this.#faults.flip(this.#fs);
    const dice = random.below(3);
    if (dice === 2) {
      this.#faults.count("power loss");
      const after = this.#fs.losePower(this.#faults.keep());
      this.#fs = after.found;
      this.#honestFs = after.honest;
      return;
    }
    this.#honestFs = this.#fs.restartedHonest();
    this.#fs = this.#fs.restarted();
    this.#faults.count(dice === 0 ? "killed" : "killed, page cache gone");
    if (dice === 0) return;
    this.#honestFs.evict();
    this.#fs.evict();
  }

  /** What the disk's lies have done, and whether recovery draws the boundary where it should be. */
  async #judge(): Promise<boolean> {
    const honest = await this.#openUndisturbed(this.#honestFs);
    if (honest.kind === "refused" && this.#isJudged) {
      this.#refused++;
      return false;
    }
    assert(honest.kind === "open", "the log as it should be is refused");
    // As above: then only a start says again what can be relied on.
    if (this.#isJudged) this.#acknowledged = 0;
    this.#find(honest.wal, "without the lies");
    const whole = describeState(honest.wal.recovery.groups);
    const boundary = boundaryOf(this.#honestFs, this.#fs);
    const found = await this.#openUndisturbed(this.#fs);
    const { allowed, why, undamaged } = boundary;
    this.#isJudged = true;
    const prefix = undamaged && (await this.#openUndisturbed(undamaged));
    const expected = `${why}: expected ${[...allowed].join(" or ")}`;
    if (found.kind === "refused") {
      const isAllowed = allowed.has("refused") || prefix?.kind === "refused";
      assert(isAllowed, `${expected}, found ${found.error.message}`);
      this.#refused++;
      return false;
    }
    const text = describeState(found.wal.recovery.groups);
    if (allowed.has("whole") && text === whole) {
      if (why !== "no damage") this.#harmless++;
      return true;
    }
    assert(allowed.has("cut"), `${expected}, found another state`);
    assert(prefix?.kind !== "refused", `${expected}, the rest is refused`);
    this.#cutTo(text, prefix?.wal, expected);
    return true;
  }

  /** A seal that lay where the lost batch should have been may add lazy records to `prefix`. */
  #cutTo(text: string, prefix: Wal | undefined, expected: string): void {
    const texts = this.#states.map(describeState);
    const from = prefix === undefined ? 0 : texts.indexOf(describeState(prefix.recovery.groups));
    assert(from >= 0, "the undamaged part of the log holds what was never written");
    const index = texts.lastIndexOf(text);
    assert(index >= from, `${expected}, found append ${index} instead of ${from}`);
    this.#cut++;
    this.#states.length = index + 1;
    this.#acknowledged = Math.min(this.#acknowledged, index);
  }

  async #openUndisturbed(fs: MemoryFileSystem): Promise<Judged> {
    const copy = fs.restarted();
    try {
      const random = new SeededRandom(1);
      const wal = await openLog(copy, new ManualClock(), random, () => {});
      return { kind: "open", wal };
    } catch (error) {
      if (!(error instanceof KvError) || error.code !== "DATA_CORRUPT") throw error;
      return { kind: "refused", error };
    }
  }
}
