/**
 * `npm run fuzz -- --cases 1000000 [--only NAME] [--seed N]`: each parser with so many inputs.
 *
 * Prints cases per second and the seed as it goes. What it finds is stored in test/fuzz/cases, where the
 * unit tests run it again, and said with its seed and path. Exits with 1 when anything was found.
 */
import { type ParseArgsConfig, parseArgs } from "node:util";
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

const HELP = `Usage: npm run fuzz -- [--cases N] [--only TARGET …] [--seed N]

Gives every parser of outside bytes so many inputs, and tells of each whether what it must do held. A case
that breaks is stored and replayed by the unit tests.

  --cases N      inputs for each target; default ${CASES_DEFAULT}
  --only TARGET  one target, may be given again; default all
  --seed N       of the inputs; default: drawn, and printed

Targets: ${TARGETS.map(({ name }) => name).join(", ")}
`;

/** What is wrong with the arguments, for people. */
class Wrong extends Error {}

function readArguments(argv: readonly string[]) {
  const options = {
    help: { type: "boolean", short: "h", default: false },
    cases: { type: "string", default: String(CASES_DEFAULT) },
    only: { type: "string", multiple: true, default: [] },
    seed: { type: "string", default: String(Math.floor(Math.random() * SEED_MAX)) },
  } satisfies ParseArgsConfig["options"];
  const { values } = parseArgs({ args: [...argv], options });
  const cases = Number(values.cases);
  const seed = Number(values.seed);
  if (!Number.isInteger(cases) || cases < 1) throw new Wrong("--cases is a number from 1");
  if (!Number.isInteger(seed) || seed < 0) throw new Wrong("--seed is a number from 0");
  const unknown = values.only.filter((name) => !TARGETS.some((target) => target.name === name));
  if (unknown.length > 0) throw new Wrong(`unknown targets: ${unknown.join(", ")}`);
  return { help: values.help, only: values.only, cases, seed };
}

async function run(argv: readonly string[]): Promise<number> {
  let read: ReturnType<typeof readArguments>;
  try {
    read = readArguments(argv);
  } catch (error) {
    if (!(error instanceof Wrong || (error instanceof TypeError && "code" in error))) throw error;
    process.stderr.write(`fuzz: ${error.message}\nSee npm run fuzz -- --help.\n`);
    return 2;
  }
  const { help, only, cases, seed } = read;
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  say(`${cases} cases each, seed ${seed}`);
  let exitCode = 0;
  for (const target of TARGETS) {
    if (only.length > 0 && !only.includes(target.name)) continue;
    if (!(await fuzz(target, cases, seed))) exitCode = 1;
  }
  return exitCode;
}

process.exitCode = await run(process.argv.slice(2));
