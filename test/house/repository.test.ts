/**
 * The repository as a whole: what lies at its top, that it installs anywhere from its lockfile,
 * that it names no machine, and that its documents point at things that exist.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT, readText, repositoryFiles } from "./source.ts";

const TOP_LEVEL = new Set([
  ...[".ci", "bin", "docs", "gateway", "infra", "proto", "shared", "storage-node", "test"],
  ...[".editorconfig", ".gitattributes", ".gitignore", ".install.lock", ".npmrc"],
  ...["CHANGELOG.md", "LICENSE", "README.md"],
  ...["biome.json", "package-lock.json", "package.json", "tsconfig.json", "vitest.config.ts"],
]);

const BINARY = /\.(png|ico|jpg|gif|woff2|bin)$/;

const files = repositoryFiles();
const documents = files.filter((path) => path.endsWith(".md"));

describe("the repository", () => {
  it("has at its top only what the layout names", () => {
    const tops = new Set(files.map((path) => path.split("/")[0]!));
    expect([...tops].filter((name) => !TOP_LEVEL.has(name))).toEqual([]);
  });

  it("names no home directory and no package registry", () => {
    // Written in pieces, so that this file does not find itself.
    const homes = ["home", "Users", "root", "work"].map((name) => `(?<![\\w.}])/${name}/[\\w-]`);
    const hosts = ["registry\\.", "artifactory", "\\bverdaccio"].map(
      (name) => `${name}[\\w./-]*\\w`,
    );
    const forbidden = new RegExp([...homes, `https?://[^\\s"]*(${hosts.join("|")})`].join("|"));
    const found = files
      .filter((path) => !BINARY.test(path))
      .flatMap((path) => {
        const lines = readText(path).split("\n");
        return lines.flatMap((line, index) =>
          forbidden.test(line) ? [`${path}:${index + 1}`] : [],
        );
      });
    expect(found).toEqual([]);
  });
});

describe("vitest.config.ts", () => {
  it("runs every test file of the repository", () => {
    const globs = [...readText("vitest.config.ts").matchAll(/"([^"\n]+\.test\.ts)"/g)];
    expect(globs.length).toBeGreaterThan(0);
    const tests = files.filter((path) => path.endsWith(".test.ts"));
    const left = tests.filter((path) => !globs.some(([, glob]) => posix.matchesGlob(path, glob!)));
    expect(left).toEqual([]);
  });
});

describe("package.json", () => {
  type Manifest = Readonly<Record<string, Readonly<Record<string, string>>>>;
  const manifest = JSON.parse(readText("package.json")) as Manifest;

  it("pins every dependency to an exact version", () => {
    for (const group of ["dependencies", "devDependencies", "optionalDependencies"]) {
      for (const [name, version] of Object.entries(manifest[group] ?? {})) {
        expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
      }
    }
  });

  it("agrees with the lockfile: npm ci would install it", { timeout: 300_000 }, () => {
    const options = ["ci", "--dry-run", "--offline", "--ignore-scripts", "--no-audit", "--no-fund"];
    const result = spawnSync("npm", options, { cwd: ROOT, encoding: "utf8" });
    expect(result.stderr).not.toContain("npm error");
    expect(result.status).toBe(0);
  });
});

describe("documents", () => {
  it("have links that lead somewhere", () => {
    const broken = documents.flatMap((path) =>
      linksOf(readText(path)).flatMap((target) =>
        leadsSomewhere(path, target) ? [] : [`${path}: ${target}`],
      ),
    );
    expect(broken).toEqual([]);
  });

  it("name files that exist", () => {
    const missing = documents
      // A decision record tells of its day; files may have moved since.
      .filter((path) => !path.startsWith("docs/decisions/"))
      .flatMap((path) => namedFiles(readText(path)).map((name) => ({ path, name })))
      .filter(({ path, name }) => !exists(name) && !exists(posix.join(posix.dirname(path), name)));
    expect(missing).toEqual([]);
  });

  it("leadsSomewhere() refuses a missing file and a missing heading", () => {
    expect(leadsSomewhere("README.md", "docs/nowhere.md")).toBe(false);
    expect(leadsSomewhere("README.md", "#no-such-heading")).toBe(false);
    expect(leadsSomewhere("README.md", "LICENSE")).toBe(true);
  });
});

describe("README.md", () => {
  it("claims nothing without a test that proves it", () => {
    const rows = tableRows(readText("README.md"), "## What holds, and what proves it");
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) {
      const tests = namedFiles(row).filter((path) => path.endsWith(".test.ts"));
      expect(tests, row).not.toEqual([]);
      for (const path of tests) expect(exists(path), path).toBe(true);
    }
  });
});

const exists = (path: string): boolean => existsSync(join(ROOT, path));

/** Markdown without its code blocks, in which brackets mean something else. */
const prose = (markdown: string): string => markdown.replaceAll(/^```[\s\S]*?^```/gm, "");

function linksOf(markdown: string): readonly string[] {
  const text = prose(markdown).replaceAll(/`[^`\n]*`/g, "");
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1]!);
}

/** Paths with a folder and an ending, in backticks: `shared/ids.ts`. */
function namedFiles(markdown: string): readonly string[] {
  const names = prose(markdown).matchAll(
    /`([\w.-]+(?:\/[\w.-]+)+\.(?:ts|mjs|md|json|proto|txt))`/g,
  );
  return [...names].map((match) => match[1]!);
}

function leadsSomewhere(from: string, target: string): boolean {
  if (/^(https?|mailto):/.test(target)) return true;
  const [file, anchor] = target.split("#", 2);
  const path = file === "" ? from : posix.join(posix.dirname(from), file!);
  if (!exists(path)) return false;
  return anchor === undefined || headingAnchors(readText(path)).has(anchor);
}

/** Anchors as code hosts make them: lower case, spaces to dashes, other marks dropped. */
function headingAnchors(markdown: string): ReadonlySet<string> {
  const headings = prose(markdown).matchAll(/^#+ (.*)$/gm);
  const slug = (text: string) =>
    text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-");
  return new Set([...headings].map((match) => slug(match[1]!)));
}

/** Body rows of the first table below `heading`. */
function tableRows(markdown: string, heading: string): readonly string[] {
  const start = markdown.indexOf(`${heading}\n`);
  if (start < 0) return [];
  const lines = markdown.slice(start).split("\n");
  const first = lines.findIndex((line) => line.startsWith("|"));
  const table = lines.slice(first);
  const end = table.findIndex((line) => !line.startsWith("|"));
  return table.slice(2, end < 0 ? undefined : end);
}
