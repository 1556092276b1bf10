/**
 * A few minutes of torture (`npm run torture`, docs/torture.md): a cluster of real processes under every kind
 * of fault, nodes that join and are drained meanwhile, and all checks there are. The report is printed.
 * One cluster, so that a drain has the time to come to its end.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { runCampaign } from "#test/torture/campaign.ts";
import { parseOptions } from "#test/torture/options.ts";
import { reportText } from "#test/torture/report.ts";
import { Totals } from "#test/torture/totals.ts";
import { runSeed } from "./faults/seed.ts";

/** After so long no new round begins, and the one under way is ended and checked. */
const MINUTES = 5;
const ROUND_SECONDS = 30;
/** Recovery is shown, and bounded only so that it may take long on a busy machine. */
const RECOVERY_SECONDS = 120;
/** Against hanging. */
const TIMEOUT_MS = 900_000;

let isOver = false;
afterAll(() => {
  isOver = true;
});

const say = (text: string): void => void process.stdout.write(`${text}\n`);

it("a cluster under every kind of fault answers what is true, loses nothing, and recovers", {
  // What is broken once is broken: no second attempt.
  timeout: TIMEOUT_MS,
  retry: 0,
}, async () => {
  const seed = runSeed("torture");
  const directory = mkdtempSync(join(tmpdir(), "minikv-torture-"));
  const argv = ["--minutes", String(MINUTES), "--round-seconds", String(ROUND_SECONDS)];
  argv.push("--recovery-seconds", String(RECOVERY_SECONDS));
  const parsed = parseOptions(argv, { seed, directory });
  if (parsed.kind !== "run") throw new Error("the options make no sense");
  const totals = new Totals();
  const isInterrupted = (): boolean => isOver;
  await runCampaign({ options: parsed.options, totals, log: say, isInterrupted });
  say(reportText(totals, seed));
  if (totals.violations.length > 0) say(`data and logs are in ${directory}`);
  else rmSync(directory, { recursive: true });
  expect(totals.violations).toEqual([]);
  expect(totals.rounds).toBeGreaterThan(1);
  expect(totals.faultsCount).toBeGreaterThan(10);
  expect(totals.operations.get("put stored")).toBeGreaterThan(100);
  expect(totals.hashesCompared).toBeGreaterThan(500);
});
