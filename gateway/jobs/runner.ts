/**
 * Runs the jobs of the directory: takes free ones, works on them step by step, saves how far they are.
 *
 * A job belongs to the gateway that its row names. The lease needs no clock that two machines share: who
 * holds it changes the row at least every `JOB_SAVE_INTERVAL_MS`, and others take it when they have seen
 * it unchanged for `JOB_LEASE_MS` by their own monotonic clock. All changes are conditional on the
 * revision that was read, so of two who take it one succeeds, and one who has lost it saves nothing more.
 * What it does until it finds out is harmless, since steps are idempotent. `lease_until_ms` is for
 * people; only 0 has a meaning: nobody holds it.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { type JobRecord, JobRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { EMPTY_BYTES, equalBytes } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import {
  JOB_BACKOFF_MS_MAX,
  JOB_BACKOFF_MS_MIN,
  JOB_LEASE_MS,
  JOB_LOOK_INTERVAL_MS,
  JOB_PAUSE_MS_MAX,
  JOB_SAVE_INTERVAL_MS,
  JOB_STEP_MS_MAX,
  JOBS_AT_ONCE_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { JOB_ROWS, type JobKind, type JobStep, jobRecordOf } from "./job.ts";

export type JobRunnerOptions = {
  readonly directory: Directory;
  readonly kinds: readonly JobKind[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Pick<Logger, "info" | "warn">;
};

/** One job of the cluster, for people. */
export type JobInfo = {
  readonly name: string;
  readonly progress: Uint8Array;
  readonly startedAtMs: number;
  /**
   * At which gateway: at this one, at another one, or at none at the moment. When its row is unreadable nothing
   * but the name is known.
   */
  readonly at: "here" | "elsewhere" | "nowhere" | "unreadable";
};

/** A row that somebody else holds, since when it has been as it is. */
type Seen = { readonly revision: number; readonly sinceMs: number };
type Backoff = { readonly failures: number; readonly untilMs: number };

const GATEWAY_ID_SIZE_BYTES = 16;
const NOBODY = new Uint8Array(0);

export class JobRunner {
  readonly #options: JobRunnerOptions;
  readonly #kinds: ReadonlyMap<string, JobKind>;
  readonly #gatewayId: Uint8Array;
  readonly #running = new Map<string, Promise<void>>();
  readonly #seen = new Map<string, Seen>();
  readonly #backoff = new Map<string, Backoff>();
  readonly #wakers = new Set<() => void>();
  #cancelLook: (() => void) | undefined;
  #unsubscribe: (() => void) | undefined;
  #stopping = false;

  constructor(options: JobRunnerOptions) {
    this.#options = options;
    this.#kinds = new Map(options.kinds.map((kind) => [kind.kind, kind]));
    this.#gatewayId = options.random.fill(new Uint8Array(GATEWAY_ID_SIZE_BYTES));
  }

