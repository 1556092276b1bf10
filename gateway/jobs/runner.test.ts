import { describe, expect, it } from "vitest";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  JOB_BACKOFF_MS_MAX,
  JOB_BACKOFF_MS_MIN,
  JOB_LEASE_MS,
  JOB_SAVE_INTERVAL_MS,
  JOBS_AT_ONCE_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { JOB_ROWS, type JobKind, type JobStep, jobRecordOf, newJob } from "./job.ts";
import { JobRunner } from "./runner.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");
const TICK_MS = 100;

class Cluster {
  readonly clock = new ManualClock();
  readonly directory = new MemoryDirectory();
  readonly logged: string[] = [];
  #seed = 1;

  gateway(kind: JobKind): JobRunner {
    const log = (_: object, message: string) => void this.logged.push(message);
    const runner = new JobRunner({
      directory: this.directory,
      kinds: [kind],
      clock: this.clock,
      random: new SeededRandom(this.#seed++),
      logger: { info: log, warn: log } as never,
    });
    runner.start();
    return runner;
  }

  async add(name: string): Promise<void> {
    expect(await this.directory.change([newJob(name, EMPTY_BYTES, 5)])).toBe(true);
  }

  async run(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += TICK_MS) {
      this.clock.advance(TICK_MS);
      await settle();
    }
  }

  has(name: string): boolean {
    return this.directory.get(JOB_ROWS + name) !== undefined;
  }

  progress(name: string): string {
    return text(jobRecordOf(this.directory.get(JOB_ROWS + name)!)!.progress);
  }
}

/** What can go on without time passing has gone on. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

/** Counts to `last`, a step each, with a pause that makes time pass. */
function counting(last: number, onStep: (count: number) => void = () => undefined): JobKind {
  return {
    kind: "count",
    step: async (progress): Promise<JobStep> => {
      const count = Number(text(progress)) + 1;
      onStep(count);
      if (count === last) return { kind: "done" };
      return { kind: "more", progress: utf8(String(count)), pauseMs: 500 };
    },
  };
}

