/** `npm run torture`: see HELP in `options.ts`, and docs/torture.md. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCampaign } from "./campaign.ts";
import { HELP, parseOptions } from "./options.ts";
import { reportJson, reportText } from "./report.ts";
import { Totals } from "./totals.ts";

const EXIT_VIOLATION = 1;
const EXIT_USAGE = 2;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const directory = join(tmpdir(), `minikv-torture-${process.pid}`);
  const parsed = parseOptions(process.argv.slice(2), { seed, directory });
  if (parsed.kind === "help") {
    say(HELP);
    return 0;
  }
  if (parsed.kind === "wrong") {
    process.stderr.write(`torture: ${parsed.message}\nSee npm run torture -- --help.\n`);
    return EXIT_USAGE;
  }
  const { options } = parsed;
  const totals = new Totals();
  let isInterrupted = false;
  process.on("SIGINT", () => {
    // The second one does not wait for anything; the processes end with this one.
    if (isInterrupted) process.exit(EXIT_VIOLATION);
    isInterrupted = true;
    say("ending the round; once more to end at once");
  });
  say(`seed ${options.seed}, ${options.minutes} minutes, data and logs in ${options.directory}`);
  const log = (text: string): void => say(`${totals.minutes.toFixed(1).padStart(6)} min  ${text}`);
  try {
    await runCampaign({ options, totals, log, isInterrupted: () => isInterrupted });
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    totals.violated(`the run broke off: ${text}`);
  }
  say(reportText(totals, options.seed));
  if (options.json) say(reportJson(totals, options.seed));
  return totals.violations.length === 0 ? 0 : EXIT_VIOLATION;
}

process.exitCode = await main();
