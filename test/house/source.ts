/**
 * The repository's own source, read for the tests that guard the house rules: files, imports and
 * syntax trees. Generated code is left out everywhere: nobody writes or reviews it by hand.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAst } from "vitest/node";

export const ROOT = join(import.meta.dirname, "..", "..");

/** Not part of the source: installed, written at run time, or private to a person's tools. */
const IGNORED = new Set([
  ".git",
  "node_modules",
  "data",
  "data-cluster",
  "coverage",
  ".idea",
  ".vscode",
]);
const GENERATED = "proto/gen/";

/** A node of the syntax tree (ESTree with TypeScript's additions). */
export type SyntaxNode = {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [property: string]: unknown;
};

export type SourceFile = {
  /** From the root, with slashes: `shared/ids.ts`. */
  readonly path: string;
  readonly text: string;
  readonly tree: SyntaxNode;
};

/** Paths of all files that belong to the repository, sorted. */
export function repositoryFiles(): readonly string[] {
  const paths: string[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (IGNORED.has(entry.name) || path === "test/bench/results") continue;
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile()) paths.push(path);
    }
  };
  walk("");
  return paths.sort();
}

export const readText = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** All TypeScript that people write and that `isWanted`, parsed. */
export function sourceFiles(
  isWanted: (path: string) => boolean = () => true,
): readonly SourceFile[] {
  return repositoryFiles()
    .filter((path) => path.endsWith(".ts") && !path.startsWith(GENERATED) && isWanted(path))
    .map((path) => parsed(path, readText(path)));
}

export function parsed(path: string, text: string): SourceFile {
  // `Program` has no index signature, but every node is a plain object.
  const tree = parseAst(text, { lang: "ts" }, path) as unknown as SyntaxNode;
  return { path, text, tree };
}

/** Whether a file is a test or a helper of tests: it may use what the program may not. */
export function isTest(path: string): boolean {
  return /^test\/|\/testing\/|[/.](test|testing)\.ts$/.test(path);
}

/** `node` and everything below it, in source order. */
export function* descendants(node: SyntaxNode): Generator<SyntaxNode> {
  yield node;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (isNode(child)) yield* descendants(child);
    }
  }
}

export function isNode(value: unknown): value is SyntaxNode {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

/** Everything a file names in `import … from`, `export … from` and `import("…")`. */
export function importsOf(file: SourceFile): readonly string[] {
  const specifiers: string[] = [];
  for (const node of descendants(file.tree)) {
    if (
      !/^(Import(Declaration|Expression)|Export(Named|All)Declaration|TSImportType)$/.test(
        node.type,
      )
    )
      continue;
    const literal = node.source ?? node.argument;
    if (isNode(literal) && typeof literal.value === "string") specifiers.push(literal.value);
  }
  return specifiers;
}

/** Line of an offset, from 1. */
export function lineAt(file: SourceFile, offset: number): number {
  return file.text.slice(0, offset).split("\n").length;
}
