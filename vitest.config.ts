/**
 * Test projects: `unit` (beside the source, house rules, conformance, bench), `sim` (seeded simulation),
 * `e2e` (real processes on 127.0.0.1, three files at a time: mostly they wait),
 * and `torture` (a cluster under faults for some minutes, alone on the machine).
 */
import { join } from "node:path";
import { defineConfig } from "vitest/config";

/**
 * In CI a test that fails is run once more, and shown as retried: the machine there is shared, and a pause of
 * seconds at the wrong moment is no fault of ours. A retried test is still to be looked at.
 */
const retry = process.env.CI ? 1 : 0;

/** How many times the usual number of cases property tests try (docs/fuzzing.md). */
const times = Number(process.env.MINIKV_PROPERTY_TIMES ?? 1);
if (!(times >= 1)) throw new RangeError("MINIKV_PROPERTY_TIMES wants a number from 1 on");
const alias: Record<string, string> =
  times > 1 ? { "fast-check": join(import.meta.dirname, "test/property/fast-check.ts") } : {};

const TORTURE = "test/e2e/torture.test.ts";
/** Against hanging, not a measure. Of itself a poll gives up after a second, which a busy machine takes for anything. */
const expectation = { poll: { timeout: 20_000 } } as const;
const common = { environment: "node", pool: "forks", retry, expect: expectation } as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: "unit",
          alias,
          include: [
            "{shared,proto,gateway,storage-node,bin}/**/*.test.ts",
            "test/{house,infra,conformance,bench,linearizability,torture,fuzz}/**/*.test.ts",
          ],
          maxWorkers: 2,
          // Modules are loaded and compiled once for each worker and not for each of 300 files, which halves the time.
          isolate: false,
          testTimeout: 60_000 * times,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          ...common,
          name: "sim",
          include: ["test/sim/**/*.test.ts"],
          maxWorkers: 2,
          testTimeout: 300_000,
        },
      },
      {
        test: {
          ...common,
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          exclude: [TORTURE],
          maxWorkers: 3,
          // Against hanging, not a measure: longer than the bounds of single steps, whose errors say more.
          testTimeout: 240_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: { ...common, name: "torture", include: [TORTURE], sequence: { groupOrder: 2 } },
      },
    ],
  },
});
