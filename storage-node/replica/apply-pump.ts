/**
 * Applies committed entries of all groups in rounds.
 *
 * A round takes what is committed (up to a bound in bytes), fetches all rows it will read in one
 * engine call, applies entry by entry into one engine batch, answers, and writes the batch: mutations,
 * journal rows with their applied index, and counters together (durability rule 7). One round runs at
 * a time.
 *
 * An answer does not wait for the engine. What it tells is decided: the entry is committed, on the
 * disks of a quorum, and the state machine's outcome is the same wherever and whenever the entry is
 * applied. If the batch cannot be written, this node ends and applies the entry again from its log. Nobody
 * sees rows that lack the write: reads wait until the applied index has reached what their ReadIndex
 * round found, which is at least this entry, and it rises when the batch has been written. So gateways
 * work on the answers while this thread is in the engine.
 */
import { decodeEntryBody } from "#proto/codec/entry-body.ts";
import type { EntryBody } from "#proto/codec/messages.ts";
import type { Change } from "#shared/change.ts";
import type { Clock } from "#shared/clock.ts";
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import { READY_COMMITTED_BYTES_MAX } from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { configurationRowKey } from "#storage-node/engine/layout.ts";
import type { CommandOutcome } from "#storage-node/machine/machine.ts";
import { RowHeads } from "#storage-node/machine/row-heads.ts";
import { ApplyView } from "#storage-node/machine/view.ts";
import { type Entry, EntryKind } from "#storage-node/raft/types.ts";
import type { Replica } from "./replica.ts";
import type { PendingWrite } from "./waiting.ts";

type CommittedRun = { readonly replica: Replica; readonly entries: readonly Entry[] };

/** One entry of a round. */
export type AppliedEntry = {
  readonly replica: Replica;
  readonly entry: Entry;
  /** Undefined for entries that change no keys: a term's first one, or a configuration. */
  readonly body: EntryBody | undefined;
  /** One for each command, if it was proposed here and somebody waits for it. */
  readonly writes: readonly PendingWrite[] | undefined;
  outcomes: readonly CommandOutcome[];
  /** Undefined when nobody wanted them at that time. */
  changes: readonly Change[] | undefined;
  /** Known when the changes are. */
  logTimeMs: number;
};

type RoundStep = AppliedEntry;

/** Who wants to know what has been applied. */
export interface AppliedListener {
  /** Whether it is of use to tell what is applied of this replica. Asked for each entry: must be cheap. */
  wants(replica: Replica): boolean;
  /** The engine holds what entries `from` to `to` of the round have changed; they are of this replica. */
  applied(replica: Replica, round: readonly AppliedEntry[], from: number, to: number): void;
}

const NO_OUTCOMES: readonly CommandOutcome[] = [];

export type ApplyPumpOptions = {
  readonly engine: Engine;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** After a round: the replica's core learned of it and may have more to do. */
  readonly onApplied: (replica: Replica) => void;
  /** Absent: nobody wants to know. */
  readonly listener?: AppliedListener | undefined;
  /** The node must stop: what is applied is not known any more. */
  readonly onFatal: (error: unknown) => void;
};

export class ApplyPump {
  readonly #options: ApplyPumpOptions;
  readonly #view: ApplyView;
  readonly #batch: EngineBatch;
  #queue: CommittedRun[] = [];
  #running = false;
  #stopped = false;
  /** Each is called once: to start, or with why it never can. */
  #betweenRounds: ((failure?: Error) => void)[] = [];
  #failure: Error | undefined;
  /** Of the engine, one for each round. */
  readonly writes = new LatencyHistogram();

  constructor(options: ApplyPumpOptions) {
    this.#options = options;
    this.#batch = options.engine.batch();
    this.#view = new ApplyView(this.#batch, new RowHeads());
  }

  /** Gives up what is queued for a replica; what the running round applies of it is still applied. */
  discard(replica: Replica): void {
    this.#queue = this.#queue.filter((run) => run.replica !== replica);
  }

