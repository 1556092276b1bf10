/**
 * The alerts in infra/prometheus: each has a test that sees it fire and one that sees it silent, and a
 * section of the operations manual. What they say and when is tested by promtool itself.
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT, readText } from "#test/house/source.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";

const FOLDER = "infra/prometheus";
const filesIn = (folder: string): readonly string[] =>
  readdirSync(join(ROOT, FOLDER, folder))
    .filter((name) => name.endsWith(".yml"))
    .sort()
    .map((name) => `${FOLDER}/${folder}/${name}`);

const ruleFiles = filesIn("rules");
const testFiles = filesIn("tests");
const rules = ruleFiles.map(readText).join("\n");
const alerts = [...rules.matchAll(/^ +- alert: (\S+)$/gm)].map(([, name]) => name!);

/** Each place in which an alert is looked at, and whether it is expected to fire there. */
type Look = { readonly alert: string; readonly fires: boolean };

function looksOf(text: string): readonly Look[] {
  const looks = text.matchAll(/^ +alertname: (\S+)\n +exp_alerts:(.*)$/gm);
  return [...looks].map(([, alert, rest]) => ({ alert: alert!, fires: rest!.trim() !== "[]" }));
}

const looks = testFiles.map(readText).flatMap(looksOf);

const PROMTOOL = findProgram("promtool");

function promtool(...options: readonly string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(PROMTOOL!, options, {
    cwd: ROOT,
    encoding: "utf8",
    timeout: 110_000,
  });
  return { status, text: stdout + stderr };
}

describe("alerts", () => {
  it("are named once, and found in each form that the files use", () => {
    expect(alerts.length).toBeGreaterThan(15);
    expect(new Set(alerts).size).toBe(alerts.length);
    // One that is written otherwise would escape the tests below.
    expect(rules.match(/\balert:/g)?.length).toBe(alerts.length);
    expect(
      testFiles
        .map(readText)
        .join()
        .match(/\balertname:/g)?.length,
    ).toBe(looks.length);
  });

  it.each(alerts)("%s has a test in which it fires and one in which it does not", (alert) => {
    const own = looks.filter((look) => look.alert === alert).map(({ fires }) => fires);
    expect(new Set(own)).toEqual(new Set([true, false]));
  });

  it.each(alerts)("%s has a section in docs/operations.md, and links to it", (alert) => {
    const anchor = alert.toLowerCase();
    const [, section] = rules.split(`- alert: ${alert}\n`);
    const [own] = section!.split("- alert: ");
    expect(own).toContain(`runbook_url: docs/operations.md#${anchor}\n`);
    expect(own).toMatch(/^ +severity: (critical|warning)$/m);
    expect(own).toMatch(/^ +summary: \S/m);
    expect(readText("docs/operations.md")).toContain(`\n### ${alert}\n\n`);
  });

  it("have no section in docs/operations.md that no alert links to", () => {
    const sections = [...readText("docs/operations.md").matchAll(/^### (Minikv\w+)$/gm)];
    expect(sections.map(([, name]) => name).filter((name) => !alerts.includes(name!))).toEqual([]);
  });

  it("looksOf() tells an alert that fires from one that does not", () => {
    const at = "      - eval_time: 4m\n        alertname: A\n        exp_alerts:";
    expect(looksOf(`${at} []\n${at}\n          - exp_labels: {}\n`)).toEqual([
      { alert: "A", fires: false },
      { alert: "A", fires: true },
    ]);
  });
});

describe.skipIf(!PROMTOOL)(`promtool${skippedWithout("promtool")}`, () => {
  it("finds nothing wrong with the rules", () => {
    const { status, text } = promtool("check", "rules", ...ruleFiles);
    expect(text).not.toContain("FAILED");
    expect(status, text).toBe(0);
  });

  it("finds nothing wrong with the example configuration", () => {
    const { status, text } = promtool("check", "config", `${FOLDER}/prometheus.yml`);
    expect(status, text).toBe(0);
  });

  it("sees every alert fire when it should, and not otherwise", { timeout: 120_000 }, () => {
    const { status, text } = promtool("test", "rules", ...testFiles);
    expect(status, text).toBe(0);
  });
});
