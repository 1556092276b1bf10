/** Generated code is committed, so it can fall behind the contract it is made from. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "./source.ts";

const BIN = join(ROOT, "node_modules", ".bin");

function buf(...options: readonly string[]) {
  return spawnSync(join(BIN, "buf"), options, {
    cwd: join(ROOT, "proto"),
    encoding: "utf8",
    env: { ...process.env, PATH: `${BIN}${delimiter}${process.env.PATH ?? ""}` },
  });
}

/** Files below `folder`: path → contents. */
function contents(folder: string): ReadonlyMap<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    files.sort().map((path) => [path.slice(folder.length), readFileSync(path, "utf8")]),
  );
}

describe("proto/", () => {
  it("keeps to buf's standard rules", () => {
    expect(buf("lint").stdout).toBe("");
  });

  it("gen/ is what npm run proto makes of the .proto files", () => {
    const folder = mkdtempSync(join(tmpdir(), "minikv-proto-"));
    try {
      const { status, stderr } = buf("generate", "--output", folder);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      expect(contents(join(folder, "gen"))).toEqual(contents(join(ROOT, "proto", "gen")));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
