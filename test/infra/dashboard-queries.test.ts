/**
 * Queries of dashboards and rules against the tables of metrics, without a Prometheus; and what the check on a
 * live cluster (test/e2e/dashboards.test.ts) reads from a query.
 */
import { describe, expect, it } from "vitest";
import { dashboardQueries, metricNames } from "#test/e2e/dashboard-queries.ts";
import { readText } from "#test/house/source.ts";
import { CATALOGUE } from "./catalogue.ts";

/** Those that Prometheus gives to every series. */
const OF_TARGETS = ["cluster", "instance", "job", "le"];
const OF_PROMETHEUS = ["up", "ALERTS"];

const known = (metric: string) => CATALOGUE.get(metric.replace(/_bucket$/, ""));
const isOurs = (metric: string): boolean =>
  !OF_PROMETHEUS.includes(metric) && !metric.startsWith("minikv:");

describe("metricNames()", () => {
  it.each([
    ["up == 0", ["up"]],
    ['sum by (cluster, le) (rate(a_total{status=~"5.."}[5m])) / b > 0.5', ["a_total", "b"]],
    ['histogram_quantile(0.99, sum by (le) (rate(a_bucket{x="sum(c)"}[5s])))', ["a_bucket"]],
    ["job:a:ratio_rate5m > 14.4 * 0.001 and b unless c", ["job:a:ratio_rate5m", "b", "c"]],
    ["max without (instance) (a) or vector(0)", ["a"]],
    ["a_seconds - time() < 14 * 86400", ["a_seconds"]],
  ])("of %s", (expr, names) => {
    expect(metricNames(expr)).toEqual(names);
  });

  it("finds some in every query of every dashboard, and no variable is left in it", () => {
    for (const { name, expr } of dashboardQueries()) {
      expect(metricNames(expr), name).not.toEqual([]);
      expect(expr, name).not.toContain("$");
    }
  });
});

describe("queries of dashboards", () => {
  it.each(dashboardQueries())("$name: metrics and labels are there", ({ expr, legend }) => {
    const ours = metricNames(expr).filter(isOurs);
    expect(ours.filter((metric) => known(metric) === undefined)).toEqual([]);
    const labels = new Set([...OF_TARGETS, ...ours.flatMap((metric) => known(metric)!.labels)]);
    const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].map(([, list]) => list!.split(/, */));
    const matched = [...expr.matchAll(/(\w+)(?==~|!=|!~|=")/g)].map(([, label]) => label!);
    const shown = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
    const others = ["alertname", "alertstate"];
    const used = [...grouped.flat(), ...matched, ...shown];
    expect(used.filter((label) => !labels.has(label) && !others.includes(label))).toEqual([]);
    // What was summed up over is gone.
    for (const list of grouped) expect(list).toEqual(expect.arrayContaining(shown));
  });
});

describe("rules", () => {
  it("name no metric that there is not", () => {
    const files = ["minikv-alerts.yml", "minikv-recording.yml"];
    const text = files.map((file) => readText(`infra/prometheus/rules/${file}`)).join("\n");
    const names = new Set(
      [...text.matchAll(/\b(?:minikv|process|nodejs)_\w+/g)].map(([name]) => name),
    );
    expect(names.size).toBeGreaterThan(20);
    expect([...names].filter((name) => known(name) === undefined)).toEqual([]);
  });
});
