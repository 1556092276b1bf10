/**
 * What a node does between requests: expiring keys, trimming journals, compacting the Raft log.
 *
 * Each job works in bounded steps and yields between them. None of them is needed for correctness of
 * an answer; they bound space. The one safety rule is in `compactLog`.
 */
import type { Mutation } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import type { LogIndex } from "#shared/ids.ts";
import {
  CHANGE_LOG_MEASURE_STEPS,
  EXPIRY_KEYS_PER_COMMAND_MAX,
  EXPIRY_SWEEP_INTERVAL_MS,
  JOURNAL_TRIM_ROWS_PER_STEP_MAX,
  LOG_COMPACT_INTERVAL_MS,
  LOG_RETAINED_BYTES_BEHIND_SNAPSHOT,
  LOG_RETAINED_BYTES_MAX,
  LOG_RETAINED_BYTES_PER_FOLLOWER,
  LOG_RETAINED_BYTES_PER_GROUP,
  MAINTENANCE_INTERVAL_MS,
} from "#shared/limits.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { expiredKeys } from "#storage-node/machine/expiry.ts";
import {
  type ChangeLogRetention,
  measureJournal,
  trimJournal,
} from "#storage-node/machine/journal-trim.ts";
import type { LogStart } from "#storage-node/raft/types.ts";
import type { Wal, WalRecord } from "#storage-node/wal/types.ts";
import type { ReadyLoop } from "./ready-loop.ts";
import type { Replica } from "./replica.ts";

export type MaintenanceOptions = {
  /** Those that the node has now. */
  readonly replicas: () => readonly Replica[];
  readonly engine: Engine;
  readonly wal: Wal;
  readonly loop: ReadyLoop;
  readonly clock: Clock;
  /** False for an engine that does not outlive the process: the log is then all there is. */
  readonly mayCompact: boolean;
  /** Undefined for the limits' own. */
  readonly changeLog?: ChangeLogRetention | undefined;
  /** Sends expiry mutations through the log of their group; `done` runs when they are applied. */
  readonly expire: (replica: Replica, mutations: readonly Mutation[], done: () => void) => void;
  readonly onFatal: (error: unknown) => void;
};

