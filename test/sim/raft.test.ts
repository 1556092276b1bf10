/**
 * The simulator of Raft cores: a fixed set of seeds, and fresh ones, in every profile. A failure names
 * the command that repeats and shortens it; `npm run sim -- --minutes 30` runs it for longer.
 */
import { describe, expect, it } from "vitest";
import { type LogWrite, ModelDisk, type SimDiskOwner } from "./core/disk.ts";
import { EVENT_NAMES, FAULT_NAMES } from "./core/kinds.ts";
import { KNOWN } from "./core/known-seeds.ts";
import { PROFILES } from "./core/options.ts";
import type { EventRandom } from "./core/random.ts";
import { failureLine, readNumbers, replayCommand, showNumbers } from "./core/report.ts";
import { type RunSpec, run } from "./core/run.ts";
import { shrink } from "./core/shrink.ts";
import { COUNT_NAMES, Statistics } from "./core/statistics.ts";
import { seedsToRun } from "./seeds.ts";

const SEEDS_PER_PROFILE = { fixed: 200, fresh: 300 };

/** Of all profiles together. */
const total = new Statistics();

function expectNoViolation(spec: RunSpec): void {
  const { failure, statistics } = run(spec);
  total.add(statistics);
  if (failure === undefined) return;
  const { trace } = run(spec, { traceLines: 60 });
  throw new Error(`${trace}\n${failureLine(failure)}\n${replayCommand(spec)}`);
}

describe("Raft cores under faults of network, disk and process", () => {
  it.each(PROFILES)("keep every safety rule and recover: %s", (profile) => {
    const seeds = seedsToRun(SEEDS_PER_PROFILE);
    for (const seed of seeds) expectNoViolation({ seed, profile });
  });

  it("keep to what earlier failures have taught", () => {
    for (const { seed, profile } of KNOWN) expectNoViolation({ seed, profile });
  });

  it("have met every kind of event, fault and outcome", () => {
    if (process.env.SIM_SEED !== undefined) return;
    console.log(`raft: ${total.eventCount} events, ${JSON.stringify(total.counts)}`);
    expect(EVENT_NAMES.filter((_, kind) => total.events[kind] === 0)).toEqual([]);
    expect(FAULT_NAMES.filter((_, fault) => total.faults[fault]!.at(-1) === 0)).toEqual([]);
    expect(COUNT_NAMES.filter((name) => total.counts[name] === 0)).toEqual([]);
  });
});

describe("run()", () => {
  it.each(PROFILES)("makes the same run of the same seed: %s", (profile) => {
    for (let seed = 1; seed <= 10; seed++) {
      const first = run({ seed, profile });
      const again = run({ seed, profile }, { traceLines: 10 });
      expect(again.hash).toBe(first.hash);
      expect(again.statistics).toEqual(first.statistics);
    }
    expect(run({ seed: 1, profile }).hash).not.toBe(run({ seed: 2, profile }).hash);
  });

  it("throws the same dice for an event when others are left out", () => {
    const spec: RunSpec = { seed: 1, profile: "calm", events: 400 };
    const all = new Set(Array.from({ length: 400 }, (_, i) => i));
    expect(run({ ...spec, only: all }).hash).toBe(run(spec).hash);
  });
});

/** Now and then says "durable" of a batch that it has not written. */
class LyingDisk extends ModelDisk {
  readonly #queued: LogWrite[];
  readonly #tell: SimDiskOwner["onDurable"];

  constructor(owner: SimDiskOwner) {
    const queued: LogWrite[] = [];
    const onDurable = (write: LogWrite): void => {
      // Otherwise it was told before.
      if (queued[0] === write) owner.onDurable(queued.shift()!);
    };
    super({ ...owner, onDurable });
    this.#queued = queued;
    this.#tell = owner.onDurable;
  }

  override write(write: LogWrite): void {
    super.write(write);
    this.#queued.push(write);
  }

  override advance(random: EventRandom, syncedMax: number): void {
    if (this.#queued.length > 0 && random.below(40) === 0) this.#tell(this.#queued.shift()!);
    else super.advance(random, syncedMax);
  }

  override crash(random: EventRandom) {
    this.#queued.length = 0;
    return super.crash(random);
  }
}

describe("shrink()", () => {
  it("finds the few events behind a disk that reports what it has not written", () => {
    const options = { makeDisk: (owner: SimDiskOwner) => new LyingDisk(owner) };
    const rule = "durable before acknowledged";
    const specs = Array.from({ length: 50 }, (_, i): RunSpec => ({ seed: i + 1, profile: "calm" }));
    const spec = specs.find((each) => run(each, options).failure?.violation.rule === rule)!;
    const { failure } = run(spec, options);
    const shrunk = shrink(spec, failure!, { runsMax: 500, ...options });
    expect(shrunk.failure.violation.rule).toBe(rule);
    expect(shrunk.spec.only!.size).toBeLessThan(failure!.event / 2);
    expect(run(shrunk.spec, options).failure).toEqual(shrunk.failure);
  });
});

describe("showNumbers()", () => {
  it.each(["0", "0-3", "1,3,5-9,11"])("reads back as written: %s", (text) => {
    expect(showNumbers([...readNumbers(text)])).toBe(text);
  });
});
