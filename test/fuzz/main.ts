/**
 * `npm run fuzz -- --cases 1000000 [--only NAME] [--seed N]`: each parser with so many inputs.
 *
 * Prints cases per second and the seed as it goes. What it finds is stored in test/fuzz/cases, where the
 * unit tests run it again, and said with its seed and path. Exits with 1 when anything was found.
 */
import { parseArgs } from "node:util";
import { runSlice, SLICE_CASES } from "./run.ts";
import { storeCase } from "./stored.ts";
import type { FuzzTarget, Outcomes } from "./target.ts";
import { TARGETS } from "./targets.ts";

const PROGRESS_INTERVAL_MS = 10_000;
/** No input may take so long: then the work for it is out of proportion. */
const CASE_MS_MAX = 2_000;
const CASES_DEFAULT = 100_000;
const SEED_MAX = 2 ** 31 - 1;

type Totals = Outcomes & { cases: number; startMs: number };

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Whether nothing was found. */
async function fuzz(target: FuzzTarget, cases: number, seed: number): Promise<boolean> {
  const totals: Totals = {
    ...{ cases: 0, accepted: 0, refused: 0, slowestMs: 0 },
    startMs: performance.now(),
  };
  let saidMs = performance.now();
  for (let slice = 0; totals.cases < cases; slice++) {
    const sliceCases = Math.min(SLICE_CASES, cases - totals.cases);
    const run = await runSlice(target, (seed + slice) % SEED_MAX, sliceCases);
    totals.cases += run.cases;
    totals.accepted += run.outcomes.accepted;
    totals.refused += run.outcomes.refused;
    totals.slowestMs = Math.max(totals.slowestMs, run.outcomes.slowestMs);
    if (run.found !== undefined) {
      say(`${target.name}: BROKEN: ${run.found.reason}`);
      say(`  seed ${run.found.seed}, path ${run.found.path}, stored as ${storeCase(run.found)}`);
      return false;
    }
    if (performance.now() - saidMs > PROGRESS_INTERVAL_MS) {
      saidMs = performance.now();
      say(`  ${summary(target, totals)}`);
    }
  }
  say(`${summary(target, totals)}, seed ${seed}`);
  if (totals.slowestMs <= CASE_MS_MAX) return true;
  say(`${target.name}: BROKEN: one case took ${Math.round(totals.slowestMs)} ms`);
  return false;
}

function summary({ name }: FuzzTarget, totals: Totals): string {
  const seconds = (performance.now() - totals.startMs) / 1000;
  const perSecond = Math.round(totals.cases / seconds);
  const accepted = ((100 * totals.accepted) / Math.max(1, totals.cases)).toFixed(1);
  return (
    `${name}: ${totals.cases} cases, ${perSecond}/s, ${accepted} % accepted, ` +
    `slowest ${totals.slowestMs.toFixed(1)} ms`
  );
}

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: String(CASES_DEFAULT) },
    only: { type: "string", multiple: true, default: [] },
    seed: { type: "string", default: String(Math.floor(Math.random() * SEED_MAX)) },
  },
});
const cases = Number(values.cases);
const seed = Number(values.seed);
const unknown = values.only.filter((name) => !TARGETS.some((target) => target.name === name));
if (!Number.isInteger(cases) || cases < 1 || !Number.isInteger(seed) || seed < 0) {
  process.stderr.write("--cases is a number from 1, --seed one from 0\n");
  process.exitCode = 2;
} else if (unknown.length > 0) {
  const known = TARGETS.map(({ name }) => name).join(", ");
  process.stderr.write(`unknown: ${unknown.join(", ")}; known: ${known}\n`);
  process.exitCode = 2;
} else {
  say(`${cases} cases each, seed ${seed}`);
  for (const target of TARGETS) {
    if (values.only.length > 0 && !values.only.includes(target.name)) continue;
    if (!(await fuzz(target, cases, seed))) process.exitCode = 1;
  }
}