describe("JobRunner", () => {
  it("does a job step by step, and its row goes with the end", async () => {
    const cluster = new Cluster();
    const counts: number[] = [];
    cluster.gateway(counting(4, (count) => counts.push(count)));
    await cluster.add("count/a");
    await cluster.run(5_000);
    expect(counts).toEqual([1, 2, 3, 4]);
    expect(cluster.has("count/a")).toBe(false);
    expect(cluster.logged).toEqual(["job taken", "job done"]);
  });

  it("does the others when the row of one cannot be read", async () => {
    const cluster = new Cluster();
    cluster.gateway(counting(2));
    const value = Uint8Array.of(0xff);
    await cluster.directory.change([{ name: `${JOB_ROWS}count/a`, value }]);
    await cluster.add("count/b");
    await cluster.run(2_500);
    expect([cluster.has("count/a"), cluster.has("count/b")]).toEqual([true, false]);
    const warnings = cluster.logged.filter((line) => line === "a job cannot be read");
    expect(warnings.length).toBeGreaterThan(0);
    expect(warnings.length).toBeLessThanOrEqual(2);
  });

  it("hands the step its id, and a deadline that lies ahead", async () => {
    const cluster = new Cluster();
    const seen: [string, boolean][] = [];
    cluster.gateway({
      kind: "count",
      step: async (_, { id, deadlineMs }) => {
        seen.push([id, deadlineMs > cluster.clock.nowMs()]);
        return { kind: "done" };
      },
    });
    await cluster.add("count/a/b");
    await cluster.run(2_000);
    expect(seen).toEqual([["a/b", true]]);
  });

  it("is done by one gateway of many", async () => {
    const cluster = new Cluster();
    const counts: number[] = [];
    for (let at = 0; at < 3; at++) cluster.gateway(counting(40, (count) => counts.push(count)));
    await cluster.add("count/a");
    await cluster.run(60_000);
    expect(counts).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
    expect(cluster.has("count/a")).toBe(false);
  });

  it("saves how far it is now and then, and another goes on there when it dies", async () => {
    const cluster = new Cluster();
    let isDead = false;
    const forever = new Promise<JobStep>(() => undefined);
    const first = counting(1000);
    cluster.gateway({
      kind: "count",
      step: (progress, context) => (isDead ? forever : first.step(progress, context)),
    });
    await cluster.add("count/a");
    await cluster.run(10_000);
    const saved = Number(cluster.progress("count/a"));
    expect(saved).toBeGreaterThan(10);
    isDead = true;
    const counts: number[] = [];
    const other = cluster.gateway(counting(1000, (count) => counts.push(count)));
    await cluster.run(JOB_LEASE_MS - JOB_SAVE_INTERVAL_MS - 1_000);
    expect(counts).toEqual([]);
    expect(other.list()).toMatchObject([{ name: "count/a", at: "elsewhere", startedAtMs: 5 }]);
    await cluster.run(JOB_SAVE_INTERVAL_MS + 3_000);
    // What was done since it was last saved is done again.
    expect(counts[0]! - 1).toBeGreaterThanOrEqual(saved);
    expect(other.list()).toMatchObject([{ at: "here" }]);
  });

  it("stops at what it has lost, and does not write over the other's progress", async () => {
    const cluster = new Cluster();
    const held = Promise.withResolvers<JobStep>();
    let steps = 0;
    cluster.gateway({
      kind: "count",
      step: () => {
        steps++;
        return held.promise;
      },
    });
    await cluster.add("count/a");
    await cluster.run(2_000);
    const other = cluster.gateway(counting(1000));
    await cluster.run(JOB_LEASE_MS + 5_000);
    expect(other.list()).toMatchObject([{ at: "here" }]);
    const before = Number(cluster.progress("count/a"));
    held.resolve({ kind: "done" });
    await cluster.run(5_000);
    expect(steps).toBe(1);
    expect(cluster.logged).toContain("job was taken over by another gateway");
    expect(Number(cluster.progress("count/a"))).toBeGreaterThan(before);
  });

  it("tries a step that failed again, with growing pauses, and keeps what was done", async () => {
    const cluster = new Cluster();
    const failures: number[] = [];
    let isBroken = true;
    cluster.gateway(
      counting(5, (count) => {
        if (count < 3 || !isBroken) return;
        failures.push(cluster.clock.monotonicMs());
        throw new Error("broken");
      }),
    );
    await cluster.add("count/a");
    await cluster.run(5 * 60_000);
    const pauses = failures.slice(1).map((atMs, at) => atMs - failures[at]!);
    expect(pauses[0]).toBeGreaterThanOrEqual(JOB_BACKOFF_MS_MIN / 2);
    expect(Math.max(...pauses)).toBeLessThan(JOB_BACKOFF_MS_MAX + 2_000);
    expect(pauses.at(-1)).toBeGreaterThan(JOB_BACKOFF_MS_MAX / 2);
    expect(cluster.progress("count/a")).toBe("2");
    isBroken = false;
    await cluster.run(JOB_BACKOFF_MS_MAX + 10_000);
    expect(cluster.has("count/a")).toBe(false);
  });

  it("leaves a job that fails here to others", async () => {
    const cluster = new Cluster();
    cluster.gateway({ kind: "count", step: () => Promise.reject(new Error("no master key here")) });
    await cluster.add("count/a");
    await cluster.run(2_000);
    expect(cluster.has("count/a")).toBe(true);
    cluster.gateway(counting(3));
    await cluster.run(JOB_LEASE_MS / 2);
    expect(cluster.has("count/a")).toBe(false);
  });

  it("goes on when the directory can be changed again", async () => {
    const cluster = new Cluster();
    cluster.gateway(counting(20));
    await cluster.add("count/a");
    await cluster.run(4_000);
    cluster.directory.failure = new Error("the meta group has no leader");
    await cluster.run(20_000);
    expect(cluster.has("count/a")).toBe(true);
    cluster.directory.failure = undefined;
    await cluster.run(60_000);
    expect(cluster.has("count/a")).toBe(false);
  });

  it("takes a job that it holds without knowing, because the answer was lost", async () => {
    const cluster = new Cluster();
    const { directory } = cluster;
    const change = directory.change.bind(directory);
    let losses = 1;
    directory.change = async (mutations) => {
      const applied = await change(mutations);
      if (mutations[0]!.expectedRevision !== 0 && losses-- > 0) throw new Error("answer lost");
      return applied;
    };
    cluster.gateway(counting(3));
    await cluster.add("count/a");
    await cluster.run(JOB_LEASE_MS / 2);
    expect(cluster.has("count/a")).toBe(false);
  });

  it("ends with other changes or not at all", async () => {
    const cluster = new Cluster();
    await cluster.directory.change([{ name: "other", value: utf8("1") }]);
    let expectedRevision = 99;
    cluster.gateway({
      kind: "count",
      step: async () => ({
        kind: "done",
        mutations: [{ name: "other", value: undefined, expectedRevision }],
      }),
    });
    await cluster.add("count/a");
    await cluster.run(3_000);
    expect(cluster.has("count/a")).toBe(true);
    expect(cluster.directory.get("other")).toBeDefined();
    expectedRevision = 1;
    await cluster.run(JOB_BACKOFF_MS_MAX);
    expect(cluster.has("count/a")).toBe(false);
    expect(cluster.directory.get("other")).toBeUndefined();
  });

  it("does a bounded number at once, and the others after them", async () => {
    const cluster = new Cluster();
    const running = new Set<string>();
    let most = 0;
    cluster.gateway({
      kind: "count",
      step: async (progress, { id }) => {
        const count = Number(text(progress)) + 1;
        running.add(id);
        most = Math.max(most, running.size);
        if (count < 5) return { kind: "more", progress: utf8(String(count)), pauseMs: 200 };
        running.delete(id);
        return { kind: "done" };
      },
    });
    for (const id of ["a", "b", "c", "d", "e"]) await cluster.add(`count/${id}`);
    await cluster.run(15_000);
    expect(most).toBe(JOBS_AT_ONCE_MAX);
    expect(cluster.directory.list(JOB_ROWS)).toEqual([]);
  });

  it("leaves alone what it does not know how to do", async () => {
    const cluster = new Cluster();
    const runner = cluster.gateway(counting(3));
    await cluster.add("polish/a");
    await cluster.run(JOB_LEASE_MS * 2);
    expect(runner.list()).toMatchObject([{ name: "polish/a", at: "nowhere" }]);
  });

  it("takes nothing before the directory is known", async () => {
    const cluster = new Cluster();
    cluster.directory.isKnown = false;
    cluster.gateway(counting(1));
    await cluster.add("count/a");
    await cluster.run(5_000);
    expect(cluster.has("count/a")).toBe(true);
    cluster.directory.isKnown = true;
    await cluster.run(2_000);
    expect(cluster.has("count/a")).toBe(false);
  });
});

