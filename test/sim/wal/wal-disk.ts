/**
 * The core simulator's disk over the real write-ahead log, on simulated files that fail and lie.
 *
 * What the log has reported as durable is kept as a `LogImage`. A start must find exactly that, with
 * any number of the batches behind it that were handed over and not yet reported. A log whose disk has
 * lied may also refuse, or be cut, where boundary.ts allows it: then this replica is lost for good.
 */
import { isDeepStrictEqual } from "node:util";
import { assert } from "#shared/assert.ts";
import { equalBytes } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { toGroupId, toReplicaId } from "#shared/ids.ts";
import { WAL_IDLE_MS, WAL_SPACE_RETRY_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import type { LogStart } from "#storage-node/raft/types.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import type { Wal, WalRecord, WalRecovery } from "#storage-node/wal/types.ts";
import {
  LogImage,
  type LogWrite,
  type RecoveredLog,
  type SimDisk,
  type SimDiskOwner,
} from "#test/sim/core/disk.ts";
import { GROUP } from "#test/sim/core/node.ts";
import { violated } from "#test/sim/core/violation.ts";
import { type Boundary, boundaryOf } from "./boundary.ts";
import { Completions } from "./completions.ts";
import { DiskFaults, type FaultCounts } from "./disk-faults.ts";
import { beginningOf, type Neighbour, neighbourOf, nextOfNeighbour } from "./neighbour.ts";
import { openLog } from "./open-log.ts";

/** Of `GROUP`, in every log: whose log it is is the core simulator's business. */
const REPLICA = toReplicaId(1);
/** What another group of the node writes beside this one: it makes segments begin and end often. */
const NEIGHBOUR = toGroupId(GROUP + 1);
/** File operations that answer in one step at most. */
const ANSWERS_MAX = 6;

export type WalDiskOptions = {
  readonly owner: SimDiskOwner;
  readonly seed: number;
  readonly counts: WalDiskCounts;
  readonly errorChance: number;
  readonly lieChance: number;
  /** Asked before each lie. */
  readonly mayLie: (disk: WalDisk) => boolean;
};

export type WalDiskCounts = {
  readonly faults: FaultCounts;
  opens: number;
  refused: number;
  cut: number;
  tornTails: number;
  /** Batches that were found though nobody had been told of them. */
  unreportedKept: number;
  segmentsRemoved: number;
  segmentsSeen: number;
};

type Work =
  | { readonly kind: "write"; readonly write: LogWrite }
  | { readonly kind: "compact"; readonly start: LogStart };
/** `neighbour`: with this batch. */
type Queued = Work & { readonly neighbour: Neighbour };

/**
 * `failed`: the log has called `onFatal`, or did not open for an error: the process must end.
 * `refused`: it must never come back.
 */
export type WalDiskState = "idle" | "opening" | "open" | "failed" | "refused";

export class WalDisk implements SimDisk {
  durable = new LogImage();
  state: WalDiskState = "idle";
  /** No more faults. */
  calm = false;
  /** What is wrong, to be thrown where somebody looks. */
  error: unknown;
  readonly #options: WalDiskOptions;
  readonly #random: SeededRandom;
  #fs = new MemoryFileSystem();
  /** As the disk should be; differs from `#fs` only where it has lied. */
  #honestFs = new MemoryFileSystem();
  #faults: DiskFaults;
  #completions = new Completions();
  #clock = new ManualClock();
  #wal: Wal | undefined;
  /** Handed over, and not durable yet as far as is known. */
  #queue: Queued[] = [];
  #neighbour: Neighbour;
  #neighbourDurable: Neighbour;
  /** The log knows this replica's group: it was recovered, or its first record handed over. */
  #hasBegun = false;
  /** Durable, and not told yet. */
  #reports: (() => void)[] = [];

  constructor(options: WalDiskOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#faults = this.#newFaults();
  }

  #newFaults(): DiskFaults {
    const { counts, errorChance, lieChance, mayLie } = this.#options;
    return new DiskFaults({
      random: this.#random,
      counts: counts.faults,
      errorChance: this.calm ? 0 : errorChance,
      lieChance: this.calm ? 0 : lieChance,
      mayLie: () => mayLie(this),
    });
  }

  get busy(): boolean {
    if (this.state !== "open" && this.state !== "opening") return false;
    const waits = this.#reports.length > 0 || this.#queue.length > 0 || this.state === "opening";
    return waits || this.#completions.count > 0;
  }

  open(): void {
    assert(this.state === "idle", "a disk is opened once in each life");
    this.state = "opening";
    this.#completions = new Completions();
    this.#clock = new ManualClock();
    this.#faults = this.#newFaults();
    this.#fs = this.#fs.restarted(this.#faults.fileSystemOptions(this.#completions.defer));
    this.#faults.fs = this.#fs;
    const life = this.#faults;
    const opening = openLog(this.#fs, this.#clock, this.#random, () => this.#fail(life));
    opening.then(
      (wal) => this.#ifAlive(life, () => this.#opened(wal)),
      (error: unknown) => this.#ifAlive(life, () => this.#didNotOpen(error)),
    );
  }

  /** Promises of an earlier life still settle, and errors in them would be nobody's. */
  #ifAlive(life: DiskFaults, act: () => void): void {
    if (life !== this.#faults) return;
    try {
      act();
    } catch (error) {
      this.error ??= error;
    }
  }

  #fail(life: DiskFaults): void {
    if (life === this.#faults && this.state !== "refused") this.state = "failed";
  }

  #opened(wal: Wal): void {
    const { recovery } = wal;
    const { counts } = this.#options;
    counts.opens++;
    counts.segmentsSeen += recovery.segments;
    if (recovery.tornTail) counts.tornTails++;
    const found = imageOf(recovery);
    this.#neighbour = neighbourOf(recovery.groups.get(NEIGHBOUR));
    this.#hasBegun = recovery.groups.has(GROUP);
    const kept = this.#matching(found);
    if (kept === undefined) {
      this.#lose("cut", describe(found.image));
      counts.cut++;
      return;
    }
    counts.unreportedKept += kept;
    this.durable = found.image;
    this.#neighbourDurable = this.#neighbour;
    this.#queue = [];
    this.#wal = wal;
    this.state = "open";
    this.#reports.push(() => this.#options.owner.onOpen(found.group));
  }

  /** How many of the unreported batches are there; undefined if less than what was reported is. */
  #matching({ image }: Found): number | undefined {
    const expected = new LogImage();
    expected.hardState = this.durable.hardState;
    expected.start = this.durable.start;
    expected.entries = [...this.durable.entries];
    const fits = (neighbour: Neighbour): boolean =>
      isDeepStrictEqual(neighbour, this.#neighbour) && isEqual(expected, image);
    let kept: number | undefined = fits(this.#neighbourDurable) ? 0 : undefined;
    for (const [i, queued] of this.#queue.entries()) {
      settle(expected, queued);
      if (fits(queued.neighbour)) kept = i + 1;
    }
    return kept;
  }

  #didNotOpen(error: unknown): void {
    const isDamage = error instanceof KvError && error.code === "DATA_CORRUPT";
    if (isDamage) {
      this.#options.counts.refused++;
      this.#refused(error.message);
      return;
    }
    if (this.#faults.hadError || (error as KvError).code === "STORAGE_FULL") this.state = "failed";
    else throw error;
  }

  /** Where a cut is expected, the rest may be refused: it misses entries of removed segments. */
  #refused(detail: string): void {
    const { allowed, undamaged } = this.#boundary;
    if (allowed.has("refused") || undamaged === undefined) {
      this.#lose("refused", detail);
      return;
    }
    const life = this.#faults;
    const copy = undamaged.restarted();
    openLog(copy, new ManualClock(), new SeededRandom(1), () => {}).then(
      () => this.#ifAlive(life, () => this.#lose("refused", detail)),
      () => {
        if (life === this.#faults) this.state = "refused";
      },
    );
  }

  /** The replica is lost, by the disk's fault. */
  #lose(verdict: "refused" | "cut", detail: string): void {
    const { allowed, why } = this.#boundary;
    if (!allowed.has(verdict)) {
      const reported = `reported as durable: ${describe(this.durable)}`;
      violated("recovery", `${why}, but the log is ${verdict}: ${detail}; ${reported}`);
    }
    this.state = "refused";
  }

  /** What recovery may say; drawn up when the last life ended. */
  #boundary: Boundary = { allowed: new Set(["whole"]), undamaged: undefined, why: "a new log" };

  write(write: LogWrite): void {
    const beginning = this.#hasBegun ? [] : [beginningOf(GROUP, REPLICA)];
    this.#hasBegun = true;
    const records = [...beginning, ...recordsOf(write), ...this.#neighbourRecords()];
    this.#append({ kind: "write", write }, records, () => this.#options.owner.onDurable(write));
  }

  compact(start: LogStart): void {
    this.#append({ kind: "compact", start }, [{ kind: "compactPrefix", group: GROUP, start }], () =>
      this.#removeObsoleteSegments(),
    );
  }

  #removeObsoleteSegments(): void {
    const life = this.#faults;
    void this.#wal!.removeObsoleteSegments().then((removed) => {
      if (life === this.#faults) this.#options.counts.segmentsRemoved += removed;
    });
  }

  #append(work: Work, records: readonly WalRecord[], report: () => void): void {
    assert(this.#wal !== undefined, "nothing is written before the log is open");
    const life = this.#faults;
    this.#queue.push({ ...work, neighbour: this.#neighbour });
    this.#wal.append(records, () => {
      this.#ifAlive(life, () => {
        assert(this.state === "open", "a batch is durable after the log has failed");
        const done = this.#queue.shift()!;
        settle(this.durable, done);
        this.#neighbourDurable = done.neighbour;
        this.#reports.push(report);
        if (this.#random.below(8) === 0) this.#removeObsoleteSegments();
      });
    });
  }

  #neighbourRecords(): WalRecord[] {
    const { records, neighbour } = nextOfNeighbour(NEIGHBOUR, this.#neighbour, this.#random);
    this.#neighbour = neighbour;
    return records;
  }

  advance(): void {
    const random = this.#random;
    const answers = 1 + random.below(ANSWERS_MAX);
    let answered = 0;
    while (answered < answers && this.#completions.answer(random)) answered++;
    if (answered === 0 && this.#queue.length > 0) this.#waitForSpace();
    else if (!this.calm && random.below(4) === 0) this.#clock.advance(2 * WAL_IDLE_MS);
    if (!this.calm && this.#options.errorChance > 0 && random.below(100) === 0) {
      this.#faults.isFull = true;
    }
    // What a report leads to may crash this replica.
    for (const report of this.#reports.splice(0)) report();
  }

  #waitForSpace(): void {
    if (this.calm || this.#random.below(4) === 0) this.#faults.isFull = false;
    this.#clock.advance(WAL_SPACE_RETRY_MS);
  }

  /** The faults are over. */
  becomeCalm(): void {
    this.calm = true;
    this.#faults.becomeCalm();
  }

  crash(): { readonly lost: number; readonly torn: boolean } {
    const lost = this.#queue.length;
    const faults = this.#faults;
    const wasOpen = this.#wal !== undefined;
    this.#reports = [];
    this.#completions.drop();
    this.#wal = undefined;
    if (this.state === "idle" || this.state === "refused") return { lost, torn: false };
    this.state = "idle";
    const random = this.#random;
    if (random.float() < this.#options.lieChance * 3 && faults.mayLie) faults.flip(this.#fs);
    const torn = this.#die(faults);
    const boundary = boundaryOf(this.#honestFs, this.#fs);
    // Damage that dirty pages hid, or made harmless, comes to light when they are lost as well.
    const isHidden = !wasOpen && this.#options.lieChance > 0;
    this.#boundary = isHidden ? { ...boundary, allowed: ANYTHING, undamaged: undefined } : boundary;
    return { lost, torn };
  }

  #die(faults: DiskFaults): boolean {
    const dice = this.#random.below(3);
    // Nobody of this life is heard any more.
    this.#faults = this.#newFaults();
    if (dice === 2) {
      faults.count("power loss");
      const after = this.#fs.losePower(faults.keep());
      this.#fs = after.found;
      this.#honestFs = after.honest;
      return true;
    }
    faults.count(dice === 0 ? "killed" : "killed, page cache gone");
    this.#honestFs = this.#fs.restartedHonest();
    this.#fs = this.#fs.restarted();
    if (dice === 1) {
      this.#honestFs.evict();
      this.#fs.evict();
    }
    return false;
  }
}

const ANYTHING: Boundary["allowed"] = new Set(["whole", "refused", "cut"]);

type Found = { readonly image: LogImage; readonly group: RecoveredLog };

function imageOf(recovery: WalRecovery): Found {
  const image = new LogImage();
  const { hardState, start } = image;
  const found = recovery.groups.get(GROUP);
  assert(found === undefined || found.replica === REPLICA, "a group keeps its replica");
  const group: RecoveredLog = found ?? { hardState, start, entries: [] };
  image.hardState = group.hardState;
  image.start = group.start;
  image.entries = [...group.entries];
  return { image, group };
}

function settle(image: LogImage, queued: Work): void {
  if (queued.kind === "write") image.apply(queued.write);
  else image.compact(queued.start);
}

function isEqual(a: LogImage, b: LogImage): boolean {
  const { term, vote, commit } = a.hardState;
  const other = b.hardState;
  if (term !== other.term || vote !== other.vote || commit !== other.commit) return false;
  if (a.start.index !== b.start.index || a.start.term !== b.start.term) return false;
  if (a.entries.length !== b.entries.length) return false;
  return a.entries.every((entry, i) => {
    const { index, term: entryTerm, kind, data } = b.entries[i]!;
    if (entry.index !== index || entry.term !== entryTerm || entry.kind !== kind) return false;
    return equalBytes(entry.data, data);
  });
}

function describe({ hardState, start, lastIndex, entries }: LogImage): string {
  const { term, vote, commit } = hardState;
  const lastTerm = entries.at(-1)?.term ?? start.term;
  return `term ${term} vote ${vote} commit ${commit}, ${start.index}@${start.term} to ${lastIndex}@${lastTerm}`;
}

/** As in the ready loop. */
function recordsOf({ reset, truncateFrom, entries, hardState }: LogWrite): WalRecord[] {
  const group = GROUP;
  const records: WalRecord[] = [];
  if (reset !== undefined) {
    const { start, configuration } = reset;
    records.push({ kind: "snapshotMeta", group, replica: REPLICA, start, configuration });
  }
  if (truncateFrom !== undefined) {
    records.push({ kind: "truncateSuffix", group, from: truncateFrom });
  }
  if (entries.length > 0) records.push({ kind: "entries", group, entries });
  if (hardState !== undefined) records.push({ kind: "hardState", group, hardState });
  return records;
}
