/**
 * fast-check with more cases: what vitest.config.ts gives to tests in its place where `MINIKV_PROPERTY_TIMES` is set.
 * Each `assert` tries so many times the cases that it asks for, or that are usual.
 */
import { createRequire } from "node:module";
import type fc from "fast-check";

// Not by an import: under its name that would be this module again.
const load = createRequire(import.meta.url);
const usual = load("fast-check") as typeof fc;

const TIMES = Number(process.env.MINIKV_PROPERTY_TIMES);
const CASES_USUAL = 100;

const assertMore = (
  property: fc.IRawProperty<unknown>,
  parameters: fc.Parameters<unknown> = {},
): Promise<void> | void => {
  const numRuns = (parameters.numRuns ?? CASES_USUAL) * TIMES;
  return usual.assert(property, { ...parameters, numRuns });
};

// biome-ignore lint/style/noDefaultExport: it is imported as fast-check is
export default { ...usual, assert: assertMore };