describe("JobRunner.list()", () => {
  it("shows all jobs, and one whose row cannot be read as such", async () => {
    const cluster = new Cluster();
    const runner = cluster.gateway(counting(3));
    await cluster.add("polish/a");
    const value = Uint8Array.of(0xff);
    await cluster.directory.change([{ name: `${JOB_ROWS}polish/b`, value }]);
    await cluster.add("polish/c");
    expect(runner.list()).toEqual([
      { name: "polish/a", progress: EMPTY_BYTES, startedAtMs: 5, at: "nowhere" },
      { name: "polish/b", progress: EMPTY_BYTES, startedAtMs: 0, at: "unreadable" },
      { name: "polish/c", progress: EMPTY_BYTES, startedAtMs: 5, at: "nowhere" },
    ]);
  });
});

describe("JobRunner.stop()", () => {
  it("lets the step end, saves it, and gives the job back at once", async () => {
    const cluster = new Cluster();
    const held = Promise.withResolvers<JobStep>();
    let sawStop = () => false;
    const runner = cluster.gateway({
      kind: "count",
      step: (_, { isStopping }) => {
        sawStop = isStopping;
        return held.promise;
      },
    });
    await cluster.add("count/a");
    await cluster.run(2_000);
    expect(sawStop()).toBe(false);
    const stopped = runner.stop(10_000);
    expect(sawStop()).toBe(true);
    held.resolve({ kind: "more", progress: utf8("7") });
    await stopped;
    expect(cluster.progress("count/a")).toBe("7");
    expect(runner.list()).toMatchObject([{ at: "nowhere" }]);
    // Another one need not wait for a lease to run out.
    cluster.gateway(counting(9));
    await cluster.run(3_000);
    expect(cluster.has("count/a")).toBe(false);
  });

  it("ends pauses, and takes nothing more", async () => {
    const cluster = new Cluster();
    const runner = cluster.gateway(counting(1000));
    await cluster.add("count/a");
    await cluster.run(2_000);
    await runner.stop(10_000);
    await cluster.add("count/b");
    await cluster.run(5_000);
    expect(runner.list().map(({ at }) => at)).toEqual(["nowhere", "nowhere"]);
  });

  it("waits for a step that hangs no longer than it may", async () => {
    const cluster = new Cluster();
    const runner = cluster.gateway({ kind: "count", step: () => new Promise(() => undefined) });
    await cluster.add("count/a");
    await cluster.run(2_000);
    let isStopped = false;
    void runner.stop(1_000).then(() => (isStopped = true));
    await cluster.run(900);
    expect(isStopped).toBe(false);
    await cluster.run(200);
    expect(isStopped).toBe(true);
  });
});