  start(): void {
    const { directory } = this.#options;
    this.#unsubscribe = directory.subscribe(JOB_ROWS, (name, row) => {
      if (row !== undefined) return;
      this.#seen.delete(name);
      this.#backoff.delete(name);
    });
    this.#lookLater();
  }

  /** Lets the steps end that run, for at most `timeoutMs`, and gives their jobs back. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    this.#cancelLook?.();
    this.#unsubscribe?.();
    for (const wake of [...this.#wakers]) wake();
    const all = Promise.all(this.#running.values()).then(() => undefined);
    let cancel: () => void = () => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(timeoutMs, resolve);
    });
    await Promise.race([all, late]);
    cancel();
  }

  /** Jobs that this gateway works on, by kind. */
  running(): ReadonlyMap<string, number> {
    const counts = new Map([...this.#kinds.keys()].map((kind) => [kind, 0]));
    for (const name of this.#running.keys()) {
      const kind = kindOf(name);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    return counts;
  }

  /** All jobs of the cluster, those that this gateway does not know how to do included. */
  list(): readonly JobInfo[] {
    return this.#options.directory.list(JOB_ROWS).map((row) => {
      const record = jobRecordOf(row);
      return {
        name: row.name.slice(JOB_ROWS.length),
        progress: record?.progress ?? EMPTY_BYTES,
        startedAtMs: Number(record?.startedAtMs ?? 0),
        at: this.#running.has(row.name) ? "here" : placeOf(record),
      };
    });
  }

  #lookLater(): void {
    const { clock, random } = this.#options;
    // Jittered, so that gateways do not reach for the same job at the same time again and again.
    const delayMs = JOB_LOOK_INTERVAL_MS / 2 + random.below(JOB_LOOK_INTERVAL_MS);
    this.#cancelLook = clock.after(delayMs, () => {
      this.#look();
      if (!this.#stopping) this.#lookLater();
    });
  }

  /** Takes what is free, as long as there is room. */
  #look(): void {
    const { directory, clock } = this.#options;
    if (!directory.isKnown) return;
    const nowMs = clock.monotonicMs();
    for (const row of directory.list(JOB_ROWS)) {
      if (this.#stopping || this.#running.size >= JOBS_AT_ONCE_MAX) return;
      const kind = this.#kinds.get(kindOf(row.name));
      if (kind === undefined || this.#running.has(row.name)) continue;
      if ((this.#backoff.get(row.name)?.untilMs ?? 0) > nowMs) continue;
      const record = this.#recordOf(row);
      if (record === undefined || !this.#isFree(row, record, nowMs)) continue;
      this.#seen.delete(row.name);
      const work = this.#work(kind, row, record).finally(() => this.#running.delete(row.name));
      this.#running.set(row.name, work);
    }
  }

  /** Undefined when it cannot be read, which keeps nobody from the other jobs. */
  #recordOf({ name, value }: DirectoryRow): JobRecord | undefined {
    try {
      return fromBinary(JobRecordSchema, value);
    } catch (err) {
      this.#backOff(name);
      this.#options.logger.warn({ job: name.slice(JOB_ROWS.length), err }, "a job cannot be read");
      return undefined;
    }
  }

  #isFree({ name, revision }: DirectoryRow, record: JobRecord, nowMs: number): boolean {
    if (record.leaseUntilMs === 0n) return true;
    // Taken by this gateway, which does not know: the answer to its change was lost.
    if (equalBytes(record.gatewayId, this.#gatewayId)) return true;
    const seen = this.#seen.get(name);
    if (seen?.revision === revision) return nowMs - seen.sinceMs >= JOB_LEASE_MS;
    this.#seen.set(name, { revision, sinceMs: nowMs });
    return false;
  }

  /** From taking the job to its end, its loss, a failure or the stop. Never rejects. */
  async #work(kind: JobKind, row: DirectoryRow, record: JobRecord): Promise<void> {
    const { logger } = this.#options;
    const name = row.name.slice(JOB_ROWS.length);
    const hold = new Hold(row.name, row.revision, record);
    try {
      if (!(await this.#save(hold, true))) return;
      logger.info({ job: name }, "job taken");
      const end = await this.#steps(kind, hold);
      this.#backoff.delete(row.name);
      if (end === "done") logger.info({ job: name }, "job done");
      if (end === "lost") logger.warn({ job: name }, "job was taken over by another gateway");
    } catch (err) {
      const backoff = this.#backOff(row.name);
      logger.warn({ job: name, err, failures: backoff.failures }, "a step of a job failed");
      await this.#save(hold, false).catch(() => false);
    }
  }

  async #steps(kind: JobKind, hold: Hold): Promise<"done" | "lost" | "stopped"> {
    const { clock } = this.#options;
    const id = hold.name.slice(JOB_ROWS.length + kind.kind.length + 1);
    let savedMs = clock.monotonicMs();
    const isStopping = () => this.#stopping;
    while (!this.#stopping) {
      const deadlineMs = clock.nowMs() + JOB_STEP_MS_MAX;
      const step = await kind.step(hold.progress, { id, deadlineMs, isStopping });
      // Each step that succeeds ends the trouble.
      this.#backoff.delete(hold.name);
      if (step.kind === "done") return (await this.#end(hold, step)) ? "done" : "lost";
      hold.progress = step.progress;
      const pauseMs = Math.min(step.pauseMs ?? 0, JOB_PAUSE_MS_MAX);
      if (pauseMs > 0) await this.#pause(pauseMs);
      if (clock.monotonicMs() - savedMs < JOB_SAVE_INTERVAL_MS) continue;
      if (!(await this.#save(hold, true))) return "lost";
      savedMs = clock.monotonicMs();
    }
    await this.#save(hold, false);
    return "stopped";
  }

  #pause(pauseMs: number): Promise<void> {
    if (this.#stopping) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        this.#wakers.delete(wake);
        resolve();
      };
      const cancel = this.#options.clock.after(pauseMs, wake);
      this.#wakers.add(wake);
    });
  }

  /** Writes the progress, and holds the job further or gives it back. False: it is another's. */
  async #save(hold: Hold, keep: boolean): Promise<boolean> {
    const { clock, directory } = this.#options;
    const value = create(JobRecordSchema, {
      gatewayId: keep ? this.#gatewayId : NOBODY,
      leaseUntilMs: keep ? BigInt(clock.nowMs() + JOB_LEASE_MS) : 0n,
      progress: hold.progress,
      startedAtMs: hold.startedAtMs,
    });
    const bytes = toBinary(JobRecordSchema, value);
    if (!(await this.#change([{ ...hold.expected, value: bytes }]))) return false;
    const row = directory.get(hold.name);
    // Ours, unless somebody has taken it over in the same moment.
    if (row === undefined || !equalBytes(row.value, bytes)) return false;
    hold.revision = row.revision;
    return true;
  }

  async #end(hold: Hold, step: JobStep & { readonly kind: "done" }): Promise<boolean> {
    const end = { ...hold.expected, value: undefined };
    if (await this.#change([end, ...(step.mutations ?? [])])) return true;
    const isStillHeld = this.#options.directory.get(hold.name)?.revision === hold.revision;
    if (isStillHeld) throw new Error("a row that the job ends with is not as expected");
    return false;
  }

  #change(mutations: readonly DirectoryMutation[]): Promise<boolean> {
    const { clock, directory } = this.#options;
    return directory.change(mutations, { deadlineMs: clock.nowMs() + JOB_STEP_MS_MAX });
  }

  #backOff(name: string): Backoff {
    const { clock, random } = this.#options;
    const failures = (this.#backoff.get(name)?.failures ?? 0) + 1;
    const wholeMs = Math.min(JOB_BACKOFF_MS_MIN * 2 ** (failures - 1), JOB_BACKOFF_MS_MAX);
    const untilMs = clock.monotonicMs() + wholeMs * (0.5 + random.float() / 2);
    const backoff = { failures, untilMs };
    this.#backoff.set(name, backoff);
    return backoff;
  }
}

/** A job that this gateway works on. */
class Hold {
  readonly name: string;
  readonly startedAtMs: bigint;
  revision: number;
  progress: Uint8Array;

  constructor(name: string, revision: number, record: JobRecord) {
    this.name = name;
    this.revision = revision;
    this.startedAtMs = record.startedAtMs;
    this.progress = record.progress;
  }

  get expected(): { readonly name: string; readonly expectedRevision: number } {
    return { name: this.name, expectedRevision: this.revision };
  }
}

/** Of a job that this gateway does not work on. */
function placeOf(record: JobRecord | undefined): JobInfo["at"] {
  if (record === undefined) return "unreadable";
  return record.leaseUntilMs === 0n ? "nowhere" : "elsewhere";
}

/** `tenant-deletion` of `job/tenant-deletion/0000002a`. */
function kindOf(rowName: string): string {
  const name = rowName.slice(JOB_ROWS.length);
  const end = name.indexOf("/");
  return end < 0 ? name : name.slice(0, end);
}
