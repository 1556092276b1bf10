/** Runs one target for a number of cases, from a seed: the same seed gives the same cases. */
import fc from "fast-check";
import { MutationArbitrary } from "./mutation.ts";
import type { FuzzTarget, Outcomes } from "./target.ts";

export type FoundCase = {
  readonly target: string;
  readonly input: Uint8Array;
  readonly reason: string;
  readonly seed: number;
  /** Of the smallest failing case below the first one, as fast-check writes it. */
  readonly path: string;
};

export type FuzzRun = {
  readonly cases: number;
  readonly outcomes: Outcomes;
  readonly found: FoundCase | undefined;
};

/** Cases of one set of samples. */
export const SLICE_CASES = 20_000;

/** @param seed of fast-check, and of the samples that are mutated */
export async function runSlice(target: FuzzTarget, seed: number, cases: number): Promise<FuzzRun> {
  const outcomes: Outcomes = { accepted: 0, refused: 0, slowestMs: 0 };
  const arbitrary = new MutationArbitrary({
    samples: target.samples(seed),
    words: (target.words ?? []).map((word) =>
      typeof word === "string" ? Buffer.from(word) : word,
    ),
    reseal: target.reseal,
  });
  const settle = (isAccepted: boolean, startMs: number): void => {
    if (isAccepted) outcomes.accepted++;
    else outcomes.refused++;
    const tookMs = performance.now() - startMs;
    if (tookMs > outcomes.slowestMs) outcomes.slowestMs = tookMs;
  };
  const check = target.isAsync === true ? checkAsync : checkSync;
  const details = await check(target, arbitrary, { seed, cases, settle });
  const found: FoundCase | undefined = details.failed
    ? {
        target: target.name,
        input: details.counterexample![0],
        reason: reasonOf(details.errorInstance),
        seed,
        path: details.counterexamplePath ?? "",
      }
    : undefined;
  return { cases: details.numRuns, outcomes, found };
}

type Settle = (isAccepted: boolean, startMs: number) => void;
type Run = { readonly seed: number; readonly cases: number; readonly settle: Settle };
type Details = fc.RunDetails<[Uint8Array]>;

function checkSync(
  target: FuzzTarget,
  arbitrary: fc.Arbitrary<Uint8Array>,
  { seed, cases, settle }: Run,
): Details {
  const property = fc.property(arbitrary, (input) => {
    const startMs = performance.now();
    settle(target.check(input) === true, startMs);
  });
  return fc.check(property, { seed, numRuns: cases });
}

async function checkAsync(
  target: FuzzTarget,
  arbitrary: fc.Arbitrary<Uint8Array>,
  { seed, cases, settle }: Run,
): Promise<Details> {
  const property = fc.asyncProperty(arbitrary, async (input) => {
    const startMs = performance.now();
    settle(await target.check(input), startMs);
  });
  return fc.check(property, { seed, numRuns: cases });
}

const reasonOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
