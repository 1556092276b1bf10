/**
 * A short run of torture (`npm run torture`, docs/torture.md): a cluster of real processes under every kind
 * of fault, and all checks there are.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { runCampaign } from "#test/torture/campaign.ts";
import { parseOptions } from "#test/torture/options.ts";
import { reportText } from "#test/torture/report.ts";
import { Totals } from "#test/torture/totals.ts";
import { runSeed } from "./faults/seed.ts";
import { temporaryDirectory } from "./harness.ts";

/** After so long no new round begins. The one under way is ended: some three minutes more at most. */
const MINUTES = 1.5;
const ROUND_SECONDS = 30;
/** Against hanging; the machine that runs it may be busy. */
const TIMEOUT_MS = 300_000;
const RECOVERY_SECONDS = 60;

let directory: string;
beforeAll(() => {
  directory = temporaryDirectory();
});

let isOver = false;
afterAll(() => {
  isOver = true;
});

it(
  "a cluster under every kind of fault answers what is true, loses nothing, and recovers",
  async () => {
    const seed = runSeed("torture");
    const argv = [
      ...["--minutes", String(MINUTES), "--round-seconds", String(ROUND_SECONDS)],
      ...["--recovery-seconds", String(RECOVERY_SECONDS), "--fixed-members", "--verbose"],
    ];
    const parsed = parseOptions(argv, { seed, directory });
    if (parsed.kind !== "run") throw new Error("the options make no sense");
    const totals = new Totals();
    await runCampaign({
      options: parsed.options,
      totals,
      log: (text) => process.stdout.write(`${text}\n`),
      isInterrupted: () => isOver,
    });
    expect(totals.violations, reportText(totals, seed)).toEqual([]);
    expect(totals.rounds).toBeGreaterThan(0);
    expect(totals.faultsCount).toBeGreaterThan(3);
    expect(totals.operations.get("put stored")).toBeGreaterThan(100);
    expect(totals.hashesCompared).toBeGreaterThan(500);
  },
  TIMEOUT_MS,
);
