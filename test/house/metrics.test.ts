/** `docs/metrics.md` and the tables of metrics in the code say the same, in both directions. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { GATEWAY_METRICS } from "#gateway/metrics/catalogue.ts";
import type { MetricDescription } from "#shared/runtime/metrics.ts";
import {
  CLIENT_METRICS_OF_PROCESS,
  CLIENT_METRICS_OF_THREAD,
  PROCESS_METRICS,
} from "#shared/runtime/process-metrics.ts";
import { NODE_BUS_METRICS } from "#storage-node/metrics/bus-metrics.ts";
import { NODE_METRICS } from "#storage-node/metrics/catalogue.ts";

const CATALOGUE: readonly MetricDescription[] = [
  ...Object.values(GATEWAY_METRICS),
  ...Object.values(NODE_METRICS),
  ...Object.values(NODE_BUS_METRICS),
  ...Object.values(PROCESS_METRICS),
];

/** Prometheus' rules for names: base units, and counters end in `_total`. */
const unitOf = (name: string): string => {
  if (name.includes("_seconds")) return "seconds";
  return name.includes("_bytes") ? "bytes" : "1";
};

const rowOf = ({ name, type, labels, help, optional }: MetricDescription): string => {
  const names = labels.map((label) => `\`${label}\``).join(", ");
  const meaning = optional ? `${help} *Not always there.*` : help;
  return `| \`${name}\` | ${type} | ${names} | ${unitOf(name)} | ${meaning} |`;
};

const text = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");
const rows = text.split("\n").filter((line) => line.startsWith("| `"));

it("docs/metrics.md has a row for each metric of minikv, and no other", () => {
  const ours = rows.filter((row) => row.startsWith("| `minikv_"));
  expect(ours.toSorted()).toEqual(CATALOGUE.map(rowOf).toSorted());
});

it("docs/metrics.md names those that prom-client makes", () => {
  const theirs = rows.filter((row) => !row.startsWith("| `minikv_"));
  const names = theirs.map((row) => /^\| `(\w+)`/.exec(row)![1]!);
  const told = [...CLIENT_METRICS_OF_PROCESS, ...CLIENT_METRICS_OF_THREAD];
  expect(names.toSorted()).toEqual(told.toSorted());
});

it("names follow the rules of Prometheus, and none stands twice", () => {
  const names = CATALOGUE.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, type, help } of CATALOGUE) {
    expect(name).toMatch(/^minikv_[a-z0-9_]+$/);
    expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"]);
    expect(help).toMatch(/^[A-Z1].*\.$/);
  }
});
