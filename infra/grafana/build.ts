/**
 * Writes the dashboards: `node infra/grafana/build.ts`. A test fails while a file differs from what the
 * source gives.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DASHBOARDS } from "./source/dashboards.ts";
import { fileText } from "./source/json.ts";

for (const dashboard of DASHBOARDS) {
  const path = join(import.meta.dirname, "dashboards", `${dashboard.name}.json`);
  writeFileSync(path, fileText(dashboard));
}