  enqueue(replica: Replica, entries: readonly Entry[]): void {
    if (!this.#stopped) this.#queue.push({ replica, entries });
  }

  /** Begins to apply what is queued, unless that is being done. */
  run(): void {
    if (this.#running) return;
    this.#runBetween();
    if (this.#queue.length === 0) return;
    // From here on the machines are ahead of the engine, and who is answered may ask for a moment at which
    // they are not.
    this.#running = true;
    this.#round().then(this.#roundEnded, this.#failed);
  }

  /**
   * Starts `work` at a moment when the engine holds all that the machines have applied: now, or as
   * soon as the running round has ended. Rejects when there is no such moment any more.
   */
  between<T>(work: () => MaybePromise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const start = (failure?: Error): void => {
        if (failure !== undefined) {
          reject(failure);
          return;
        }
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      };
      if (this.#failure !== undefined) start(this.#failure);
      else if (this.#running) this.#betweenRounds.push(start);
      else start();
    });
  }

  /** Gives up what is queued, for the log to replay, and waits for the round that runs. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue = [];
    // It only rejects when the round has failed, and with that has ended.
    await this.between(() => {}).catch(() => {});
  }

  readonly #roundEnded = (): void => {
    this.#running = false;
    try {
      this.run();
    } catch (error) {
      this.#failed(error);
    }
  };

  readonly #failed = (error: unknown): void => {
    this.#stopped = true;
    this.#queue = [];
    this.#failure = new Error("a round of apply has failed", { cause: error });
    const waiting = this.#betweenRounds;
    this.#betweenRounds = [];
    for (const start of waiting) start(this.#failure);
    this.#options.onFatal(error);
  };

  #runBetween(): void {
    if (this.#betweenRounds.length === 0) return;
    const waiting = this.#betweenRounds;
    this.#betweenRounds = [];
    for (const start of waiting) start();
  }

  async #round(): Promise<void> {
    const { engine, clock } = this.#options;
    const runs = this.#takeRuns();
    const steps = this.#stepsOf(runs);
    const keys = this.#view.keys();
    if (keys.length > 0) {
      const rows = engine.getMany(keys);
      this.#view.fill(isPromise(rows) ? await rows : rows);
    }
    this.#applySteps(steps);
    const decidedMs = clock.monotonicMs();
    for (const { replica, entry, outcomes } of steps) {
      replica.answerApplied(entry, outcomes, decidedMs);
    }
    // Behind the ticks that this turn has asked for: streams send their results in one.
    await undefined;
    const startedMs = clock.monotonicMs();
    const written = engine.write(this.#batch);
    if (isPromise(written)) await written;
    const endedMs = clock.monotonicMs();
    this.writes.observe(endedMs - startedMs);
    this.#finish(runs, steps, endedMs);
  }

  #stepsOf(runs: readonly CommittedRun[]): readonly RoundStep[] {
    const steps: RoundStep[] = [];
    this.#view.reset();
    this.#batch.clear();
    for (const { replica, entries } of runs) {
      for (const entry of entries) {
        const hasBody = entry.kind === EntryKind.Normal && entry.data.length > 0;
        const proposed = hasBody ? replica.proposedEntry(entry) : undefined;
        const body = hasBody ? (proposed?.body ?? decodeEntryBody(entry.data)) : undefined;
        if (body) replica.machine.collectReads(body, this.#view);
        steps.push({
          replica,
          entry,
          body,
          writes: proposed?.writes,
          outcomes: NO_OUTCOMES,
          changes: undefined,
          logTimeMs: 0,
        });
      }
    }
    return steps;
  }

  /** Some of what is queued, so that one engine batch stays bounded: after a restart it is much. */
  #takeRuns(): readonly CommittedRun[] {
    let count = 0;
    let sizeBytes = 0;
    while (count < this.#queue.length && sizeBytes < READY_COMMITTED_BYTES_MAX) {
      for (const { data } of this.#queue[count]!.entries) sizeBytes += data.length;
      count++;
    }
    if (count < this.#queue.length) return this.#queue.splice(0, count);
    const all = this.#queue;
    this.#queue = [];
    return all;
  }

  #applySteps(steps: readonly RoundStep[]): void {
    const { listener } = this.#options;
    for (const step of steps) {
      const { index, term } = step.entry;
      const { machine } = step.replica;
      const sink = listener?.wants(step.replica) === true ? step : undefined;
      step.outcomes = machine.apply({ index, term, body: step.body }, this.#view, sink);
      if (step.entry.kind === EntryKind.Configuration) {
        // A start, and whoever is sent these rows, finds the members as of the applied index.
        this.#view.putUnread(configurationRowKey(step.replica.group), step.entry.data);
      }
    }
    this.#view.finish();
  }

  #finish(runs: readonly CommittedRun[], steps: readonly RoundStep[], nowMs: number): void {
    for (const { replica, entries } of runs) {
      replica.appliedUpTo(entries[entries.length - 1]!, nowMs);
      this.#options.onApplied(replica);
    }
    const { listener } = this.#options;
    if (listener === undefined) return;
    let from = 0;
    for (const { replica, entries } of runs) {
      const to = from + entries.length;
      if (listener.wants(replica)) listener.applied(replica, steps, from, to);
      from = to;
    }
  }
}
