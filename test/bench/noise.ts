/**
 * Tells whether anything but the benchmark kept the machine busy.
 *
 * Four signs, none of which needs privileges: load and busy processors before anything was started,
 * processor time that the host withheld (steal), processor time that went to other processes during
 * slices, and a fixed piece of computing whose duration is taken before every slice, while both
 * servers are idle, and should always be the same.
 */
import { availableParallelism, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CpuTimes,
  cpuShares,
  readCpuTimes,
  readProcessCpu,
  TICKS_PER_SECOND,
} from "./proc.ts";
import { median } from "./statistics.ts";

const BACKGROUND_SAMPLE_MS = 1_000;
const CALIBRATION_ROUNDS = 12_000_000;

const LOAD_AVERAGE_PER_CORE_MAX = 0.5;
const BACKGROUND_BUSY_PERCENT_MAX = 10;
const OTHERS_PERCENT_MAX = 10;
const STEAL_PERCENT_MAX = 1;
/** Longest calibration to the median one. */
const CALIBRATION_SPREAD_MAX = 1.2;

export type Noise = {
  readonly loadAverageBefore: number;
  readonly cores: number;
  /** Undefined where the system does not tell. */
  readonly busyPercentBefore: number | undefined;
  readonly stealPercent: number | undefined;
  /** Of all processors, for processes that the benchmark did not start; one number per slice. */
  readonly othersPercents: readonly number[];
  readonly calibrationsMs: readonly number[];
};

/** What speaks against the figures, in words; empty when the machine was quiet. */
export function noiseWarnings(noise: Noise): readonly string[] {
  const warnings: string[] = [];
  if (noise.loadAverageBefore > noise.cores * LOAD_AVERAGE_PER_CORE_MAX) {
    warnings.push(
      `load average was ${noise.loadAverageBefore.toFixed(2)} on ${noise.cores} cores before the start`,
    );
  }
  if ((noise.busyPercentBefore ?? 0) > BACKGROUND_BUSY_PERCENT_MAX) {
    const percent = noise.busyPercentBefore!.toFixed(0);
    warnings.push(`processors were ${percent} % busy before the start`);
  }
  if ((noise.stealPercent ?? 0) > STEAL_PERCENT_MAX) {
    warnings.push(`the host withheld ${noise.stealPercent!.toFixed(1)} % of the processor time`);
  }
  const others = Math.max(0, ...noise.othersPercents);
  if (others > OTHERS_PERCENT_MAX) {
    warnings.push(`other processes took up to ${others.toFixed(0)} % of the processors in a slice`);
  }
  if (noise.calibrationsMs.length > 0) {
    const spread = Math.max(...noise.calibrationsMs) / median(noise.calibrationsMs);
    if (spread > CALIBRATION_SPREAD_MAX) {
      warnings.push(`the same computing took up to ${spread.toFixed(2)} times its median duration`);
    }
  }
  return warnings;
}

/** Watches the machine from before the first server is started to the end of the last slice. */
export class NoiseWatch {
  readonly #loadAverageBefore = loadavg()[0] ?? 0;
  readonly #othersPercents: number[] = [];
  readonly #calibrationsMs: number[] = [];
  #busyPercentBefore: number | undefined;
  #start: CpuTimes | undefined;

  /** To be called once, before any server is started. Takes about a second. */
  async begin(signal: AbortSignal): Promise<void> {
    const before = readCpuTimes();
    await sleep(BACKGROUND_SAMPLE_MS, undefined, { signal });
    const after = readCpuTimes();
    if (before !== undefined && after !== undefined) {
      this.#busyPercentBefore = cpuShares(before, after).busyPercent;
    }
    this.#start = after;
    // The first round also compiles the loop.
    compute();
  }

  /** Computes for some tens of milliseconds. To be called while the servers are idle. */
  calibrate(): void {
    const startMs = performance.now();
    compute();
    this.#calibrationsMs.push(performance.now() - startMs);
  }

  /**
   * Runs a slice, and notes how much of the processors went to others than the servers and what this
   * process runs. Notes nothing when a server's id is not known.
   */
  async duringSlice<T>(
    serverPids: readonly (number | undefined)[],
    run: () => Promise<T>,
  ): Promise<T> {
    const before = readUse(serverPids);
    const result = await run();
    const after = readUse(serverPids);
    if (before !== undefined && after !== undefined) {
      this.#othersPercents.push(othersPercent(before, after));
    }
    return result;
  }

  end(): Noise {
    const now = readCpuTimes();
    const shares =
      this.#start === undefined || now === undefined ? undefined : cpuShares(this.#start, now);
    return {
      loadAverageBefore: this.#loadAverageBefore,
      cores: availableParallelism(),
      busyPercentBefore: this.#busyPercentBefore,
      stealPercent: shares?.stealPercent,
      othersPercents: this.#othersPercents,
      calibrationsMs: this.#calibrationsMs,
    };
  }
}

/** Processor time of the machine, and the part of it that the benchmark accounts for. */
export type Use = { readonly machine: CpuTimes; readonly ownMs: number };

/** Percent of all processors that went to processes outside the benchmark. */
export function othersPercent(before: Use, after: Use): number {
  const { busyPercent } = cpuShares(before.machine, after.machine);
  const busyMs = ((after.machine.busy - before.machine.busy) * 1000) / TICKS_PER_SECOND;
  if (busyMs <= 0) return 0;
  // Both are counted in ticks of their own, so the difference may come out just below nothing.
  const othersMs = Math.max(0, busyMs - (after.ownMs - before.ownMs));
  return (busyPercent * othersMs) / busyMs;
}

function readUse(serverPids: readonly (number | undefined)[]): Use | undefined {
  const machine = readCpuTimes();
  // A load generator counts as soon as it has ended.
  const self = readProcessCpu(process.pid);
  if (machine === undefined || self === undefined) return undefined;
  let ownMs = self.ownMs + self.endedChildrenMs;
  for (const pid of serverPids) {
    const server = pid === undefined ? undefined : readProcessCpu(pid);
    if (server === undefined) return undefined;
    ownMs += server.ownMs;
  }
  return { machine, ownMs };
}

function compute(): number {
  let state = 1;
  for (let round = 0; round < CALIBRATION_ROUNDS; round++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
  }
  return state;
}