export class Maintenance {
  readonly #options: MaintenanceOptions;
  #logBytes = 0;
  #lastCompactionMs: number;
  #nextSweepMs: number;
  #running: Promise<void> | undefined;
  #cancelTimer: () => void = () => {};
  #stopped = false;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
    this.#lastCompactionMs = options.clock.monotonicMs();
    this.#nextSweepMs = options.clock.monotonicMs() + EXPIRY_SWEEP_INTERVAL_MS;
  }

  start(): void {
    if (this.#stopped) return;
    this.#cancelTimer = this.#options.clock.after(MAINTENANCE_INTERVAL_MS, () => {
      this.#running = this.#step().then(
        () => this.start(),
        (error: unknown) => {
          // A step that `stop` gave up waiting for may meet the closed log or engine.
          if (!this.#stopped) this.#options.onFatal(error);
        },
      );
    });
  }

  /**
   * Ends the cycle and waits for the step that runs, at most `timeoutMs`: on a full disk a step may
   * wait for space until the log is closed.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer();
    if (this.#running === undefined) return;
    let cancelTimeout = (): void => {};
    const timeout = new Promise<void>((resolve) => {
      cancelTimeout = this.#options.clock.after(timeoutMs, resolve);
    });
    await Promise.race([this.#running, timeout]);
    cancelTimeout();
  }

  async #step(): Promise<void> {
    const { clock, loop, wal } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs >= this.#nextSweepMs) {
      this.#nextSweepMs = nowMs + EXPIRY_SWEEP_INTERVAL_MS;
      await this.#sweepExpired();
      await this.#measureJournals();
      await this.#trimJournals();
    }
    if (!this.#options.mayCompact) return;
    this.#logBytes += loop.takeLogBytes();
    const sinceMs = nowMs - this.#lastCompactionMs;
    const due = this.#logBytes > 0 && sinceMs >= LOG_COMPACT_INTERVAL_MS;
    const tight = this.#logBytes > 0 && wal.reservedBytes < LOG_RETAINED_BYTES_MAX / 4;
    if (this.#logBytes >= LOG_RETAINED_BYTES_MAX || due || tight) {
      this.#logBytes = 0;
      this.#lastCompactionMs = nowMs;
      await this.compactLog();
    }
  }

  async #sweepExpired(): Promise<void> {
    const { replicas, engine, clock, loop, expire } = this.#options;
    const wallMs = clock.nowMs();
    for (const replica of replicas()) {
      if (this.#stopped) return;
      if (!replica.isLeader || replica.sweeping) continue;
      const logTimeMs = replica.logTimeMs(wallMs);
      if (replica.machine.nextExpiryAtMs > logTimeMs) continue;
      const mutations = await loop.pump.between(() =>
        expiredKeys(replica.machine, engine, logTimeMs, EXPIRY_KEYS_PER_COMMAND_MAX),
      );
      if (mutations.length === 0) continue;
      // There may be more: look again at the next step, not only after the interval.
      if (mutations.length >= EXPIRY_KEYS_PER_COMMAND_MAX) this.#nextSweepMs = 0;
      replica.sweeping = true;
      expire(replica, mutations, () => {
        replica.sweeping = false;
      });
    }
  }

  async #trimJournals(): Promise<void> {
    const { engine, clock, loop, changeLog } = this.#options;
    for (const replica of this.#options.replicas()) {
      // Between rounds: a machine that is ahead of the engine could find that the last row which the engine has,
      // the mark of what is applied, is of no more use. Looked at before each step: meanwhile the rows may have
      // come to belong to another replica, or to a snapshot that takes their place.
      const step = (): MaybePromise<number> => {
        if (replica.isGone || replica.installing) return 0;
        return trimJournal(replica.machine, engine, replica.logTimeMs(clock.nowMs()), changeLog);
      };
      let trimmed = JOURNAL_TRIM_ROWS_PER_STEP_MAX;
      while (trimmed >= JOURNAL_TRIM_ROWS_PER_STEP_MAX) {
        if (this.#stopped) return;
        trimmed = await loop.pump.between(step);
      }
    }
  }

  /** Some of the rows from before the start: so the size of change logs becomes known, without haste. */
  async #measureJournals(): Promise<void> {
    let steps = CHANGE_LOG_MEASURE_STEPS;
    for (const replica of this.#options.replicas()) {
      while (steps > 0 && replica.machine.journal.uncounted !== undefined) {
        if (this.#stopped) return;
        if (replica.isGone || replica.installing) break;
        steps--;
        await measureJournal(replica.machine, this.#options.engine);
      }
    }
  }

  /**
   * Cuts the Raft log behind what the engine holds durably.
   *
   * Safety (durability rule 8): the indexes are noted **before** the engine is flushed, so the flush
   * covers them; only then are the entries up to them given up. The `compactPrefix` records must be
   * durable before a segment is removed, and the log itself keeps every segment that still holds a
   * needed entry. Groups with other members keep a tail of entries for those that lag.
   */
  async compactLog(): Promise<void> {
    const { engine, wal, clock } = this.#options;
    const replicas = this.#options.replicas();
    const applied = replicas.map((replica) => replica.applied);
    await engine.flush();
    if (this.#stopped) return;
    const records: WalRecord[] = [];
    replicas.forEach((replica, i) => {
      // Destroyed meanwhile: the log has dropped the group.
      if (replica.isGone) return;
      const start = cutFor(replica, applied[i]!, clock.monotonicMs());
      if (start === undefined) return;
      replica.logCutIndex = start.index;
      replica.raft.compact(start.index);
      records.push({ kind: "compactPrefix", group: replica.group, start });
    });
    if (records.length === 0) return;
    await new Promise<void>((resolve) => wal.append(records, resolve));
    await wal.removeObsoleteSegments();
  }
}

/** Where the log of a group may be cut when its engine is durable up to `applied`. */
function cutFor(replica: Replica, applied: LogStart, nowMs: number): LogStart | undefined {
  // Its log is about to begin elsewhere.
  if (replica.installing) return undefined;
  if (replica.alone) return applied.index > replica.logCutIndex ? applied : undefined;
  const retainedBytes =
    nowMs < replica.keepLogUntilMs
      ? LOG_RETAINED_BYTES_BEHIND_SNAPSHOT
      : replica.isLeader
        ? LOG_RETAINED_BYTES_PER_GROUP
        : LOG_RETAINED_BYTES_PER_FOLLOWER;
  const kept = replica.raft.compactionIndex(retainedBytes);
  const index = Math.min(kept, applied.index) as LogIndex;
  if (index <= replica.logCutIndex) return undefined;
  const term = replica.raft.termAt(index);
  return term === undefined ? undefined : { index, term };
}
