/** What the check of queries on a live cluster reads from a query. */
import { describe, expect, it } from "vitest";
import { dashboardQueries, metricNames } from "#test/e2e/dashboard-queries.ts";

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
