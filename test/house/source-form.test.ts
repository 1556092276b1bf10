/**
 * The form of every module: a header that says what it is for, sizes that a reader can hold, named
 * exports only, and no clock, randomness or waiting where replicas have to stay identical.
 */

import { describe, expect, it } from "vitest";
import { parseAst } from "vitest/node";
import {
  descendants,
  isNode,
  isTest,
  lineAt,
  type SourceFile,
  type SyntaxNode,
  sourceFiles,
} from "./source.ts";

const LINES_PER_FILE_MAX = 450;
const LINES_PER_FUNCTION_MAX = 70;

/** Longer functions that are accepted, `path name` → lines. It may only get shorter. */
const LONGER_FUNCTIONS: ReadonlyMap<string, number> = new Map();

/** Folders whose code is a function of its inputs. */
const PURE_FOLDERS = [
  "storage-node/raft/",
  "storage-node/machine/",
  "storage-node/meta/placement/",
  "storage-node/meta/planner.ts",
  "storage-node/meta/reconcile.ts",
];
const IMPURE_NAMES = new Set([
  "Date",
  "Intl",
  "console",
  "crypto",
  "fetch",
  "globalThis",
  "performance",
  "process",
  "queueMicrotask",
  "setImmediate",
  "setInterval",
  "setTimeout",
]);

const files = sourceFiles();

describe("every module", () => {
  it("starts with a header comment", () => {
    // A unit test is explained by the module of the same name.
    const own = files.filter(({ path }) => !/\.test\.ts$/.test(path) || path.startsWith("test/"));
    const without = own.filter(({ text }) => !/^(#!.*\n)?\/\*\*\s*\S/.test(text));
    expect(without.map(({ path }) => path)).toEqual([]);
  });

  it(`has at most ${LINES_PER_FILE_MAX} lines`, () => {
    const long = files.filter(({ text }) => text.split("\n").length - 1 > LINES_PER_FILE_MAX);
    expect(long.map(({ path, text }) => `${path}: ${text.split("\n").length - 1}`)).toEqual([]);
  });

  it("has no default export, except where a tool asks for one", () => {
    const found = files.filter(
      ({ path, tree }) =>
        path !== "vitest.config.ts" &&
        // In the place of a package that has one.
        path !== "test/property/fast-check.ts" &&
        // A declaration says what a package exports.
        !path.endsWith(".d.ts") &&
        [...descendants(tree)].some(({ type }) => type === "ExportDefaultDeclaration"),
    );
    expect(found.map(({ path }) => path)).toEqual([]);
  });
});

describe("functions", () => {
  it(`have at most ${LINES_PER_FUNCTION_MAX} lines`, () => {
    const long = files
      .filter(({ path }) => !isTest(path))
      .flatMap((file) => functionLengths(file).map((found) => ({ ...found, path: file.path })))
      .filter(({ path, name, lines }) => {
        return lines > (LONGER_FUNCTIONS.get(`${path} ${name}`) ?? LINES_PER_FUNCTION_MAX);
      });
    expect(long.map(({ path, name, lines }) => `${path} ${name}: ${lines}`)).toEqual([]);
  });

  it("functionLengths() measures functions, methods and arrows", () => {
    const text = "function a() {\n\n}\nclass C {\n  m() {\n  }\n}\nconst f = () => {\n\n\n};\n";
    expect(functionLengths(parse(text))).toEqual([
      { name: "a", lines: 3 },
      { name: "m", lines: 2 },
      { name: "f", lines: 4 },
    ]);
  });
});

describe("raft, the state machine and the planner", () => {
  it("never wait, read a clock, or draw random numbers", () => {
    const pure = files.filter(
      ({ path }) => !isTest(path) && PURE_FOLDERS.some((folder) => path.startsWith(folder)),
    );
    expect(pure.length).toBeGreaterThan(0);
    expect(pure.flatMap(impurities)).toEqual([]);
  });

  it.each([
    ["await something();", "AwaitExpression"],
    ["async function f() {}", "async"],
    ["const now = Date.now();", "Date"],
    ["const now = new Date();", "Date"],
    ["Math.random();", "Math.random"],
    ['Math["random"]();', "Math.random"],
    ["setTimeout(() => {}, 1);", "setTimeout"],
    ["if (process.argv) f();", "process"],
    ["a.localeCompare(b);", "localeCompare"],
  ])("impurities() finds %s", (text, name) => {
    expect(impurities(parse(text)).join()).toContain(name);
  });

  it("impurities() leaves alone names that only look like a global", () => {
    const text = "const o = { process: 1 }; f(o.process); type T = { Date: number };";
    expect(impurities(parse(text))).toEqual([]);
  });
});

function parse(text: string): SourceFile {
  return { path: "x.ts", text, tree: parseAst(text, { lang: "ts" }) as unknown as SyntaxNode };
}

/** Every function with a body: its name as well as it is known, and its lines. */
function functionLengths(file: SourceFile): { name: string; lines: number }[] {
  const lengths: { name: string; lines: number }[] = [];
  const visit = (node: SyntaxNode, name: string): void => {
    const own = nameOf(node) ?? name;
    if (/^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type)) {
      const lines = lineAt(file, node.end) - lineAt(file, node.start) + 1;
      lengths.push({ name: own, lines });
    }
    for (const value of Object.values(node)) {
      for (const child of Array.isArray(value) ? value : [value]) {
        if (isNode(child)) visit(child, own);
      }
    }
  };
  visit(file.tree, "");
  return lengths;
}

function nameOf(node: SyntaxNode): string | undefined {
  const named = node.id ?? (/^(MethodDefinition|Property)/.test(node.type) ? node.key : undefined);
  return isNode(named) && typeof named.name === "string" ? named.name : undefined;
}

/** What makes a module's result depend on more than its inputs, as `path:line name`. */
function impurities(file: SourceFile): string[] {
  const found: string[] = [];
  const report = (node: SyntaxNode, name: string) =>
    found.push(`${file.path}:${lineAt(file, node.start)} ${name}`);
  const visit = (node: SyntaxNode): void => {
    if (node.type === "AwaitExpression") report(node, node.type);
    if (node.async === true) report(node, "async");
    if (node.await === true) report(node, "for await");
    if (node.type === "MemberExpression") {
      const text = file.text
        .slice(node.start, node.end)
        .replaceAll(/["'[\]\s]/g, (c) => (c === "[" ? "." : ""));
      if (text === "Math.random" || text.endsWith(".localeCompare")) report(node, text);
    }
    if (node.type === "Identifier" && IMPURE_NAMES.has(String(node.name))) {
      report(node, String(node.name));
    }
    for (const [property, value] of Object.entries(node)) {
      // `a.process` and `{ process: 1 }` name a property, not the global.
      if ((property === "property" || property === "key") && node.computed === false) continue;
      for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) visit(child);
    }
  };
  visit(file.tree);
  return found;
}
