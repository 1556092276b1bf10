/**
 * `npm run sim`: runs the simulator of Raft cores for as long as asked, or repeats one run.
 *
 * Exit code 0: no rule was broken. 1: one was. 2: the arguments make no sense. With `--json` the last
 * line of the output is one object: {violations, seedsRun, firstFailingSeed, rule, eventsRun}.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { type CampaignResult, runCampaign } from "./core/campaign.ts";
import { PROFILES, type Profile, profileOf } from "./core/options.ts";
import { failureLine, readEventNames, readNumbers, replayCommand, summary } from "./core/report.ts";
import { type RunSpec, run } from "./core/run.ts";
import { shrink } from "./core/shrink.ts";

const HELP = `Usage: npm run sim -- [options]

Runs seeded clusters of Raft cores under random faults and checks every safety rule after every
event; after the faults each cluster has to recover.

  --minutes M        run for M minutes, from --seed on, or from a seed that nobody has tried
  --seeds A..B       run these seeds
  --seed N           alone: repeat this one run, show its last events, and shorten it if it fails
  --profile P        ${PROFILES.join(", ")}; default: by the seed
  --cores N          threads; default: all cores
  --stop-at-first    end with the first failure
  --json             print one line of JSON instead of words
  --events N         the run has this many events at most
  --without K,K      events of these kinds do not happen
  --only N,N-N       only these events happen
  --lines N          of the trace of a failing run; default 60
  --no-shrink        do not shorten a failing run
  --help             this text
`;

const SHRINK_RUNS_MAX = 3000;
const PROGRESS_EVERY_MS = 10_000;
const MINUTE_MS = 60_000;
const FAILURES_SHOWN_MAX = 10;

const OPTIONS = {
  minutes: { type: "string" },
  seeds: { type: "string" },
  seed: { type: "string" },
  profile: { type: "string" },
  cores: { type: "string" },
  "stop-at-first": { type: "boolean" },
  json: { type: "boolean" },
  events: { type: "string" },
  without: { type: "string" },
  only: { type: "string" },
  lines: { type: "string" },
  "no-shrink": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

const say = (text: string): void => void process.stdout.write(`${text}\n`);

function readCount(name: string, text: string): number {
  const value = Number(text);
  if (text === "" || !Number.isFinite(value) || value < 0) {
    throw new RangeError(`--${name} needs a number, not ${JSON.stringify(text)}`);
  }
  return value;
}

function readProfile(text: string | undefined): Profile | undefined {
  if (text === undefined) return undefined;
  const profile = PROFILES.find((each) => each === text);
  if (profile === undefined) throw new RangeError(`--profile is one of ${PROFILES.join(", ")}`);
  return profile;
}

function readSeeds(values: Values): { firstSeed: number; lastSeed: number | undefined } {
  if (values.seeds !== undefined) {
    const match = /^(\d+)\.\.(\d+)$/.exec(values.seeds);
    if (match === null) throw new RangeError("--seeds needs a range such as 1..1000");
    return { firstSeed: Number(match[1]), lastSeed: Number(match[2]) };
  }
  const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : undefined;
  return { firstSeed: first ?? readCount("seed", values.seed!), lastSeed: undefined };
}

/** Runs, shows and shortens one spec. True when no rule was broken. */
function replay(spec: RunSpec, lines: number, mayShrink: boolean): boolean {
  const { failure, statistics, hash } = run(spec);
  if (failure === undefined) {
    const events = statistics.eventCount;
    say(`seed ${spec.seed} (${spec.profile}): ${events} events, no violation, hash ${hash}`);
    return true;
  }
  say(run(spec, { traceLines: lines }).trace);
  say(`\nseed ${spec.seed} (${spec.profile}): ${failureLine(failure)}`);
  say(replayCommand(spec));
  if (!mayShrink) return false;
  const shrunk = shrink(spec, failure, { runsMax: SHRINK_RUNS_MAX });
  say(`\nshortened in ${shrunk.runs} runs:`);
  say(run(shrunk.spec, { traceLines: lines }).trace);
  say(`\n${failureLine(shrunk.failure)}`);
  say(replayCommand(shrunk.spec));
  return false;
}

function sayFailed({ seed, profile, message }: CampaignResult["found"][number]): void {
  say(`FAILED seed ${seed} (${profile}): ${message.split("\n")[0]}`);
}

async function campaign(values: Values): Promise<boolean> {
  const begin = performance.now();
  const { json = false } = values;
  const elapsed = (): number => (performance.now() - begin) / 1000;
  let nextProgressMs = begin + PROGRESS_EVERY_MS;
  let told = 0;
  const onProgress = ({ seedsRun, statistics, found }: CampaignResult): void => {
    // At once: nobody should have to wait for the end of an hour to know what to look at.
    for (; !json && told < Math.min(found.length, FAILURES_SHOWN_MAX); told++)
      sayFailed(found[told]!);
    if (json || performance.now() < nextProgressMs) return;
    nextProgressMs += PROGRESS_EVERY_MS;
    const rate = Math.round(statistics.eventCount / elapsed());
    say(`${elapsed().toFixed(0)} s: ${seedsRun} seeds, ${rate} events/s, ${found.length} failures`);
  };
  const minutes = values.minutes === undefined ? undefined : readCount("minutes", values.minutes);
  const result = await runCampaign({
    ...readSeeds(values),
    deadlineMs: minutes === undefined ? undefined : begin + minutes * MINUTE_MS,
    profile: readProfile(values.profile),
    without: values.without === undefined ? [] : readEventNames(values.without),
    cores: values.cores === undefined ? availableParallelism() : readCount("cores", values.cores),
    stopAtFirst: values["stop-at-first"] ?? false,
    onProgress,
  });
  const { found, seedsRun, statistics } = result;
  const first = found.toSorted((a, b) => a.seed - b.seed)[0];
  if (json) {
    const eventsRun = statistics.eventCount;
    const { seed = null, rule = null } = first ?? {};
    const line = { violations: found.length, seedsRun, firstFailingSeed: seed, rule, eventsRun };
    say(JSON.stringify(line));
    return found.length === 0;
  }
  say(summary(statistics, elapsed(), seedsRun));
  for (const failed of found.slice(0, FAILURES_SHOWN_MAX)) sayFailed(failed);
  say(`${found.length} violations`);
  if (first === undefined) return true;
  say("\nThe first of them; a seed to keep goes into test/sim/core/known-seeds.ts:\n");
  const lines = readCount("lines", values.lines ?? "60");
  replay({ seed: first.seed, profile: first.profile }, lines, !values["no-shrink"]);
  return false;
}

/** The exit code. */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) {
    say(HELP);
    return 0;
  }
  if (values.seed === undefined || values.minutes !== undefined || values.seeds !== undefined) {
    if (values.minutes === undefined && values.seeds === undefined) {
      throw new RangeError("one of --minutes, --seeds and --seed is needed");
    }
    return (await campaign(values)) ? 0 : 1;
  }
  const seed = readCount("seed", values.seed);
  const spec: RunSpec = {
    seed,
    profile: readProfile(values.profile) ?? profileOf(seed),
    ...(values.events === undefined ? {} : { events: readCount("events", values.events) }),
    ...(values.without === undefined ? {} : { without: new Set(readEventNames(values.without)) }),
    ...(values.only === undefined ? {} : { only: readNumbers(values.only) }),
  };
  const lines = readCount("lines", values.lines ?? "60");
  return replay(spec, lines, !values["no-shrink"]) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n\n${HELP}`);
  process.exitCode = 2;
}
