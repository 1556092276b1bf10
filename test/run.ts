/**
 * `npm test`: everything that has to hold, in the order in which a failure is cheapest to find.
 *
 * Steps can be named (`npm run check` runs the first three). All of them run even after a failure,
 * so that one run tells the whole story. The last line counts tests over all steps, from the
 * runner's own JSON reports; a step that fails without a failing test counts as one failure.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fetchPrograms } from "./processes/programs.ts";

type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };

type Step = { readonly title: string; readonly run: (reports: string) => Counts };

const NONE: Counts = { passed: 0, failed: 0, skipped: 0 };

/** Runs a tool from node_modules/.bin with this process's Node first on PATH. */
function succeeds(tool: string, ...options: readonly string[]): boolean {
  const bin = join(import.meta.dirname, "..", "node_modules", ".bin");
  const { status, error } = spawnSync(join(bin, tool), options, {
    cwd: join(import.meta.dirname, ".."),
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, PATH: `${bin}:${process.env.PATH ?? ""}` },
  });
  if (error) process.stderr.write(`${tool}: ${error.message}\n`);
  return status === 0;
}

function check(title: string, tool: string, ...options: readonly string[]): Step {
  return { title, run: () => (succeeds(tool, ...options) ? NONE : { ...NONE, failed: 1 }) };
}

function tests(project: string): Step {
  return {
    title: `${project} tests`,
    run: (reports) => {
      const report = join(reports, `${project}.json`);
      const ok = succeeds(
        "vitest",
        "run",
        "--project",
        project,
        "--reporter=default",
        "--reporter=json",
        `--outputFile.json=${report}`,
      );
      const counts = existsSync(report) ? readCounts(readFileSync(report, "utf8")) : NONE;
      // An error outside any test fails the run without a failed test.
      return ok || counts.failed > 0 ? counts : { ...counts, failed: 1 };
    },
  };
}

/** What is used of the runner's JSON report. */
type Report = {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly unknown[];
  }[];
};

function readCounts(text: string): Counts {
  const report = JSON.parse(text) as Report;
  // A file that does not load has no tests that could fail.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

const STEPS: ReadonlyMap<string, Step> = new Map([
  ["format", check("format and lint", "biome", "check")],
  ["types", check("types", "tsc", "--noEmit")],
  ["unit", tests("unit")],
  ["sim", tests("sim")],
  ["e2e", tests("e2e")],
  ["torture", tests("torture")],
]);

/** Their tests use programs that are no part of this repository. */
const STEPS_WITH_PROGRAMS: ReadonlySet<string> = new Set(["unit", "e2e", "torture"]);

function runSteps(names: readonly string[]): number {
  if (names.some((name) => STEPS_WITH_PROGRAMS.has(name))) fetchPrograms();
  const reports = mkdtempSync(join(tmpdir(), "minikv-test-"));
  let total = NONE;
  const failing: string[] = [];
  try {
    for (const name of names) {
      const step = STEPS.get(name)!;
      process.stdout.write(`\n== ${step.title}\n`);
      const counts = step.run(reports);
      total = {
        passed: total.passed + counts.passed,
        failed: total.failed + counts.failed,
        skipped: total.skipped + counts.skipped,
      };
      if (counts.failed > 0) failing.push(step.title);
    }
  } finally {
    rmSync(reports, { recursive: true });
  }
  if (failing.length > 0) process.stdout.write(`\nfailing: ${failing.join(", ")}\n`);
  const { passed, failed, skipped } = total;
  process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  return failed === 0 ? 0 : 1;
}

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !STEPS.has(name));
if (unknown.length > 0) {
  process.stderr.write(`unknown: ${unknown.join(", ")}; known: ${[...STEPS.keys()].join(", ")}\n`);
  process.exitCode = 2;
} else {
  process.exitCode = runSteps(asked.length > 0 ? asked : [...STEPS.keys()]);
}
