/**
 * `npm run sim:planted`: plants the bugs of bugs.ts one after the other, and prints how many seeds it
 * took to find each. Fails when one was not found that is not known to be open.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { BUGS, MUTATIONS } from "./bugs.ts";
import { bugOf, type Mutation } from "./mutation.ts";
import { type Finding, type RunOptions, runMutation } from "./runner.ts";
import { markdownTable } from "./table.ts";

const HELP = `Usage: npm run sim:planted -- [options]

Plants known bugs in copies of the source, one by one, and simulates until a rule breaks.

  --only WORDS   bugs by number, or mutations by part of their name; with commas between
  --seeds N      seeds to try for each at most; default 1000
  --minutes M    time for each at most; default 3
  --jobs N       how many at once; default 2
  --json FILE    the findings as JSON as well
  --help         this text
`;

const OPTIONS = {
  options: {
    help: { type: "boolean" },
    only: { type: "string", default: "" },
    seeds: { type: "string", default: "1000" },
    jobs: { type: "string", default: "2" },
    /** For each mutation. */
    minutes: { type: "string", default: "3" },
    json: { type: "string", default: "" },
  },
} as const;

/** Wrong use is told with what would be right. */
function readOptions() {
  try {
    const { values } = parseArgs(OPTIONS);
    for (const name of ["seeds", "minutes", "jobs"] as const) {
      if (!(Number(values[name]) > 0)) throw new RangeError(`--${name} wants a number above 0`);
    }
    if (!values.help) return values;
    process.stdout.write(HELP);
    process.exit(0);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

const values = readOptions();

/** Numbers of bugs, or parts of names of mutations. */
function chosen(only: string): readonly Mutation[] {
  if (only === "") return MUTATIONS;
  const words = only.split(",").map((word) => word.trim());
  return MUTATIONS.filter((mutation) =>
    words.some((word) =>
      /^\d+$/.test(word) ? bugOf(mutation) === Number(word) : mutation.name.includes(word),
    ),
  );
}

async function runAll(
  mutations: readonly Mutation[],
  jobs: number,
  options: RunOptions,
): Promise<readonly Finding[]> {
  const findings = new Array<Finding>(mutations.length);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < mutations.length) {
      const at = next++;
      const finding = await runMutation(mutations[at]!, options);
      findings[at] = finding;
      const outcome = finding.rule === undefined ? "NOT FOUND" : `${finding.rule}`;
      process.stderr.write(
        `${finding.mutation}: ${outcome}, ${finding.seeds} seeds, ${finding.seconds.toFixed(1)} s\n`,
      );
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return findings;
}

const findings = await runAll(chosen(values.only), Number(values.jobs), {
  seedsMax: Number(values.seeds),
  timeoutMs: Number(values.minutes) * 60_000,
});
if (values.json !== "") writeFileSync(values.json, `${JSON.stringify(findings, null, 2)}\n`);
process.stdout.write(`${markdownTable(findings, BUGS)}\n`);
const missed = findings.filter(({ rule, open }) => rule === undefined && open === undefined);
if (missed.length > 0) {
  process.stdout.write(`\nnot found: ${missed.map(({ mutation }) => mutation).join(", ")}\n`);
  process.exitCode = 1;
}
