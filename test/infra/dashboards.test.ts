/**
 * The dashboards in infra/grafana: what is committed is what the source gives, and Grafana can show it.
 * That every query finds figures is tested on a live cluster (test/e2e/dashboards.test.ts).
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DASHBOARDS } from "#infra/grafana/source/dashboards.ts";
import { dashboardJson, fileText } from "#infra/grafana/source/json.ts";
import type { Dashboard, Panel } from "#infra/grafana/source/panel.ts";
import { ROOT, readText } from "#test/house/source.ts";

const FOLDER = "infra/grafana/dashboards";
const panelsOf = ({ rows }: Dashboard): readonly Panel[] => rows.flatMap(({ panels }) => panels);

describe("dashboards", () => {
  it("are those of the source and no others", () => {
    const names = DASHBOARDS.map(({ name }) => `${name}.json`).sort();
    expect(readdirSync(join(ROOT, FOLDER)).sort()).toEqual(names);
  });

  it.each(DASHBOARDS.map((dashboard) => [dashboard.name, dashboard] as const))(
    "%s is committed as the source gives it: else run node infra/grafana/build.ts",
    (name, dashboard) => {
      expect(readText(`${FOLDER}/${name}.json`)).toBe(fileText(dashboard));
    },
  );

  it.each(DASHBOARDS)("$name has panels with titles, legends and known variables", (dashboard) => {
    const panels = panelsOf(dashboard);
    const known = new Set(["__rate_interval", ...dashboard.variables]);
    for (const { kind, title, queries } of panels) {
      expect(title).not.toBe("");
      expect(queries.length, title).toBeGreaterThan(0);
      for (const { expr, legend } of queries) {
        if (kind !== "table") expect(legend, title).not.toBe("");
        const used = [...expr.matchAll(/\$(\w+)/g)].map(([, variable]) => variable!);
        expect(
          used.filter((variable) => !known.has(variable)),
          title,
        ).toEqual([]);
      }
    }
    const text = JSON.stringify(panels);
    expect(dashboard.variables.filter((one) => !text.includes(`$${one}`))).toEqual([]);
  });

  it.each(DASHBOARDS)("$name has panels that do not overlap, each with an id of its own", (one) => {
    type Placed = {
      readonly id: number;
      readonly gridPos: Readonly<Record<"x" | "y" | "w" | "h", number>>;
    };
    const placed = dashboardJson(one).panels as readonly Placed[];
    expect(new Set(placed.map(({ id }) => id)).size).toBe(placed.length);
    const cells = placed.flatMap(({ gridPos: { x, y, w, h } }) => {
      expect(x + w).toBeLessThanOrEqual(24);
      return Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`);
    });
    expect(new Set(cells).size).toBe(cells.length);
  });
});
