/**
 * Many runs: chunks of seeds over worker threads, results added up. The same module is the worker's
 * entry.
 */
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import type { EventName } from "./kinds.ts";
import { type Profile, profileOf } from "./options.ts";
import { type RunSpec, run } from "./run.ts";
import { Statistics, type StatisticsData } from "./statistics.ts";

/** Long enough for a thread to be worth it, short enough for an answer within a second or so. */
const SEEDS_PER_CHUNK = 50;

export type Found = {
  readonly seed: number;
  readonly profile: Profile;
  readonly rule: string;
  readonly message: string;
};

export type CampaignOptions = {
  readonly firstSeed: number;
  /** Inclusive; undefined: as far as time allows. */
  readonly lastSeed: number | undefined;
  /** On `performance`'s clock; undefined for no end. */
  readonly deadlineMs: number | undefined;
  readonly profile: Profile | undefined;
  readonly without: readonly EventName[];
  readonly cores: number;
  readonly stopAtFirst: boolean;
  readonly onProgress?: (result: CampaignResult) => void;
};

export type CampaignResult = {
  readonly statistics: Statistics;
  seedsRun: number;
  /** In the order in which they were found. */
  readonly found: Found[];
};

type Chunk = {
  readonly seeds: readonly number[];
  readonly profile: Profile | undefined;
  readonly without: readonly EventName[];
  readonly stopAtFirst: boolean;
};

type ChunkResult = {
  readonly statistics: StatisticsData;
  readonly seedsRun: number;
  readonly found: readonly Found[];
};

function runChunk({ seeds, profile, without, stopAtFirst }: Chunk): ChunkResult {
  const statistics = new Statistics();
  const found: Found[] = [];
  let seedsRun = 0;
  for (const seed of seeds) {
    const spec: RunSpec = { seed, profile: profile ?? profileOf(seed), without: new Set(without) };
    const result = run(spec);
    seedsRun++;
    statistics.add(result.statistics);
    if (result.failure === undefined) continue;
    const { rule, message } = result.failure.violation;
    found.push({ seed, profile: spec.profile, rule, message });
    if (stopAtFirst) break;
  }
  const { events, faults, counts } = statistics;
  return { statistics: { events, faults, counts }, seedsRun, found };
}

/** Hands out seeds in order until they, or time, or patience are at an end. */
class Seeds {
  readonly #options: CampaignOptions;
  #next: number;
  stopped = false;

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#next = options.firstSeed;
  }

  chunk(): Chunk | undefined {
    const { lastSeed, deadlineMs, profile, without, stopAtFirst } = this.#options;
    if (this.stopped || (deadlineMs !== undefined && performance.now() >= deadlineMs)) {
      return undefined;
    }
    const last = Math.min(lastSeed ?? Number.MAX_SAFE_INTEGER, this.#next + SEEDS_PER_CHUNK - 1);
    if (last < this.#next) return undefined;
    const seeds = Array.from({ length: last - this.#next + 1 }, (_, i) => this.#next + i);
    this.#next = last + 1;
    return { seeds, profile, without, stopAtFirst };
  }
}

export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const result: CampaignResult = { statistics: new Statistics(), seedsRun: 0, found: [] };
  const seeds = new Seeds(options);
  const take = (part: ChunkResult): void => {
    result.statistics.add(part.statistics);
    result.seedsRun += part.seedsRun;
    result.found.push(...part.found);
    if (options.stopAtFirst && result.found.length > 0) seeds.stopped = true;
    options.onProgress?.(result);
  };
  if (options.cores === 1) {
    for (let chunk = seeds.chunk(); chunk !== undefined; chunk = seeds.chunk()) {
      take(runChunk(chunk));
    }
  } else {
    await Promise.all(Array.from({ length: options.cores }, () => work(seeds, take)));
  }
  return result;
}

/** One thread, until there is nothing left for it. */
function work(seeds: Seeds, take: (part: ChunkResult) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url));
    const feed = (): void => {
      const chunk = seeds.chunk();
      if (chunk !== undefined) worker.postMessage(chunk);
      else void worker.terminate().then(() => resolve());
    };
    worker.on("message", (part: ChunkResult) => {
      take(part);
      feed();
    });
    worker.on("error", reject);
    feed();
  });
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  port.on("message", (chunk: Chunk) => port.postMessage(runChunk(chunk)));
}
